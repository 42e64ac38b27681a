"""What a simulated modem answers to AT commands: the line's settings, what it is, and its SIM (V.250, 3GPP TS 27.007).

A command comes as its name and what follows; a handler gives the lines of information, or raises what the modem says
instead of OK. The network's commands are in `host_tools.sim.modem_cellular`, clock and power saving in `modem_clock`,
vendors' own in `modem_vendors`; power, line and data mode in `host_tools.sim.modem`, which a handler asks for through
`Actions`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from host_tools.sim.modem_network import Conditions, Registration, Sim
from host_tools.sim.modem_syntax import (
    BAD_PARAMETERS,
    NEEDS_PIN,
    NEEDS_PUK,
    NO_SIM,
    NOT_ALLOWED,
    SIM_FAILURE,
    WRONG_PASSWORD,
    CommandError,
    MobileError,
    Result,
    arguments,
    integers,
)

IMEI, IMSI, ICCID = "860016040000007", "001010123456789", "8900101000000000007"
RATES = (0, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600)  # 0: it takes the host's
_COMMAND = re.compile(r"([A-Za-z]\d*|[&\\][A-Za-z]\d*|[+*][A-Za-z]+)(\?|=\?|=(.*))?", re.DOTALL)
Handler = Callable[[str, str], list[str]]


class Actions(Protocol):
    """What commands can have the modem do."""

    def dial(self) -> None: ...
    def resume(self) -> None: ...
    def hang_up(self) -> None: ...
    def power_down(self, *, restart: bool = False, quiet: bool = False) -> None: ...
    def urc(self, text: str, after_s: float = 0.0) -> None: ...

    @property
    def rate(self) -> int: ...
    @rate.setter
    def rate(self, baud: int) -> None: ...
    @property
    def in_call(self) -> bool: ...
    @property
    def address(self) -> str: ...


@dataclass
class Settings:
    """What commands set; a power-down forgets it."""

    echo: bool = True
    verbose: bool = True
    errors: int = 0  # +CMEE
    function: int = 1  # +CFUN
    reports: dict[str, int] = field(default_factory=dict)  # +CREG, +CGREG, +CEREG → n
    cops_format: int = 0
    contexts: dict[int, tuple[str, str]] = field(default_factory=dict)  # cid → type, APN
    active: set[int] = field(default_factory=set)  # contexts by +CGACT
    zone_reports: int = 0
    zone_update: int = 0
    psm: list[str] = field(default_factory=lambda: ["0", "01100000", "00000000"])
    edrx: dict[int, str] = field(default_factory=dict)


class Commands:
    """One modem's.

    Args:
        actions: the modem.
        conditions, sim, registration: what it sees.
        now: virtual Unix time.

    Attributes:
        settings: as commands have set them.
    """

    # command → method without its underscore; classes derived from this one add theirs
    TABLE = {
        "+CPIN": "pin",
        "+CIMI": "imsi",
        "+CGMM": "model",
        "+GMM": "model",
        "+GSN": "serial",
        "+CGSN": "serial",
        "+CFUN": "function",
        "+CMEE": "errors",
        "+IPR": "rate",
        "+IFC": "quiet",
        "+ICF": "quiet",
        "+CSCLK": "quiet",
        "+CGEREP": "quiet",
    }
    TYPE = ""
    MODEL = ""
    IDENTITY: tuple[str, ...] = ()

    def __init__(
        self, actions: Actions, conditions: Conditions, sim: Sim, registration: Registration, now: Callable[[], float]
    ) -> None:
        self.actions = actions
        self.conditions = conditions
        self.sim = sim
        self.registration = registration
        self.now = now
        self.time_known = False
        self.clock_offset_s: float | None = None
        self.kept_contexts: dict[int, tuple[str, str]] = {1: ("IP", "")}
        self.settings = Settings()
        table: dict[str, str] = {}
        for one in reversed(type(self).__mro__):
            table |= one.__dict__.get("TABLE", {})
        self.handlers: dict[str, Handler] = {name: getattr(self, f"_{method}") for name, method in table.items()}
        self.reset()

    def reset(self) -> None:
        """The modem starts. Contexts are in its flash."""
        self.settings = Settings(contexts=self.kept_contexts)
        self.time_known = False
        self.clock_offset_s = None
        self.registration.radio = self.registration.attached = self.registration.automatic = True
        self.registration.restart()

    def boot_lines(self) -> list[tuple[float, str]]:
        """What it says by itself after a start: seconds, text."""
        return []

    def run(self, line: str) -> list[str]:
        """The information lines of one command, without its "AT".

        Raises:
            CommandError, MobileError, Result: it ends otherwise than with OK.
        """
        found = _COMMAND.fullmatch(line.strip())
        if line[:1].upper() == "D":
            return self._dial_text(line[1:])
        if not found:
            raise CommandError
        name, form, given = found[1].upper(), found[2] or "", found[3]
        if name[0] not in "+*":
            return self._basic(name + (f"={given}" if given is not None else ""), form)
        handler = self.handlers.get(name)
        if handler is None:
            raise CommandError  # what both vendors say to what they do not know, whatever +CMEE is
        if form.startswith("=") and form != "=?":
            return handler("=", given or "")
        return handler(form, "")

    def _basic(self, name: str, form: str) -> list[str]:
        letter, number = name[0], name[1:].split("=")[0]
        if letter == "E" and number in ("", "0", "1"):
            self.settings.echo = number == "1"
        elif letter == "V" and number in ("", "0", "1"):
            self.settings.verbose = number == "1"
        elif letter == "I" and number in ("", "0"):
            return list(self.IDENTITY)
        elif letter == "O" and number in ("", "0"):
            if not self.actions.in_call:
                raise Result("NO CARRIER")
            raise Result("CONNECT", self.actions.resume)
        elif letter == "H" and number in ("", "0"):
            self.actions.hang_up()
        elif letter == "Z":
            contexts = self.settings.contexts
            self.settings = Settings(contexts=contexts, function=self.settings.function)
        elif letter not in "QXSL&\\":
            raise CommandError
        return []

    def _dial_text(self, text: str) -> list[str]:
        found = re.fullmatch(r"[TP]?\*99(?:\*\d*)?(?:\*+(\d+))?#;?", text.strip().upper())
        if not found:
            raise Result("NO CARRIER")
        return self.dial(int(found[1] or 1))

    def dial(self, cid: int) -> list[str]:
        """Begin a data connection, or say why not."""
        self.need_sim()
        if not self.registration.registered or cid not in self.settings.contexts:
            raise Result("NO CARRIER")
        apn = self.settings.contexts[cid][1]
        if self.conditions.apn is not None and apn.lower() != self.conditions.apn.lower():
            raise Result("NO CARRIER")
        raise Result(self.connect_text, self.actions.dial)

    connect_text = "CONNECT"

    # the SIM

    def need_sim(self) -> None:
        """Raise what is said while the card cannot be used."""
        if not self.conditions.sim:
            raise MobileError(NO_SIM)
        asks = self.sim.asks
        if asks != "READY":
            raise MobileError({"SIM PIN": NEEDS_PIN, "SIM PUK": NEEDS_PUK}.get(asks, SIM_FAILURE))

    def _pin(self, form: str, given: str) -> list[str]:
        if form == "=?":
            return []
        if not self.conditions.sim:
            raise MobileError(NO_SIM)
        if form == "?":
            if self.sim.asks == "SIM FAILURE":
                raise MobileError(SIM_FAILURE)
            return [f"+CPIN: {self.sim.asks}"]
        parts = arguments(given)
        if self.sim.asks == "READY" or not parts:
            raise MobileError(NOT_ALLOWED)
        if self.sim.asks == "SIM PUK":
            if len(parts) != 2:
                raise MobileError(NEEDS_PUK)
            good = self.sim.enter_puk(parts[0], parts[1])
        else:
            good = self.sim.enter_pin(parts[0])
        if not good:
            raise MobileError(NEEDS_PUK if self.sim.asks == "SIM PUK" and len(parts) == 1 else WRONG_PASSWORD)
        self.registration.restart()
        self.actions.urc("+CPIN: READY", 0.2)
        return []

    def _imsi(self, form: str, given: str) -> list[str]:
        self.need_sim()
        return [IMSI]

    # the modem

    def _model(self, form: str, given: str) -> list[str]:
        return [self.MODEL] if form != "=?" else []

    def _serial(self, form: str, given: str) -> list[str]:
        return [IMEI] if form != "=?" else []

    def _function(self, form: str, given: str) -> list[str]:
        if form == "?":
            return [f"+CFUN: {self.settings.function}"]
        if form == "=?":
            return ["+CFUN: (0,1,4),(0,1)"]
        numbers = integers(given)
        if not numbers or numbers[0] not in (0, 1, 4):
            raise MobileError(BAD_PARAMETERS)
        if numbers[1:2] == [1]:
            raise Result("OK", lambda: self.actions.power_down(restart=True))
        self.settings.function = numbers[0]
        self.registration.radio = numbers[0] == 1
        if numbers[0] != 1:
            self.actions.hang_up()
            self.settings.active.clear()
        self.registration.restart()
        return []

    def _errors(self, form: str, given: str) -> list[str]:
        return self.flag("+CMEE", form, given, "errors", 2)

    def flag(self, name: str, form: str, given: str, attribute: str, highest: int) -> list[str]:
        """A setting that is a number from 0 on."""
        if form == "?":
            return [f"{name}: {getattr(self.settings, attribute)}"]
        if form == "=?":
            return [f"{name}: (0-{highest})"]
        numbers = integers(given)
        if len(numbers) != 1 or not 0 <= numbers[0] <= highest:
            raise MobileError(BAD_PARAMETERS)
        setattr(self.settings, attribute, numbers[0])
        return []

    def _rate(self, form: str, given: str) -> list[str]:
        if form == "?":
            return [f"+IPR: {self.actions.rate}"]
        if form == "=?":
            return [f"+IPR: (),({','.join(map(str, RATES))})"]
        numbers = integers(given)
        if len(numbers) != 1 or numbers[0] not in RATES:
            raise MobileError(BAD_PARAMETERS)

        def change() -> None:
            self.actions.rate = numbers[0]

        raise Result("OK", change)  # the answer still comes at the old rate

    def _quiet(self, form: str, given: str) -> list[str]:
        return []  # taken, and without effect here
