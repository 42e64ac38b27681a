# `network.WLAN` as the ESP32 has it, as far as a station needs it. What the radio does is host_tools/sim/wifi.py.
import struct
import time

import _link
from _link import call as _call
from micropython import const

_SCAN_MS = const(2400)


class WLAN:
    IF_STA = const(0)
    IF_AP = const(1)
    SEC_OPEN = const(0)
    SEC_WPA2 = const(3)
    PM_NONE = const(0)
    PM_PERFORMANCE = const(1)
    PM_POWERSAVE = const(2)

    def __init__(self, interface=0):
        if interface != 0:
            raise ValueError("invalid WLAN interface identifier")  # no access point of its own

    # status, address, radio on, associations, dBm, tries
    def _state(self):
        return struct.unpack(">HBBIbb", _call(b"N?"))

    def active(self, on=None):
        if on is not None:
            _call(b"N!", bytes((bool(on),)))
        return bool(self._state()[2])

    def connect(self, ssid=None, key=None, *, bssid=None):
        if ssid is None:
            _wifi(b"Nc", b"")
        else:
            _wifi(b"Nc", b"%s\0%s" % (_bytes(ssid), _bytes(key or "")))

    def disconnect(self):
        _wifi(b"Nd")

    def isconnected(self):
        return bool(self._state()[1])

    def status(self, param=None):
        state = self._state()
        if param is None:
            return state[0]
        if param != "rssi":
            raise ValueError("unknown status param")
        if not state[1]:
            raise OSError("Wifi Not Connected")
        return state[4]

    def scan(self):
        found = _wifi(b"Ns", b"", 256)
        time.sleep_ms(_SCAN_MS)
        if not found:
            return []
        channel, rssi, security, bssid = struct.unpack(">BbB6s", found)
        return [(found[9:], bssid, channel, rssi, security, False)]

    def config(self, name=None, **settings):
        if settings:
            for key, value in settings.items():
                if key == "reconnects":
                    _call(b"Nr", struct.pack(">b", value))
                elif key not in ("pm", "txpower", "hostname", "dhcp_hostname", "protocol"):
                    raise ValueError("unknown config param")
            return
        if name == "mac":
            return _link.mac
        if name in ("ssid", "essid"):
            return str(_call(b"Ni"), "utf-8")
        if name == "reconnects":
            return self._state()[5]
        raise ValueError("unknown config param")

    def ifconfig(self, address=None):
        if self.isconnected():
            return ("192.168.4.2", "255.255.255.0", "192.168.4.1", "192.168.4.1")
        return ("0.0.0.0", "0.0.0.0", "0.0.0.0", "0.0.0.0")


def _bytes(text):
    return text.encode() if isinstance(text, str) else text


def _wifi(letters, data=b"", size=64):
    try:
        return _call(letters, data, size)
    except OSError as error:
        # the driver's errors have a text and no number
        raise OSError(error.args[1]) if len(error.args) > 1 else error
