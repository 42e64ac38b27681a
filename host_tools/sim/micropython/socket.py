# `socket` as the ESP32 has it, while the board has an address; without one nothing can be reached. The sockets beneath
# are the host's own, so 127.0.0.1 is the host. No servers: bind, listen and accept are not there.
#
# While PPP is the way, the socket beneath is one end of a loopback connection to host_tools/sim/chip_ip.py, which does
# TCP over PPP; it is asked how connecting goes on, and a datagram begins with its address there.
#
# A socket belongs to the Wi-Fi association or PPP session in which it connected. When that ends, it is broken:
# ECONNABORTED, which is what lwIP says when the address goes. `settimeout` is in virtual time like everything on the
# board, and a quarter of a real second is added: the host's scheduler is no part of the network. Addresses are
# (host, port), as on the chip.
import io
import struct

import _link
import usocket as _native
from _link import call as _call
from micropython import const
from uselect import POLLIN, POLLOUT
from uselect import poll as _poll
from usocket import AF_INET, SO_REUSEADDR, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET  # noqa: F401
from utime import sleep_us as _sleep_us

IPPROTO_TCP = const(6)
IPPROTO_UDP = const(17)
IPPROTO_IP = const(0)

_EAGAIN = const(11)
_EINPROGRESS = const(115)
_PPP = const(1073741824)
_PIECE = 128
_ECONNABORTED = const(103)
_ETIMEDOUT = const(110)
_EHOSTUNREACH = const(113)
_EINVAL = const(22)
_EAI_FAIL = const(-202)  # lwIP's netdb.h
_SLACK_MS = const(250)
_STEP_MS = const(100)  # how often a waiting socket looks whether it is still alive
_BROKEN = const(24)  # POLLERR, POLLHUP


# The association or PPP session that holds, or 0.
def _way():
    return struct.unpack(">I", _call(b"@"))[0]


def getaddrinfo(host, port, af=0, type=0, proto=0, flags=0):
    try:
        _native.inet_pton(AF_INET, host)
        numeric = True
    except OSError:
        numeric = False
    if not numeric:
        way = _way()
        if not way:
            raise OSError(_EAI_FAIL)
        if way & _PPP:
            host = _look_up(host)
    for found in _native.getaddrinfo(host, port):
        if found[0] == AF_INET:
            _, address, port = _native.sockaddr(found[4])
            return [(AF_INET, type or SOCK_STREAM, proto, "", (_native.inet_ntop(AF_INET, address), port))]
    raise OSError(_EAI_FAIL)


def _look_up(name):
    try:
        while True:
            found = _call(b"Kh", name.encode())
            if found:
                return _native.inet_ntop(AF_INET, found)
            _sleep_us(2000)
    except OSError:
        raise OSError(_EAI_FAIL)


def _loopback(port):
    return _native.getaddrinfo("127.0.0.1", port)[0][4]


def _sockaddr(address):
    return _native.getaddrinfo(getaddrinfo(address[0], address[1])[0][4][0], address[1])[0][4]


class socket(io.IOBase):
    def __init__(self, af=AF_INET, type=SOCK_STREAM, proto=0, fileno=None):
        self._socket = _native.socket(af, type, proto)
        self._poll = _poll()
        self._poll.register(self._socket, 0)
        self._limit_ms = -1  # real ones; -1: none
        self._association = 0
        self._number = 0  # of the connection over PPP, while it is being made
        self._proxy = None  # where datagrams over PPP go

    def settimeout(self, seconds):
        if seconds is None:
            self._limit_ms = -1
        else:
            self._limit_ms = int(seconds * 1000 * _link.den / _link.num) + _SLACK_MS if seconds > 0 else 0

    def setblocking(self, flag):
        self.settimeout(None if flag else 0)

    def setsockopt(self, level, optname, value):
        self._socket.setsockopt(level, optname, value)

    def fileno(self):
        return self._socket.fileno()

    def makefile(self, mode="rb", buffering=0):
        return self

    def connect(self, address):
        self._begin()
        target = _sockaddr(address)
        if self._association & _PPP:
            _, four, port = _native.sockaddr(target)
            self._number, port = struct.unpack(">HH", _call(b"Kt", four + struct.pack(">H", port)))
            self._socket.connect(_loopback(port))
            self._socket.setblocking(False)
            if not self._limit_ms:
                raise OSError(_EINPROGRESS)
            self._wait(POLLOUT)
            return
        if self._limit_ms == 0:
            self._socket.setblocking(False)
            self._socket.connect(target)
            return
        self._socket.settimeout(None if self._limit_ms < 0 else self._limit_ms / 1000)
        self._socket.connect(target)
        self._socket.setblocking(False)

    def _begin(self):
        self._association = _way()
        if not self._association:
            raise OSError(_EHOSTUNREACH)

    def _alive(self):
        if self._association != _way():
            raise OSError(_ECONNABORTED)

    # Whether a connection over PPP is there by now.
    def _connected(self):
        if self._number:
            code = struct.unpack(">H", _call(b"Kq", struct.pack(">H", self._number)))[0]
            if code == _EINPROGRESS:
                return False
            if code:
                raise OSError(code)
            self._number = 0
        return True

    # Wait for the socket; False: it is not one that waits.
    def _wait(self, event):
        left_ms = self._limit_ms
        self._poll.modify(self._socket, event)
        while True:
            self._alive()
            connected = self._connected()
            step_ms = _STEP_MS if left_ms < 0 else min(_STEP_MS, left_ms)
            if not connected:
                step_ms = min(step_ms, 2)
                _sleep_us(step_ms * 1000)
            else:
                found = self._poll.poll(step_ms)
                if found:
                    if found[0][1] & _BROKEN:
                        self._alive()  # what broke it comes before what that looks like here
                    return True
            if left_ms >= 0:
                left_ms -= step_ms
                if left_ms <= 0:
                    if self._limit_ms == 0:
                        return False
                    raise OSError(_ETIMEDOUT)

    def recv(self, n, flags=0):
        if not self._wait(POLLIN):
            raise OSError(_EAGAIN)
        return self._socket.recv(n)

    # Fill the buffer, as sockets of MicroPython do; less at the end of the data or when nothing more is there yet.
    def readinto(self, buf, n=-1):
        view = memoryview(buf)
        if 0 <= n < len(view):
            view = view[:n]
        count = 0
        while count < len(view):
            if not self._wait(POLLIN):
                return count or None
            # in small pieces: on the chip nothing is allocated here
            data = self._socket.recv(min(len(view) - count, _PIECE))
            if not data:
                break
            view[count : count + len(data)] = data
            count += len(data)
        return count

    def read(self, n=-1):
        if n >= 0:
            buffer = bytearray(n)
            count = self.readinto(buffer)
            return None if count is None else bytes(memoryview(buffer)[:count])
        data = b""
        while True:
            if not self._wait(POLLIN):
                return data or None
            more = self._socket.recv(512)
            if not more:
                return data
            data += more

    def readline(self, n=-1):
        line = b""
        while not line.endswith(b"\n") and len(line) != n:
            if not self._wait(POLLIN):
                return line or None
            byte = self._socket.recv(1)
            if not byte:
                break
            line += byte
        return line

    def send(self, data, flags=0):
        if not self._wait(POLLOUT):
            raise OSError(_EAGAIN)
        return self._socket.send(data)

    def write(self, data, n=-1):
        view = memoryview(data)
        if 0 <= n < len(view):
            view = view[:n]
        done = 0
        while done < len(view):
            if not self._wait(POLLOUT):
                return done or None
            done += self._socket.send(view[done:])
        return done

    def sendall(self, data, flags=0):
        if self.write(data) != len(data):
            raise OSError(_EAGAIN)

    def sendto(self, data, address):
        self._begin()
        target = _sockaddr(address)
        if not self._association & _PPP:
            return self._socket.sendto(data, target)
        if self._proxy is None:
            self._proxy = _loopback(struct.unpack(">H", _call(b"Ku"))[0])
        _, four, port = _native.sockaddr(target)
        return self._socket.sendto(four + struct.pack(">H", port) + data, self._proxy) - 6

    def recvfrom(self, n):
        if not self._wait(POLLIN):
            raise OSError(_EAGAIN)
        if self._proxy is not None:
            data = self._socket.recv(n + 6)
            port = struct.unpack(">H", data[4:6])[0]
            return data[6:], (_native.inet_ntop(AF_INET, data[:4]), port)
        data, source = self._socket.recvfrom(n)
        _, address, port = _native.sockaddr(source)
        return data, (_native.inet_ntop(AF_INET, address), port)

    def close(self):
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # What TLS and polls ask: 3 poll, 4 close, 10 file number.
    def ioctl(self, request, argument):
        if self._number and request != 4:
            try:
                if not self._connected():
                    return 0 if request == 3 else -_EINVAL
            except OSError:
                return argument & (POLLIN | POLLOUT) | 8 if request == 3 else -_EINVAL
        if request == 3:
            self._poll.modify(self._socket, argument)
            found = self._poll.poll(0)
            return found[0][1] if found else 0
        if request == 4:
            self._socket.close()
            return 0
        if request == 10:
            return self._socket.fileno()
        return -_EINVAL
