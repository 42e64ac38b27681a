# Tells what passes the board's buses: `machine` as it is, with I2C, ADC and UART that print what they carry. Pushed for
# a run with --record only; host_tools/device/trace.py has the form of what is told.
import sys
import time
from binascii import hexlify


def _tell(*what):
    print("sealband-tap", time.ticks_ms(), *what)


def _hex(data):
    return hexlify(data).decode()


class I2C:
    def __init__(self, *which, **how):
        self._bus = _real.I2C(*which, **how)
        self._at = {}  # address: where a plain read begins

    def scan(self):
        return self._bus.scan()

    def writeto(self, addr, buf, stop=True):
        register = "%02x" % buf[0] if buf else "--"
        try:
            count = self._bus.writeto(addr, buf, stop)
        except OSError:
            if buf:
                _tell("i n %02x %s%s" % (addr, register, " w" if len(buf) > 1 else ""))
            raise
        if buf:
            self._at[addr] = register
            if len(buf) > 1:
                _tell("i w %02x %s" % (addr, _hex(buf)))
        return count

    def readfrom(self, addr, nbytes, stop=True):
        data = bytearray(nbytes)
        self.readfrom_into(addr, data, stop)
        return bytes(data)

    def readfrom_into(self, addr, buf, stop=True):
        self._read(addr, self._at.get(addr, "--"), buf, self._bus.readfrom_into, addr, buf, stop)

    def writeto_mem(self, addr, memaddr, buf, *, addrsize=8):
        try:
            self._bus.writeto_mem(addr, memaddr, buf, addrsize=addrsize)
        except OSError:
            _tell("i n %02x %02x w" % (addr, memaddr & 255))
            raise
        _tell("i w %02x %02x%s" % (addr, memaddr & 255, _hex(buf)))

    def readfrom_mem(self, addr, memaddr, nbytes, *, addrsize=8):
        data = bytearray(nbytes)
        self.readfrom_mem_into(addr, memaddr, data, addrsize=addrsize)
        return bytes(data)

    def readfrom_mem_into(self, addr, memaddr, buf, *, addrsize=8):
        at = self._at[addr] = "%02x" % (memaddr & 255)
        if addrsize == 8:
            self._read(addr, at, buf, self._bus.readfrom_mem_into, addr, memaddr, buf)
        else:
            self._bus.readfrom_mem_into(addr, memaddr, buf, addrsize=addrsize)

    def _read(self, addr, at, buf, read, *how):
        try:
            read(*how)
        except OSError:
            _tell("i n %02x %s" % (addr, at))
            raise
        if len(buf):
            _tell("i r %02x %s %s" % (addr, at, _hex(buf)))


class ADC:
    def __init__(self, pin, **how):
        self._adc = _real.ADC(pin, **how)
        digits = "".join(c for c in repr(pin) if c.isdigit())  # Pin(35)
        self._pin = getattr(pin, "id", None) or int(digits or 0)

    def __getattr__(self, name):
        return getattr(self._adc, name)

    def read_uv(self):
        microvolts = self._adc.read_uv()
        _tell("a", self._pin, microvolts)
        return microvolts


class UART:
    def __init__(self, number, *settings, **how):
        self._number = number
        self._uart = _real.UART(number, *settings, **how)

    def __getattr__(self, name):
        return getattr(self._uart, name)

    def read(self, *count):
        return self._told(self._uart.read(*count))

    def readline(self):
        return self._told(self._uart.readline())

    def readinto(self, buf, *count):
        got = self._uart.readinto(buf, *count)
        if got:
            self._told(bytes(buf[:got]))
        return got

    def _told(self, data):
        if data:
            _tell("u", self._number, _hex(data))
        return data


class _Machine:
    def __getattr__(self, name):
        return getattr(_real, name)


def begin():
    global _real
    import machine as _real

    for name in ("ATTN_0DB", "ATTN_2_5DB", "ATTN_6DB", "ATTN_11DB"):
        setattr(ADC, name, getattr(_real.ADC, name, 0))
    tapped = _Machine()
    tapped.I2C, tapped.ADC, tapped.UART = I2C, ADC, UART
    sys.modules["machine"] = tapped
