"""The SIM card and the network that a simulated modem sees: PIN and PUK, registration, what goes wrong with them.

Everything happens at virtual times and is worked out when somebody looks. What a modem says about it is in
`host_tools.sim.modem_commands`.
"""

from collections.abc import Callable
from dataclasses import dataclass

PIN_TRIES = 3
PUK_TRIES = 10
SIM_READY_S = 1.0  # after the modem's start

# 3GPP TS 27.007 section 7.2, <stat>
IDLE, HOME, SEARCHING, DENIED, ROAMING = 0, 1, 2, 3, 5


@dataclass
class Conditions:
    """What a modem meets. Any of it may be changed while it runs.

    Attributes:
        sim: whether there is a card.
        attach_delay_s: from the search to the registration, virtual seconds.
        no_service: no network is found.
        denied: the network refuses the registration.
        roaming: the network is not the card's own.
        rat: the only radio access there is: "cat-m" or "nb-iot".
        band: and its band.
        apn: what the network takes; None: any.
        user, key: what its PPP demands by PAP; None: nothing.
        offset_quarters: of the network's time zone.
        drop_after_bytes, drop_after_s: the carrier is lost in each data connection after so many bytes (both ways
            together) or virtual seconds; None: never.
        drop_abruptly: without a word of PPP, as in a tunnel; else the modem terminates the link first.
        garbage: the chance that noise comes before a line.
        cut: the chance that a line of the modem loses its end.
        pieces: lines come in pieces of a few bytes.
        deaf: nothing is answered.
    """

    sim: bool = True
    attach_delay_s: float = 3.0
    no_service: bool = False
    denied: bool = False
    roaming: bool = False
    rat: str = "cat-m"
    band: int = 20
    apn: str | None = None
    user: str | None = None
    key: str = ""
    offset_quarters: int = 0
    drop_after_bytes: int | None = None
    drop_after_s: float | None = None
    drop_abruptly: bool = False
    garbage: float = 0.0
    cut: float = 0.0
    pieces: bool = False
    deaf: bool = False


class Sim:
    """A card, which outlives the modem's power.

    Args:
        pin: its PIN; empty: it asks for none.
        puk: ends its blocking after three wrong PINs.
    """

    def __init__(self, pin: str = "", puk: str = "12345678") -> None:
        self._pin = pin
        self._puk = puk
        self.enabled = bool(pin)
        self.pin_tries = PIN_TRIES
        self.puk_tries = PUK_TRIES
        self.open = not pin

    def reset(self) -> None:
        """The modem has been switched on."""
        self.open = not self.enabled and self.pin_tries > 0

    @property
    def asks(self) -> str:
        """What it waits for, as +CPIN? says it."""
        if not self.puk_tries:
            return "SIM FAILURE"
        if not self.pin_tries:
            return "SIM PUK"
        return "READY" if self.open else "SIM PIN"

    def enter_pin(self, pin: str) -> bool:
        """Try a PIN."""
        if not self.pin_tries:
            return False
        if pin != self._pin:
            self.pin_tries -= 1
            self.open = self.open and self.pin_tries > 0
            return False
        self.pin_tries = PIN_TRIES
        self.open = True
        return True

    def enter_puk(self, puk: str, new_pin: str) -> bool:
        """Try a PUK."""
        if not self.puk_tries:
            return False
        if puk != self._puk:
            self.puk_tries -= 1
            return False
        self._pin, self.puk_tries, self.pin_tries, self.open = new_pin, PUK_TRIES, PIN_TRIES, True
        return True


class Registration:
    """Where the modem stands with the network.

    Args:
        conditions: what it meets.
        sim: the card.
        now: virtual time in seconds.

    Attributes:
        radio: the modem's +CFUN is 1.
        attached: +CGATT is not 0.
        rats: the radio accesses that it may use.
        bands: rat → the bands that it searches; empty: all.
    """

    def __init__(self, conditions: Conditions, sim: Sim, now: Callable[[], float]) -> None:
        self._conditions = conditions
        self._sim = sim
        self._now = now
        self.radio = True
        self.attached = True
        self.automatic = True
        self.rats: tuple[str, ...] = ("cat-m", "nb-iot")
        self.bands: dict[str, tuple[int, ...]] = {}
        self._searching_since: float | None = None
        self._registered = False

    def restart(self) -> None:
        """Search anew: the modem was switched on, or told to, or has lost the network."""
        self._registered = False
        self._searching_since = None

    @property
    def covered(self) -> bool:
        """Whether there is a network that it may use."""
        conditions = self._conditions
        bands = self.bands.get(conditions.rat, ())
        return not conditions.no_service and conditions.rat in self.rats and (not bands or conditions.band in bands)

    @property
    def stat(self) -> int:
        """As +CEREG says it."""
        ready = self.radio and self._conditions.sim and self._sim.open and self.automatic and self.attached
        if not ready:
            self.restart()
            return IDLE
        now = self._now()
        if self._searching_since is None:
            self._searching_since = now
        if not self.covered:
            self._registered = False
            self._searching_since = now
            return SEARCHING
        if not self._registered and now - self._searching_since < self._conditions.attach_delay_s:
            return SEARCHING
        if self._conditions.denied:
            return DENIED
        self._registered = True
        return ROAMING if self._conditions.roaming else HOME

    @property
    def registered(self) -> bool:
        """Whether data can pass."""
        return self.stat in (HOME, ROAMING)

    @property
    def signal(self) -> int:
        """As +CSQ says it (27.007 section 8.5); 99: unknown."""
        return 20 if self.radio and self.covered and self._conditions.sim else 99
