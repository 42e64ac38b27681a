# `machine.UART` as the ESP32 has it. Buffers and lines, and what is on them, are host_tools/sim/uart.py's. `timeout` is
# for all of what one call reads, as in ESP-IDF's uart_read_bytes; timeouts are virtual.
import io
import struct
import time

from _link import call as _call
from micropython import const
from utime import sleep_us as _sleep_us

_EINVAL = const(22)
_PIECE = const(1024)


class UART(io.IOBase):
    INV_TX = const(4194304)
    INV_RX = const(524288)
    IRQ_RX = const(1)
    IRQ_RXIDLE = const(4096)
    IRQ_BREAK = const(128)

    def __init__(self, id, *arguments, **settings):
        if not 0 < id < 3:
            raise ValueError("UART(%d) does not exist" % id)
        self._id = bytes((id,))
        self._rxbuf = 256
        self._baud = 115200
        self.init(*arguments, **settings)

    def init(
        self,
        baudrate=0,
        bits=8,
        parity=None,
        stop=1,
        *,
        tx=-1,
        rx=-1,
        rts=-1,
        cts=-1,
        txbuf=-1,
        rxbuf=-1,
        timeout=0,
        timeout_char=0,
        invert=0,
        flow=0,
    ):
        self._baud = baudrate or self._baud
        if rxbuf >= 0:
            self._rxbuf = rxbuf
        self._timeout = timeout
        self._ask(b"Ui", struct.pack(">II", self._baud, self._rxbuf))

    def _ask(self, what, data=b"", size=64):
        return _call(what + self._id, data, size)

    def deinit(self):
        self._ask(b"Ux")

    def any(self):
        return struct.unpack(">I", self._ask(b"Ua"))[0]

    def irq(self, handler=None, trigger=0, hard=False):
        pass  # PPP takes what comes by itself; there are no interrupts here

    def sendbreak(self):
        pass

    def flush(self):
        pass

    def txdone(self):
        return True

    # What comes within the timeout, at most n; None: nothing.
    def _take(self, n):
        end = time.ticks_add(time.ticks_ms(), self._timeout)
        data = b""
        while True:
            n_now = min(n - len(data), _PIECE)
            data += self._ask(b"Ur", struct.pack(">I", n_now), n_now)
            if len(data) >= n or time.ticks_diff(end, time.ticks_ms()) <= 0:
                return data or None
            _sleep_us(500)

    def read(self, n=-1):
        if n >= 0:
            return self._take(n) if n else b""
        data = b""
        while True:
            more = self._take(_PIECE)
            if not more:
                return data or None
            data += more

    def readinto(self, buf, n=-1):
        view = memoryview(buf)
        data = self._take(min(n, len(view)) if n >= 0 else len(view))
        if data:
            view[: len(data)] = data
            return len(data)

    def readline(self, n=-1):
        line = b""
        while not line.endswith(b"\n") and len(line) != n:
            byte = self._take(1)
            if not byte:
                break
            line += byte
        return line or None

    def write(self, data, n=-1):
        view = memoryview(data)
        if n >= 0:
            view = view[:n]
        for at in range(0, len(view), _PIECE):
            self._ask(b"Uw", bytes(view[at : at + _PIECE]))
        return len(view)

    def ioctl(self, request, argument):
        if request == 3:
            return argument & 4 | (argument & 1 if argument & 1 and self.any() else 0)
        return 0 if request == 4 else -_EINVAL
