"""The virtual board's LoRa modem, behind the board's `lora` module: one packet out, or a receiver that is switched on.

Who hears whom is the ether's. A board without an ether, or whose ether is gone, sends into the void and hears nothing,
as a modem without an antenna does.
"""

import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

from host_tools.sim.airtime import RadioError, RadioParams, airtime_s
from host_tools.sim.clock import SimClock
from host_tools.sim.ether_client import RECEIVE_MAX_S, EtherClient, EtherError
from host_tools.sim.medium import Reception

ABANDONED_POLL_S = 0.02
SILENCE_DBM = -117.0  # of a receiver without an antenna: thermal noise of 125 kHz and its own


@dataclass(frozen=True)
class Heard:
    """What the receiver has to say.

    Attributes:
        listening: it is still on.
        packet: what it received, once.
    """

    listening: bool
    packet: Reception | None = None


class Radio:
    """One modem. `close` ends its threads; after that it may be used again, as after a reset.

    Args:
        address: of the ether's server, or None.
        name: whose radio it is.
        clock: the simulation's clock.

    Attributes:
        faults: how often the ether refused or was gone.
    """

    def __init__(self, address: tuple[str, int] | None, name: str, clock: SimClock) -> None:
        self.faults = 0
        self._address = address
        self._name = name
        self._clock = clock
        self._client: EtherClient | None = None
        self._changed = threading.Condition()
        self._turn = 0  # counts receptions, so that an old one's thread cannot speak for a new one
        self._listening = False
        self._until = 0.0
        self._packets: list[Reception] = []

    def transmit(self, packet: bytes, params: RadioParams, at: float) -> float:
        """Send a packet that began at virtual time `at`; returns when it ends, virtual Unix seconds."""
        self.standby()
        client = self._connected()
        if client is not None:
            try:
                return client.transmit(packet, params, at).end
            except (EtherError, RadioError):
                self.faults += 1
        return at + airtime_s(params, len(packet))

    def listen(self, params: RadioParams, at: float, timeout_s: float | None, continuous: bool) -> None:
        """Switch the receiver on at virtual time `at`, for one packet or until it is switched off."""
        self.standby()
        client = self._connected()
        with self._changed:
            self._turn += 1
            self._listening = True
            self._until = at + (RECEIVE_MAX_S if timeout_s is None else timeout_s)
            turn = self._turn
        if client is not None:
            arguments = (client, params, at, turn, continuous)
            threading.Thread(target=self._receive, args=arguments, name=f"radio-{self._name}", daemon=True).start()

    def sense(self, params: RadioParams, at: float) -> tuple[float, bool]:
        """The level on the channel in dBm, and whether LoRa symbols are there, at virtual time `at`."""
        client = self._connected()
        if client is not None:
            try:
                return client.sense(params, at)
            except (EtherError, RadioError):
                self.faults += 1
        return SILENCE_DBM, False

    def poll(self) -> Heard:
        """What the receiver has to say now."""
        with self._changed:
            return self._heard()

    def wait(self, abandoned: Callable[[], bool]) -> Heard | None:
        """Block until the receiver has something to say; None if `abandoned` becomes true meanwhile."""
        with self._changed:
            while True:
                heard = self._heard()
                if heard.packet is not None or not heard.listening:
                    return heard
                if abandoned():
                    return None
                left = self._clock.real_delay(self._until - self._clock.now()) if self._client is None else 1.0
                self._changed.wait(min(ABANDONED_POLL_S, left + 0.001))

    def standby(self) -> None:
        """Switch the receiver off; what it had received and nobody took is lost."""
        with self._changed:
            busy = self._listening and self._client is not None
            self._listening = False
            self._turn += 1
            self._packets.clear()
        if busy:
            # the ether can be told to stop a reception only by leaving it
            self.close()

    def close(self) -> None:
        """Leave the ether."""
        with self._changed:
            client, self._client = self._client, None
            self._listening = False
            self._turn += 1
            self._packets.clear()
        if client is not None:
            client.close()

    def _connected(self) -> EtherClient | None:
        if self._client is None and self._address is not None:
            try:
                self._client = EtherClient(self._address, self._name, self._clock)
            except EtherError:
                self.faults += 1
        return self._client

    def _heard(self) -> Heard:
        if self._packets:
            return Heard(self._listening, self._packets.pop(0))
        if self._listening and self._client is None and self._clock.now() >= self._until:
            self._listening = False
        return Heard(self._listening)

    def _receive(self, client: EtherClient, params: RadioParams, at: float, turn: int, continuous: bool) -> None:
        while True:
            packet: Reception | None = None
            failed = False
            try:
                packet = client.receive(params, min(max(0.0, self._until - at), RECEIVE_MAX_S), at)
            except EtherError:
                failed = True
            with self._changed:
                if turn != self._turn:
                    return
                if failed:
                    # the ether has gone: hear nothing until the time is over
                    self.faults += 1
                    self._client = None
                    self._changed.notify_all()
                    return
                if packet is not None:
                    self._packets.append(packet)
                self._listening = continuous and packet is not None
                self._changed.notify_all()
                if not self._listening:
                    return
            at = self._clock.now()


def decode_params(body: bytes) -> RadioParams:
    """The modem's settings as the board's `lora` module packs them (`>IBIBHBbH`).

    Raises:
        RadioError: no modem has these settings.
    """
    frequency_hz, sf, bw_hz, coding_rate, preamble_len, flags, power_dbm, sync_word = struct.unpack(">IBIBHBbH", body)
    if sync_word > 0xFF:
        # SX126x writes 0xYZ as 0xY4Z4: datasheet table 12-1
        sync_word = sync_word >> 8 & 0xF0 | sync_word >> 4 & 0x0F
    return RadioParams(
        frequency_hz,
        sf,
        bw_hz,
        coding_rate,
        preamble_len,
        bool(flags & 1),
        bool(flags & 2),
        power_dbm,
        sync_word,
        bool(flags & 4),
    )
