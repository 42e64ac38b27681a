# The AT engine: one command at a time to a modem on a UART, as generators of pauses in ms. Owns lines, time limits and
# what a command may hold; knows no module and no network. Loaded while a modem is talked to, then dropped.
#
# The modem is not trusted: a line is cut at _LINE_MAX, a command keeps one line of its answer, each ends within its own
# time, and nothing that the modem says goes back into a command. V.250 and 3GPP TS 27.007 say how answers look.
import time

from micropython import const

from sealband.links.base import LinkError

_LINE_MAX = const(160)
_CHUNK = const(64)  # taken off the UART at once: what 115,200 baud bring in about 5 ms
_IDLE_MS = const(20)
_BUSY_MS = const(4)
_OLD_CHUNKS = const(64)  # of what lies there before a command; a flood is not waited for
_SYNC_MS = const(300)
_GUARD_MS = const(1100)  # silence around "+++" that ends data mode: a second (V.250 S12)
_TEXT_MAX = const(200)
# V.250 6.3.1: what else ends an attempt to dial; to any other command these are unsolicited
_DIAL_ENDS = ("NO CARRIER", "BUSY", "NO ANSWER", "NO DIALTONE", "NO DIAL TONE")


# What goes into a command comes through here: digits, letters and `more`, nothing that could end a string or a line;
# with `more` None digits only.
def checked(text, more, least, most):
    if not least <= len(text) <= most:
        raise LinkError("a value has the wrong length")
    for character in text:
        if not "0" <= character <= "9" and (more is None or not ("a" <= character.lower() <= "z" or character in more)):
            raise LinkError("a value has a character that it may not have")
    return text


# What a family's table says under this name: the fields behind it, or none.
def entry(table, name):
    for line in table.split("\n"):
        fields = line.split("|")
        if fields[0] == name:
            return fields[1:]
    return ()


class Modem:
    # urc(line): told of every line that is no answer to what was asked
    def __init__(self, uart, urc=None, ticks_ms=time.ticks_ms):
        self.uart = uart
        self._urc = urc
        self._ticks_ms = ticks_ms
        self._held = bytearray()
        self.garbled = 0  # lines that were no text, or too long

    # Take one chunk off the UART: False: there was none; a line that is whole, as text; else "".
    def _line(self):
        # up to the line's end only: what comes after CONNECT is for PPP
        chunk = self.uart.readline(_CHUNK)
        if not chunk:
            return False
        held = self._held
        if len(held) < _LINE_MAX:
            held.extend(chunk)
        if chunk[-1] != 10:
            return ""
        self._held = bytearray()
        line = bytes(held).strip()
        for byte in line:
            if not 32 <= byte < 127:
                line = b""
                self.garbled += 1
                break
        if len(held) >= _LINE_MAX:
            line = b""
            self.garbled += 1
        return line.decode()

    def _unsolicited(self, line):
        if line and self._urc:
            self._urc(line)
        if line.endswith("POWER DOWN"):
            raise LinkError("the modem goes off", None)

    # Send AT<text> and wait for its final result. `prefix`: what the wanted line of the answer begins with; the text
    # behind it is returned, "" without a prefix. `done` is the final result that means success.
    # LinkError(text, code): refused, code is +CME ERROR's number or -1, or no answer in time, code None.
    def ask(self, text, timeout_ms=5000, prefix=None, done="OK"):
        for character in text:
            if not " " <= character <= "~" or len(text) > _TEXT_MAX:
                raise LinkError("no command for a modem", -1)
        for _ in range(_OLD_CHUNKS):
            line = self._line()
            if line is False:
                break
            self._unsolicited(line)
        self._held = bytearray()
        self.uart.write(b"AT%s\r" % text.encode())
        name = text.split("=")[0]  # what follows may be a secret
        began = self._ticks_ms()
        found = None
        while time.ticks_diff(self._ticks_ms(), began) < timeout_ms:
            line = self._line()
            if not line:
                yield _IDLE_MS if line is False else _BUSY_MS
                continue
            if line == done or (done != "OK" and line.startswith(done)):
                if prefix and found is None:
                    raise LinkError("AT%s: no answer" % name, -1)
                return found or ""
            failed = line == "ERROR" or line.startswith(("+CME ERROR:", "+CMS ERROR:"))
            if failed or (done == "CONNECT" and line in _DIAL_ENDS):
                code = line[11:].strip()
                raise LinkError("AT%s: %s" % (name, line[:40]), int(code) if code.isdigit() and len(code) < 5 else -1)
            if prefix and found is None and line.startswith(prefix):
                found = line[len(prefix) :].strip()
            elif not line.startswith("AT"):  # the echo
                self._unsolicited(line)
            yield _BUSY_MS
        raise LinkError("AT%s: no answer in time" % name, None)

    # Whether the modem answers within so many tries. `escape`: it may be in data mode.
    def sync(self, tries, escape=False):
        for _ in range(tries):
            try:
                yield from self.ask("", _SYNC_MS)
                return True
            except LinkError:
                pass
        if escape:
            yield _GUARD_MS
            self.uart.write(b"+++")
            yield _GUARD_MS
            if (yield from self.sync(2)):
                try:
                    yield from self.ask("H")  # the call itself
                except LinkError:
                    pass
                return True
        return False
