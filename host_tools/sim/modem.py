"""A simulated cellular modem on a pty: power, boot, AT lines, data mode and what disturbs them.

`SimModem` is what tests and `sealband sim modem` use; a virtual board takes its `port`. The answers are in
`host_tools.sim.modem_commands`, `modem_cellular`, `modem_clock` and `modem_vendors`, SIM and network in
`modem_network`, the data connection in `modem_call`. All times are virtual. One thread a modem.

The power key is no part of a pty: a datagram socket with the port's name beside it takes its presses, which is how a
virtual board's pin gets here (`modem_line.power_key_address`).
"""

import contextlib
import re
import socket
import time
from typing import Any, Literal

from host_tools.sim.clock import SimClock
from host_tools.sim.loop import Loop
from host_tools.sim.modem_call import ADDRESS, Call
from host_tools.sim.modem_line import Line, power_key_address
from host_tools.sim.modem_network import Conditions, Registration, Sim
from host_tools.sim.modem_syntax import TEXTS, UNKNOWN, CommandError, MobileError, Result, split_commands
from host_tools.sim.modem_vendors import TYPES

LINE_MAX = 556
ANSWER_S = 0.02
TICK_S = 0.05
TICK_REAL_S = 0.02
KEY_SLACK_REAL_S = 0.05  # a short press that the host's scheduler has made longer does not switch it off
# V.250 table 1
NUMBERS = {"OK": 0, "CONNECT": 1, "RING": 2, "NO CARRIER": 3, "ERROR": 4}
Power = Literal["off", "booting", "on", "leaving", "asleep"]


class ModemError(Exception):
    """A modem cannot be made so."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.remedy = remedy


class SimModem:
    """One modem. Use it as a context manager, or call `stop` in the end.

    Args:
        type: "sim7080" or "bg95".
        clock: the simulation's.
        pin: of the SIM; empty: it asks for none.
        puk: of the SIM.
        on: it is switched on at the start; else it waits for its power key.
        rate: of its serial line in baud; 0: it takes the host's.
        seed: makes its noise repeatable.
        conditions: what it meets, as `Conditions` names it.

    Attributes:
        port: the path of its serial port.
        conditions: may be changed while it runs.
        sim: the card.
        power: off, booting, on, leaving or asleep (PSM).
        calls: how many data connections it has made.
        lines: the newest lines that it was given, at most 200.
    """

    def __init__(
        self,
        type: str = "sim7080",
        *,
        clock: SimClock | None = None,
        pin: str = "",
        puk: str = "12345678",
        on: bool = True,
        rate: int = 0,
        seed: int = 0,
        **conditions: Any,
    ) -> None:
        if type not in TYPES:
            raise ModemError(f"there is no modem {type!r}", f"choose one of {', '.join(TYPES)}")
        if pin and not re.fullmatch(r"\d{4,8}", pin):
            raise ModemError("a PIN has four to eight digits", "give it another one")
        self.conditions = Conditions(**conditions)
        self.sim = Sim(pin, puk)
        self.power: Power = "off"
        self.calls = 0
        self.lines: list[str] = []
        self._clock = clock or SimClock.start()
        self._registration = Registration(self.conditions, self.sim, self._clock.now)
        self._commands = TYPES[type](self, self.conditions, self.sim, self._registration, self._clock.now)
        self._on = on
        self._loop = Loop(f"modem-{type}")
        self._line = Line(self._loop, self.conditions, self._bytes, seed)
        self._line.rate = rate
        self.port = self._line.port
        self._key = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._key.bind(power_key_address(self.port))
        self._key.setblocking(False)
        self._key_down_at: float | None = None
        self._begun = bytearray()
        self._todo: list[str] = []
        self._busy = False
        self._call: Call | None = None
        self._stat = 0
        self._boots = 0
        self._idle_since = self._clock.now()
        self._stopped = False
        self._loop.call(self._start)

    def __enter__(self) -> "SimModem":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Take it away. May be called again."""
        if not self._stopped:
            self._stopped = True
            self._loop.stop(self._close)

    # from other threads

    def press_power_key(self, seconds: float = 1.5) -> None:
        """Hold the power key for so long, in virtual seconds."""
        self.power_key(True)
        self._clock.sleep(seconds)
        self.power_key(False)

    def power_key(self, down: bool) -> None:
        """Press or release the power key."""
        self._loop.call(self._key_moved, down)

    def power_cut(self) -> None:
        """Take its power away, or what comes to that."""
        self._loop.call(self._off)

    def lose_carrier(self) -> None:
        """End the data connection from the network's side, if there is one."""

        def lose() -> None:
            if self._call is not None:
                self._call.lose_carrier()

        self._loop.call(lose)

    def say(self, text: str) -> None:
        """Have it say something by itself."""
        self._loop.call(self.urc, text)

    # what commands do (in the loop's thread)

    @property
    def rate(self) -> int:
        """Of the line, baud; 0: as the host has it."""
        return self._line.rate

    @rate.setter
    def rate(self, baud: int) -> None:
        self._line.rate = baud

    @property
    def in_call(self) -> bool:
        """Whether there is a data connection."""
        return self._call is not None

    @property
    def address(self) -> str:
        """What the network has given it."""
        return ADDRESS

    def dial(self) -> None:
        """Begin a data connection; the host has been told CONNECT."""
        self.hang_up()
        self.calls += 1
        self._call = call = Call(
            self._loop,
            self._clock,
            self.conditions,
            write=self._line.send,
            on_end=lambda: self._call_over(call),
            on_lost=self._registration.restart,
            on_escape=lambda: self._result("OK"),
        )

    def resume(self) -> None:
        """Back into data mode."""
        if self._call is not None:
            self._call.resume()

    def hang_up(self) -> None:
        """End the data connection without a word."""
        call, self._call = self._call, None
        if call is not None:
            call.end()

    def urc(self, text: str, after_s: float = 0.0) -> None:
        """Say something by itself, unless data pass or it is switched off by then."""
        boots = self._boots

        def say() -> None:
            if self.power in ("on", "leaving") and boots == self._boots and not self._in_data:
                self._say([text])

        self._after(after_s, say)

    def power_down(self, *, restart: bool = False, quiet: bool = False) -> None:
        """Shut down, and start again if asked to."""
        self.hang_up()
        self.power = "leaving"
        if not quiet and not restart:
            self.urc(self._commands.DOWN_TEXT, self._commands.OFF_S / 2)
        self._after(self._commands.OFF_S, self._boot if restart else self._off)

    # power

    def _start(self) -> None:
        self._line.start()
        self._loop.watch(self._key, self._key_datagram)
        if self._on:
            self._boot()
        self._tick()

    def _close(self) -> None:
        self.hang_up()
        self._loop.watch(self._key)
        self._key.close()
        self._line.close()

    def _boot(self) -> None:
        self.power = "booting"
        self._boots += 1
        self._line.forget()
        self._begun.clear()
        self._todo.clear()
        self._busy = False
        self._stat = 0
        self.sim.reset()
        self._commands.reset()
        boots = self._boots

        def ready() -> None:
            if boots == self._boots and self.power == "booting":
                self.power = "on"
                self._idle_since = self._clock.now()
                for after_s, text in self._commands.boot_lines():
                    self.urc(text, after_s)

        self._after(self._commands.BOOT_S, ready)

    def _off(self) -> None:
        self.hang_up()
        self.power = "off"
        self._boots += 1
        self._line.forget()

    def _key_datagram(self) -> None:
        with contextlib.suppress(OSError):
            for byte in self._key.recv(64):
                self._key_moved(byte == 1)

    def _key_moved(self, down: bool) -> None:
        if down:
            if self._key_down_at is None:
                self._key_down_at = self._clock.now()
            return
        if self._key_down_at is None:
            return
        held_s, self._key_down_at = self._clock.now() - self._key_down_at, None
        if self.power in ("off", "asleep") and held_s >= self._commands.KEY_ON_S * 0.9:
            self._boot()
        elif self.power == "on" and held_s >= self._commands.KEY_OFF_S + KEY_SLACK_REAL_S * self._clock.speed:
            self.power_down()

    # time

    def _after(self, virtual_s: float, function: Any) -> None:
        if virtual_s <= 0:
            function()
        else:
            self._loop.at(time.monotonic() + self._clock.real_delay(virtual_s), function)

    def _tick(self) -> None:
        if self._stopped:
            return
        if self.power == "on":
            self._look()
        if self._call is not None:
            self._call.tick()
        self._loop.at(time.monotonic() + max(TICK_REAL_S, self._clock.real_delay(TICK_S)), self._tick)

    def _look(self) -> None:
        stat, was = self._registration.stat, self._stat
        if stat != was:
            self._stat = stat
            if self._registration.registered:
                self._commands.synchronised()
            elif was in (1, 5) and self._call is not None:
                self._call.lose_carrier()
            for name, n in self._commands.settings.reports.items():
                if n:
                    self.urc(self._commands.report(name, n, unsolicited=True))
        idle_s = self._commands.psm_idle_s()
        if self._call is not None or not self._registration.registered:
            self._idle_since = self._clock.now()
        elif idle_s is not None and self._clock.now() - self._idle_since > max(idle_s, 1.0):
            self._boots += 1  # what it was about to say is not said
            self.power = "asleep"

    # the line

    @property
    def _in_data(self) -> bool:
        return self._call is not None and not self._call.held

    def _bytes(self, data: bytes) -> None:
        if self.power not in ("on", "leaving"):
            return
        self._idle_since = self._clock.now()
        if self._in_data and self._call is not None:
            self._call.feed(data)
            return
        if self._commands.settings.echo:
            self._line.send_line(data)
        for byte in data:
            if byte == 0x0D:
                line = self._begun.decode("latin-1")
                self._begun.clear()
                self._todo.append(line)
            elif byte == 0x08:
                del self._begun[-1:]
            elif byte != 0x0A and len(self._begun) <= LINE_MAX:
                self._begun.append(byte)
        self._next()

    def _next(self) -> None:
        if self._busy or not self._todo or self._in_data:
            return
        line = self._todo.pop(0)
        found = re.search("[Aa][Tt]", line)
        if found is None:
            self._next()
            return
        self._busy = True
        text = line[found.end() :]
        self.lines[:] = [*self.lines[-199:], f"AT{text}"]
        boots = self._boots

        def answer() -> None:
            self._busy = False
            if self.power == "on" and boots == self._boots:
                self._answer(text)
            self._next()

        self._after(ANSWER_S, answer)

    def _answer(self, text: str) -> None:
        lines: list[str] = []
        try:
            if len(text) + 2 > LINE_MAX:
                raise CommandError
            for one in split_commands(text):
                lines += self._commands.run(one)
        except CommandError:
            self._finish(lines, "ERROR")
        except MobileError as error:
            mode = self._commands.settings.errors
            code = error.code if mode == 1 else TEXTS.get(error.code, TEXTS[UNKNOWN])
            self._finish(lines, f"+CME ERROR: {code}" if mode else "ERROR")
        except Result as result:
            self._finish(lines, result.text)
            if result.then is not None:
                result.then()
        else:
            self._finish(lines, "OK")

    def _finish(self, lines: list[str], result: str | None) -> None:
        if lines:
            self._say(lines)
        if result is not None:
            self._result(result)

    def _result(self, text: str) -> None:
        if self._commands.settings.verbose or text.startswith("+"):
            self._say([text])
        else:
            word = next((word for word in NUMBERS if text.startswith(word)), None)
            self._line.send_line(f"{NUMBERS[word] if word else text}\r".encode())

    def _say(self, lines: list[str]) -> None:
        self._line.send_line(("\r\n" + "\r\n".join(lines) + "\r\n").encode())

    def _call_over(self, call: Call) -> None:
        if self._call is call:
            self._call = None
            if self.power == "on":
                self._result("NO CARRIER")
            self._next()
