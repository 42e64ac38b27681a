"""What a simulated modem answers to AT commands: the common ones (3GPP TS 27.007, ITU-T V.250).

A command comes as its name and what follows; a handler gives the lines of information, or raises what the modem says
instead of OK. Vendors' own commands are in `host_tools.sim.modem_vendors`; power, line and data mode in
`host_tools.sim.modem`, which a handler asks for through `Actions`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from host_tools.sim.modem_network import Conditions, Registration, Sim

IMEI, IMSI, ICCID = "860016040000007", "001010123456789", "8900101000000000007"
PLMN, OPERATOR, TAC, CELL = "00101", "Test PLMN 1-1", "1A2B", "01A2D001"
CONTEXTS_MAX = 15
RATES = (0, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600)  # 0: it takes the host's
# 27.007 section 9.2
NOT_ALLOWED, NO_SIM, NEEDS_PIN, NEEDS_PUK, SIM_FAILURE, WRONG_PASSWORD = 3, 10, 11, 12, 13, 16
NO_NETWORK, BAD_PARAMETERS, UNKNOWN, UNSPECIFIED_DATA = 30, 50, 100, 148
TEXTS = {
    NOT_ALLOWED: "operation not allowed",
    NO_SIM: "SIM not inserted",
    NEEDS_PIN: "SIM PIN required",
    NEEDS_PUK: "SIM PUK required",
    SIM_FAILURE: "SIM failure",
    WRONG_PASSWORD: "incorrect password",
    NO_NETWORK: "no network service",
    BAD_PARAMETERS: "Incorrect parameters",
    UNKNOWN: "unknown",
    UNSPECIFIED_DATA: "unspecified GPRS error",
}


class CommandError(Exception):
    """The modem says ERROR."""


class MobileError(Exception):
    """The modem says +CME ERROR with this number."""

    def __init__(self, code: int) -> None:
        super().__init__(TEXTS.get(code, TEXTS[UNKNOWN]))
        self.code = code


class Result(Exception):
    """The modem says this in place of OK, and may do something then."""

    def __init__(self, text: str | None, then: Callable[[], None] | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.then = then


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


_COMMAND = re.compile(r"([A-Za-z]\d*|[&\\][A-Za-z]\d*|[+*][A-Za-z]+)(\?|=\?|=(.*))?", re.DOTALL)
Handler = Callable[[str, str], list[str]]


class Commands:
    """One modem's.

    Args:
        actions: the modem.
        conditions, sim, registration: what it sees.
        now: virtual Unix time.

    Attributes:
        settings: as commands have set them.
    """

    TYPE = ""
    MODEL = ""
    IDENTITY: tuple[str, ...] = ()
    ACCESS = {"cat-m": 7, "nb-iot": 9}  # <AcT>
    QUOTED_ADDRESS = True
    EDRX_TYPES = {"cat-m": 4, "nb-iot": 5}  # 27.007 section 7.40

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
        self.handlers: dict[str, Handler] = {
            name: getattr(self, f"_{method}") for name, method in {**_COMMON, **self.vendor()}.items()
        }
        self.reset()

    def vendor(self) -> dict[str, str]:
        """The vendor's commands: name → method without its underscore."""
        return {}

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

    # the network

    def _signal(self, form: str, given: str) -> list[str]:
        rssi = self.registration.signal
        return [f"+CSQ: {rssi},{99 if rssi == 99 else 0}"]

    def _extended_signal(self, form: str, given: str) -> list[str]:
        # 27.007 section 8.69: RSRQ in half dB from -19.5, RSRP in dB from -140
        return ["+CESQ: 99,99,255,255,255,255" if self.registration.signal == 99 else "+CESQ: 99,99,255,255,19,46"]

    def _operator(self, form: str, given: str) -> list[str]:
        registration, settings = self.registration, self.settings
        access = self.ACCESS[self.conditions.rat]
        if form == "=?":
            if not registration.covered:
                return ["+COPS: ,,(0,1,2,3,4),(0,1,2)"]
            status = 3 if self.conditions.denied else 2
            return [f'+COPS: ({status},"{OPERATOR}","Test","{PLMN}",{access}),,(0,1,2,3,4),(0,1,2)']
        if form == "?":
            mode = 0 if registration.automatic else 2
            if not registration.registered:
                return [f"+COPS: {mode}"]
            name = (OPERATOR, "Test", PLMN)[settings.cops_format]
            return [f'+COPS: {mode},{settings.cops_format},"{name}",{access}']
        parts = arguments(given)
        if not parts or parts[0] not in ("0", "1", "2", "3", "4"):
            raise MobileError(BAD_PARAMETERS)
        if len(parts) > 1 and parts[1]:
            if parts[1] not in ("0", "1", "2"):
                raise MobileError(BAD_PARAMETERS)
            settings.cops_format = int(parts[1])
        if parts[0] == "3":
            return []
        if parts[0] == "1" and (len(parts) < 3 or parts[2] not in (PLMN, OPERATOR, "Test")):
            raise MobileError(NO_NETWORK)
        registration.automatic = parts[0] != "2"
        registration.restart()
        return []

    def report(self, name: str, n: int, *, unsolicited: bool) -> str:
        """A line of +CREG, +CGREG or +CEREG."""
        stat = self.registration.stat
        text = f"{name}: {stat}" if unsolicited else f"{name}: {n},{stat}"
        if n >= 2 and stat in (1, 5):
            text += f',"{TAC}","{CELL}",{self.ACCESS[self.conditions.rat]}'
        return text

    def _registered(self, name: str) -> Handler:
        def handle(form: str, given: str) -> list[str]:
            n = self.settings.reports.get(name, 0)
            if form == "?":
                return [self.report(name, n, unsolicited=False)]
            if form == "=?":
                return [f"{name}: (0-2)"]
            numbers = integers(given)
            if len(numbers) != 1 or not 0 <= numbers[0] <= 2:
                raise MobileError(BAD_PARAMETERS)
            self.settings.reports[name] = numbers[0]
            return []

        return handle

    def _creg(self, form: str, given: str) -> list[str]:
        return self._registered("+CREG")(form, given)

    def _cgreg(self, form: str, given: str) -> list[str]:
        return self._registered("+CGREG")(form, given)

    def _cereg(self, form: str, given: str) -> list[str]:
        return self._registered("+CEREG")(form, given)

    # packet data

    def _context(self, form: str, given: str) -> list[str]:
        contexts = self.settings.contexts
        if form == "?":
            return [f'+CGDCONT: {cid},"{kind}","{apn}","0.0.0.0",0,0' for cid, (kind, apn) in sorted(contexts.items())]
        if form == "=?":
            return [f'+CGDCONT: (1-{CONTEXTS_MAX}),"IP",,,(0),(0)']
        parts = arguments(given)
        if not parts or not parts[0].isdigit() or not 1 <= int(parts[0]) <= CONTEXTS_MAX:
            raise MobileError(BAD_PARAMETERS)
        cid = int(parts[0])
        if len(parts) == 1:
            contexts.pop(cid, None)
            return []
        if parts[1].upper() not in ("IP", "IPV6", "IPV4V6", "PPP", "NON-IP") or len(parts[2:3] and parts[2]) > 100:
            raise MobileError(BAD_PARAMETERS)
        contexts[cid] = (parts[1].upper(), parts[2] if len(parts) > 2 else "")
        return []

    def _attached(self, form: str, given: str) -> list[str]:
        if form == "?":
            return [f"+CGATT: {int(self.registration.registered)}"]
        if form == "=?":
            return ["+CGATT: (0,1)"]
        numbers = integers(given)
        if numbers not in ([0], [1]):
            raise MobileError(BAD_PARAMETERS)
        self.need_sim()
        self.registration.attached = numbers == [1]
        if numbers == [0]:
            self.actions.hang_up()
            self.settings.active.clear()
        elif not self.registration.covered:
            raise MobileError(NO_NETWORK)
        return []

    def _active(self, form: str, given: str) -> list[str]:
        contexts, active = self.settings.contexts, self.settings.active
        if form == "?":
            return [f"+CGACT: {cid},{int(cid in active)}" for cid in sorted(contexts)]
        if form == "=?":
            return ["+CGACT: (0,1)"]
        numbers = integers(given)
        if not numbers or numbers[0] not in (0, 1):
            raise MobileError(BAD_PARAMETERS)
        chosen = numbers[1:] or sorted(contexts)
        if any(cid not in contexts for cid in chosen):
            raise MobileError(BAD_PARAMETERS)
        if numbers[0] == 0:
            active.difference_update(chosen)
            return []
        self.activate(chosen)
        return []

    def activate(self, chosen: list[int]) -> None:
        """Make contexts active.

        Raises:
            MobileError: there is no network, or it does not know the APN.
        """
        self.need_sim()
        if not self.registration.registered:
            raise MobileError(NO_NETWORK)
        expected = self.conditions.apn
        for cid in chosen:
            if expected is not None and self.settings.contexts[cid][1].lower() != expected.lower():
                raise MobileError(UNSPECIFIED_DATA)
        self.settings.active.update(chosen)

    def _address(self, form: str, given: str) -> list[str]:
        chosen = integers(given) if form == "=" else sorted(self.settings.contexts)
        quote = '"' if self.QUOTED_ADDRESS else ""
        address = self.actions.address
        none = "0.0.0.0"  # noqa: S104 - what the modem says of a context without an address
        return [f"+CGPADDR: {cid},{quote}{address if self.has_address(cid) else none}{quote}" for cid in chosen]

    def has_address(self, cid: int) -> bool:
        """Whether this context is active. The first one is from the registration on, as LTE has it."""
        return self.registration.registered and (cid in self.settings.active or cid == 1)

    def _call(self, form: str, given: str) -> list[str]:
        if form == "=?":
            return ['+CGDATA: "PPP"']
        parts = arguments(given)
        if not parts or parts[0].upper() != "PPP" or (len(parts) > 1 and not parts[1].isdigit()):
            raise MobileError(BAD_PARAMETERS)
        return self.dial(int(parts[1]) if len(parts) > 1 else 1)

    # time

    def network_time(self) -> datetime:
        """The network's local time."""
        return datetime.fromtimestamp(self.now(), UTC) + timedelta(minutes=15 * self.conditions.offset_quarters)

    def synchronised(self) -> None:
        """The network has told its time (NITZ), as it does at each registration."""
        self.time_known = True
        if self.takes_time():
            self.clock_offset_s = 0.0

    def takes_time(self) -> bool:
        """Whether the modem's clock follows the network."""
        return bool(self.settings.zone_update)

    def _clock(self, form: str, given: str) -> list[str]:
        if form == "?":
            return [f'+CCLK: "{self._clock_text()}"']
        if form == "=?":
            return []
        found = re.fullmatch(r'"(\d\d)/(\d\d)/(\d\d),(\d\d):(\d\d):(\d\d)(?:([+-])(\d\d))?"', given)
        if not found:
            raise MobileError(BAD_PARAMETERS)
        try:
            year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
            told = datetime(2000 + year, month, day, hour, minute, second, tzinfo=UTC)
        except ValueError as error:
            raise MobileError(BAD_PARAMETERS) from error
        self.clock_offset_s = told.timestamp() - self.network_time().timestamp()
        return []

    def _clock_text(self) -> str:
        if self.clock_offset_s is None:
            return "80/01/06,00:00:07+00"  # the GPS epoch: what Qualcomm's chips begin with
        told = self.network_time() + timedelta(seconds=self.clock_offset_s)
        return f"{told:%y/%m/%d,%H:%M:%S}{self.conditions.offset_quarters:+03d}"

    def _zone_update(self, form: str, given: str) -> list[str]:
        lines = self.flag("+CTZU", form, given, "zone_update", 3)
        if form == "=" and self.time_known and self.takes_time():
            self.clock_offset_s = 0.0
        return lines

    def _zone_reports(self, form: str, given: str) -> list[str]:
        return self.flag("+CTZR", form, given, "zone_reports", 2)

    # saving power

    def _saving(self, form: str, given: str) -> list[str]:
        psm = self.settings.psm
        if form == "?":
            return [f'+CPSMS: {psm[0]},,,"{psm[1]}","{psm[2]}"']
        if form == "=?":
            return ['+CPSMS: (0,1),,,("00000000"-"11111111"),("00000000"-"11111111")']
        parts = arguments(given) if given else ["0"]
        timers = [part for part in parts[3:5] if part]
        if parts[0] not in ("0", "1", "2") or not all(re.fullmatch("[01]{8}", timer) for timer in timers):
            raise MobileError(BAD_PARAMETERS)
        psm[0] = "1" if parts[0] == "1" else "0"
        for at, timer in enumerate(parts[3:5], 1):
            psm[at] = timer or psm[at]
        return []

    def psm_idle_s(self) -> float | None:
        """After how much idleness it sleeps (T3324, 3GPP TS 24.008 table 10.5.172); None: it does not."""
        mode, _, active = self.settings.psm
        unit, value = int(active[:3], 2), int(active[3:], 2)
        if mode != "1" or unit == 7:
            return None
        return value * {0: 2, 1: 60, 2: 360}.get(unit, 60)

    def _discontinuous(self, form: str, given: str) -> list[str]:
        edrx = self.settings.edrx
        if form == "?":
            return [f'+CEDRXS: {kind},"{value}"' for kind, value in sorted(edrx.items())]
        if form == "=?":
            return ['+CEDRXS: (0-3),(4,5),("0000"-"1111")']
        parts = arguments(given) if given else ["0"]
        if parts[0] not in ("0", "1", "2", "3"):
            raise MobileError(BAD_PARAMETERS)
        if parts[0] in ("0", "3"):
            edrx.clear()
            return []
        if len(parts) < 3 or parts[1] not in ("4", "5") or not re.fullmatch("[01]{4}", parts[2]):
            raise MobileError(BAD_PARAMETERS)
        edrx[int(parts[1])] = parts[2]
        return []


_COMMON = {
    "+CPIN": "pin",
    "+CIMI": "imsi",
    "+CGMM": "model",
    "+GMM": "model",
    "+GSN": "serial",
    "+CGSN": "serial",
    "+CFUN": "function",
    "+CMEE": "errors",
    "+CSQ": "signal",
    "+CESQ": "extended_signal",
    "+COPS": "operator",
    "+CREG": "creg",
    "+CGREG": "cgreg",
    "+CEREG": "cereg",
    "+CGDCONT": "context",
    "+CGATT": "attached",
    "+CGACT": "active",
    "+CGPADDR": "address",
    "+CGDATA": "call",
    "+CCLK": "clock",
    "+CTZU": "zone_update",
    "+CTZR": "zone_reports",
    "+CPSMS": "saving",
    "+CEDRXS": "discontinuous",
    "+IPR": "rate",
    "+IFC": "quiet",
    "+ICF": "quiet",
    "+CSCLK": "quiet",
    "+CGEREP": "quiet",
}


def arguments(text: str) -> list[str]:
    """The values of a command, without their quotes.

    Raises:
        MobileError: a quote is not closed.
    """
    parts: list[str] = []
    rest = text.strip()
    while True:
        found = re.match(r'\s*(?:"([^"]*)"|([^",]*))\s*(,|$)', rest)
        if not found:
            raise MobileError(BAD_PARAMETERS)
        parts.append(found[1] if found[1] is not None else found[2].strip())
        rest = rest[found.end() :]
        if found[3] != ",":
            return parts


def integers(text: str) -> list[int]:
    """The values of a command that are all numbers.

    Raises:
        MobileError: one is not.
    """
    parts = arguments(text)
    if not all(re.fullmatch(r"\d{1,9}", part) for part in parts):
        raise MobileError(BAD_PARAMETERS)
    return [int(part) for part in parts]
