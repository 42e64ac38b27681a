# `network.PPP` as the ESP32 has it: up to MicroPython 1.25 with `active` and its own names (ports/esp32/network_ppp.c),
# from 1.26 on that of extmod/network_ppp_lwip.c. PPP itself is host_tools/sim/chip_ip.py, since it is C on the chip.
import struct
import sys
import time

from _link import call as _call
from micropython import const

_NEW = sys.implementation[1] >= (1, 26)
_EPERM = const(1)
_EALREADY = const(114)
_ACTIVE = const(1)
_CLOSE_MS = const(4000)


def _dotted(four):
    return ".".join(str(byte) for byte in four)


class PPP:
    def __init__(self, stream):
        if not hasattr(stream, "ioctl"):
            raise OSError("stream operation not supported")
        self._stream = stream
        self._active = False

    # state, error, address, peer, name server
    def _state(self):
        return struct.unpack(">BB4s4s4s", _call(b"K?"))

    def _connect(self, security, user, key):
        if not 0 <= security <= 2:
            raise ValueError("invalid auth")
        if not security:
            user = key = ""
        _call(b"Kc", b"%c%s\0%s" % (security, user.encode(), key.encode()))

    def isconnected(self):
        return self._state()[0] == 4

    def ifconfig(self, config=None):
        _, _, address, peer, dns = self._state()
        return (_dotted(address), "255.255.255.255" if any(address) else "0.0.0.0", _dotted(peer), _dotted(dns))

    def ipconfig(self, name):
        address, mask, peer, _ = self.ifconfig()
        if name == "addr4":
            return (address, mask)
        if name == "gw4":
            return peer
        raise ValueError("unknown config param")

    if _NEW:
        SEC_NONE = const(0)
        SEC_PAP = const(1)
        SEC_CHAP = const(2)

        def connect(self, *, security=0, user=None, key=None):
            self._connect(security, user, key)

        def disconnect(self):
            _call(b"Kd")

        def status(self):
            state, error = self._state()[:2]
            return -error if state == 2 else state

        def poll(self, irq=None):
            return 0 if self._state()[0] > 2 else -_EPERM

        def config(self, name=None, **settings):
            if settings:
                self._stream = settings.get("stream", self._stream)
            elif name != "stream":
                raise ValueError("unknown config param")
            else:
                return self._stream

    else:
        AUTH_NONE = const(0)
        AUTH_PAP = const(1)
        AUTH_CHAP = const(2)

        def active(self, on=None):
            if on:
                self._active = True
            elif on is not None and self._active:
                _call(b"Kd")
                begin = time.ticks_ms()
                while self._state()[0] > 2 and time.ticks_diff(time.ticks_ms(), begin) < _CLOSE_MS:
                    time.sleep_ms(10)
                _call(b"Kx")
                self._active = False
            return self._active

        def connect(self, *, authmode=0, username=None, password=None):
            if not self._active:
                raise OSError("must be active")
            if self._state()[0]:
                raise OSError(_EALREADY)
            self._connect(authmode, username, password)

        def status(self):
            pass
