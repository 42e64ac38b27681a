"""The virtual chip's Wi-Fi station, and the one access point there is.

Behaves as MicroPython's `network.WLAN` on the ESP32 shows it (`ports/esp32/network_wlan.c`): an attempt that fails is
followed by the next one until `reconnects` are used up, `status` tells the reason of the last failure, and `connect`
during an attempt is refused. Everything happens at virtual times and is worked out when somebody looks. Moves no data:
sockets are the host's own, and ask here whether they may be used (`host_tools/sim/micropython/socket.py`).
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

# network.STAT_*; below 1000 esp_wifi_types.h's wifi_err_reason_t
IDLE, CONNECTING, GOT_IP = 1000, 1001, 1010
ASSOC_LEAVE, BEACON_TIMEOUT, NO_AP_FOUND, AUTH_FAIL = 8, 200, 201, 202
SHOWN = (NO_AP_FOUND, AUTH_FAIL)  # while it goes on trying
SSID_MAX = 32
ASSOCIATION_S = (2.0, 4.0)  # scan, authentication, DHCP
SEARCH_S = 2.4  # all channels
REFUSAL_S = 3.6  # a handshake with the wrong key
RSSI_DBM = -58
CHANNEL = 6
BSSID = bytes.fromhex("020000000001")
OPEN, WPA2 = 0, 3  # network.AUTH_*
FOREVER = -1


class WifiError(Exception):
    """The driver refuses; the text is what MicroPython's OSError says."""


@dataclass
class AccessPoint:
    """What there is to connect to; `up` is whether it is in range. An empty key: open."""

    ssid: str
    key: str
    up: bool = True


class Station:
    """The chip's interface.

    Args:
        now: virtual time in seconds.
        point: the access point, or None.
        seed: makes the times that associations take repeatable.

    Attributes:
        association: counts associations; a socket of an earlier one is dead.
    """

    def __init__(self, now: Callable[[], float], point: AccessPoint | None, seed: int = 0) -> None:
        self._now = now
        self._point = point
        self._random = random.Random(seed)  # noqa: S311 - a simulation, no secret
        self.association = 0
        self.reset()

    def reset(self) -> None:
        """What every start of the processor does to it."""
        self.active = False
        self.ssid = ""
        self.reconnects = FOREVER
        self._key = ""
        self._reason = 0
        self._tries = 0
        self._wanted = False
        self._connected = False
        self._ends_at: float | None = None  # of the attempt

    def set_range(self, up: bool) -> None:
        """Bring the access point into range, or take it away."""
        if self._point is None:
            raise WifiError("there is no access point")
        self._advance()
        self._point.up = up
        self._advance()

    def set_active(self, active: bool) -> None:
        """Switch the radio."""
        self._advance()
        if not active:
            self._connected, self._wanted, self._ends_at = False, False, None
        self.active = active

    def connect(self, ssid: str | None, key: str | None) -> None:
        """Begin an attempt; None: with what it has.

        Raises:
            WifiError: the radio is off, or an attempt is going on.
        """
        self._advance()
        if not self.active:
            raise WifiError("Wifi Not Started")
        if self._ends_at is not None:
            raise WifiError("Wifi Internal State Error")
        if ssid is not None:
            self.ssid, self._key = ssid.encode()[:SSID_MAX].decode(errors="ignore"), key or ""
        if self._connected:
            if ssid is None:
                return
            self._connected = False
        self._wanted = True
        self._tries = 0
        self._begin(self._now())

    def disconnect(self) -> None:
        """End the association or the attempt."""
        self._advance()
        if not self.active:
            raise WifiError("Wifi Not Started")
        if self._connected or self._ends_at is not None:
            self._reason = ASSOC_LEAVE
        self._connected, self._wanted, self._ends_at = False, False, None

    def connected(self) -> bool:
        """Whether it has an address."""
        self._advance()
        return self._connected

    def status(self) -> int:
        """As `WLAN.status()`."""
        self._advance()
        if self._connected:
            return GOT_IP
        if self._reason in SHOWN:
            return self._reason
        if self._reason == ASSOC_LEAVE:
            return IDLE
        if self._wanted and (self.reconnects == FOREVER or self._tries <= self.reconnects):
            return CONNECTING
        return self._reason or IDLE

    def scan(self) -> list[AccessPoint]:
        """What is in range.

        Raises:
            WifiError: the radio is off.
        """
        if not self.active:
            raise WifiError("STA must be active")
        return [self._point] if self._point and self._point.up else []

    def _begin(self, at: float) -> None:
        point = self._point
        if point is None or not point.up or point.ssid != self.ssid:
            self._ends_at = at + SEARCH_S
        elif point.key != self._key:
            self._ends_at = at + REFUSAL_S
        else:
            self._ends_at = at + self._random.uniform(*ASSOCIATION_S)

    def _advance(self) -> None:
        now = self._now()
        point = self._point
        if self._connected and (point is None or not point.up):
            self._connected = False
            self._fail(BEACON_TIMEOUT, now)
        while self._ends_at is not None and self._ends_at <= now:
            at, self._ends_at = self._ends_at, None
            if point is None or not point.up or point.ssid != self.ssid:
                self._fail(NO_AP_FOUND, at)
            elif point.key != self._key:
                self._fail(AUTH_FAIL, at)
            else:
                self._connected = True
                self._reason = 0
                self.association += 1

    def _fail(self, reason: int, at: float) -> None:
        self._reason = reason
        self._tries += 1
        if self._wanted and (self.reconnects == FOREVER or self._tries <= self.reconnects):
            self._begin(at)
