"""A simulated modem's data connection: PPP to the host, an IP gateway behind it, and the ways in which it ends."""

import time
from collections.abc import Callable

from host_tools.sim.clock import SimClock
from host_tools.sim.ip_gateway import IpGateway
from host_tools.sim.loop import Loop
from host_tools.sim.modem_network import Conditions
from host_tools.sim.ppp import Ppp, Side

GATEWAY = "10.64.64.1"  # stands for the host's 127.0.0.1, and is the name server
ADDRESS = "10.64.64.2"
ESCAPE_S = 1.0  # guard time around +++ (V.250's S12), virtual seconds
RESTART_REAL_S = 0.3  # PPP's and TCP's timers are virtual, but the host's scheduler is no part of the network
GOODBYE_S = 1.0  # what the host has to agree to the end of PPP
GOODBYE_REAL_S = 0.2
HANG_UP_S = 0.2


class Call:
    """From CONNECT to NO CARRIER. Used in its loop's thread.

    Args:
        loop: its thread.
        clock: the simulation's.
        conditions: user and key, and when the carrier is lost.
        write: takes bytes for the line, while it is in data mode.
        on_end: called once, when it is over.
        on_lost: called when it is the carrier that goes.
        on_escape: called when the host has asked for command mode.
    """

    def __init__(
        self,
        loop: Loop,
        clock: SimClock,
        conditions: Conditions,
        *,
        write: Callable[[bytes], None],
        on_end: Callable[[], None],
        on_lost: Callable[[], None],
        on_escape: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._clock = clock
        self._conditions = conditions
        self._line = write
        self._on_end = on_end
        self._on_lost = on_lost
        self._on_escape = on_escape
        self._began = clock.now()
        self._bytes = 0
        self._held = False
        self._over = False
        self._leaving = False
        self._pluses = b""
        self._heard_at = time.monotonic()
        self._guard_s = max(0.05, clock.real_delay(ESCAPE_S))
        gateway_rto_s = max(RESTART_REAL_S, clock.real_delay(1.5))
        self._gateway = IpGateway(loop, GATEWAY, self._send_ip, gateway_rto_s)
        side = Side(GATEWAY, ADDRESS, GATEWAY, conditions.user, conditions.key)
        restart_s = max(RESTART_REAL_S, clock.real_delay(3.0))
        self._ppp = Ppp(side, self._write, self._gateway.packet, self._changed, restart_s)
        self._ppp.open(time.monotonic())

    @property
    def held(self) -> bool:
        """Whether the line is in command mode meanwhile."""
        return self._held

    def resume(self) -> None:
        """Back into data mode (ATO)."""
        self._held = False
        self._pluses = b""

    def feed(self, data: bytes) -> None:
        """Bytes from the host in data mode."""
        now = time.monotonic()
        quiet, self._heard_at = now - self._heard_at, now
        begun = self._pluses + data
        if begun in (b"+", b"++", b"+++") and (self._pluses or quiet >= self._guard_s):
            self._pluses = begun
            if begun == b"+++":
                self._loop.at(now + self._guard_s, lambda: self._escape(now))
            return
        self._pluses = b""
        self._count(len(begun))
        if not self._over:
            self._ppp.feed(begun, now)

    def _escape(self, heard_at: float) -> None:
        if self._pluses == b"+++" and self._heard_at == heard_at and not self._over:
            self._pluses = b""
            self._held = True
            self._on_escape()

    def tick(self) -> None:
        """Do what is due."""
        if self._over:
            return
        self._ppp.tick(time.monotonic())
        limit = self._conditions.drop_after_s
        if limit is not None and self._clock.now() - self._began >= limit:
            self.lose_carrier()

    def lose_carrier(self) -> None:
        """The network is gone. Most modems end PPP in good order then; some just stop."""
        if self._over or self._leaving:
            return
        self._leaving = True
        self._on_lost()
        if self._conditions.drop_abruptly or self._held or not self._ppp.running:
            self.end()
            return
        self._gateway.close()
        self._ppp.close(time.monotonic())
        self._loop.at(time.monotonic() + max(GOODBYE_REAL_S, self._clock.real_delay(GOODBYE_S)), self.end)

    def end(self) -> None:
        """It is over."""
        if not self._over:
            self._over = True
            self._gateway.close()
            self._on_end()

    def _count(self, n: int) -> None:
        self._bytes += n
        limit = self._conditions.drop_after_bytes
        if limit is not None and self._bytes >= limit:
            self.lose_carrier()

    def _write(self, data: bytes) -> None:
        if not self._held and not self._over:
            self._line(data)
            if not self._leaving:
                self._count(len(data))

    def _send_ip(self, packet: bytes) -> None:
        self._ppp.send_ip(packet)

    def _changed(self) -> None:
        if not self._ppp.running:
            # the acknowledgement of the end goes first, and the host gets to see it before there is text
            self._loop.at(time.monotonic() + max(0.03, self._clock.real_delay(HANG_UP_S)), self.end)
