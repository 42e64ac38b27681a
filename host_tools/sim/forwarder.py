"""A simulated LoRa gateway: a concentrator on the ether and a packet forwarder that speaks Semtech's UDP protocol.

Owns what the reference forwarder does between its radio and its server: PUSH_DATA for what it heard, PULL_DATA to keep
the way down open, a queue of planned transmissions with its reasons to refuse one (TX_ACK). Its server may be ours
(`host_tools.gateway.bridge`) or any other.

The concentrator's clock (`tmst`) counts microseconds of virtual time. Whether a downlink is too late is decided on that
clock, less `slack_s` of real time, because the answer is due on the air and not in this process: when time runs twenty
times as fast, a thread that wakes 10 ms late is 200 ms late.
"""

import contextlib
import secrets
import socket
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Any

from host_tools.gateway import semtech_udp
from host_tools.gateway.semtech_udp import (
    DatagramRefused,
    PullAck,
    PullData,
    PullResp,
    PushAck,
    PushData,
    Rxpk,
    Stat,
    TxAck,
    Txpk,
)
from host_tools.sim.airtime import RadioError, RadioParams, airtime_s
from host_tools.sim.clock import SimClock
from host_tools.sim.ether_client import EtherClient, EtherError
from host_tools.sim.medium import Reception
from host_tools.sim.rules import PLANS
from sealwire import radio

VERSION = 2
KEEPALIVE_S = 5.0  # of real time, as are the others
STAT_S = 10.0
QUEUE_MAX = 32  # planned transmissions, as in the reference forwarder's queue
TOO_EARLY_S = 512.0  # virtual: the reference forwarder takes up to four beacon periods of 128 s
WRAP_US = 1 << 32
HIGHEST_DBM = 27
_TOKENS_MAX = 64


class Forwarder:
    """One gateway.

    Args:
        eui: its EUI-64, 16 lower-case hex digits.
        server: where its packet forwarder's server is, (host, UDP port).
        ether: the radio medium's server, (host, port).
        clock: the virtual clock of the simulation.
        channels_hz: what its concentrator listens to, all spreading factors at 125 kHz; default: the region's first 8.
        slack_s: real seconds by which a downlink may be late.
        region: where it sends and listens.
    """

    def __init__(
        self,
        eui: str,
        server: tuple[str, int],
        ether: tuple[str, int],
        clock: SimClock,
        channels_hz: Sequence[int] = (),
        slack_s: float = 0.1,
        region: str = "EU868",
    ) -> None:
        self.eui = eui
        self.server = server
        self.slack_s = slack_s
        self._ether = ether
        self._clock = clock
        self._channels_hz = tuple(channels_hz) or tuple(1000 * khz for khz in radio.region(region)[0][:8])
        self._bands = PLANS[region].sub_bands
        self._origin = clock.now()
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._planned: list[tuple[float, float]] = []  # start and end; of the reading thread alone
        self._unanswered: OrderedDict[int, str] = OrderedDict()
        self._stopping = threading.Event()
        self._pulled = threading.Event()
        self._socket: socket.socket | None = None
        self._radio: EtherClient | None = None
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> "Forwarder":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def radio_name(self) -> str:
        """What the ether calls it."""
        return f"gateway-{self.eui}"

    def start(self) -> None:
        """Switch the gateway on: connect to the ether and begin to pull.

        Raises:
            EtherError: the ether is not there.
            OSError: no socket.
        """
        self._stopping.clear()
        self._pulled.clear()
        self._radio = EtherClient(self._ether, self.radio_name, self._clock)
        try:
            family = socket.getaddrinfo(*self.server, type=socket.SOCK_DGRAM)[0][0]
            self._socket = socket.socket(family, socket.SOCK_DGRAM)
            self._socket.connect(self.server)
            self._socket.settimeout(0.25)
            self._radio.listen(self._channels_hz, self._heard, sync_word=radio.SYNC_WORD)
        except (OSError, EtherError):
            self.stop()
            raise
        for work in (self._read, self._keep_alive):
            thread = threading.Thread(target=work, name=f"forwarder-{self.eui}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def wait_connected(self, timeout_s: float = 10.0) -> bool:
        """Block until the server has answered a PULL_DATA, for at most so many real seconds."""
        return self._pulled.wait(timeout_s)

    def stop(self) -> None:
        """Switch it off. Also when it never ran."""
        self._stopping.set()
        if self._radio is not None:
            self._radio.close()
        for thread in self._threads:
            thread.join(5)
        self._threads.clear()
        if self._socket is not None:
            self._socket.close()
        self._radio = self._socket = None

    def statistics(self) -> dict[str, Any]:
        """Counts since the start, by the names that a `stat` has, and what became of PULL_RESPs by TX_ACK's names."""
        with self._lock:
            return dict(sorted(self._counts.items()))

    def tmst_us(self, virtual_s: float) -> int:
        """The concentrator's clock at a virtual Unix time."""
        return round((virtual_s - self._origin) * 1e6) % WRAP_US

    # From the air

    def _heard(self, heard: Reception) -> None:
        packet = Rxpk(
            data=heard.packet,
            tmst_us=self.tmst_us(heard.at),
            frequency_hz=heard.params.frequency_hz,
            data_rate=heard.params.data_rate,
            rssi=heard.rssi,
            snr=heard.snr,
            coding_rate=f"4/{heard.params.coding_rate}",
        )
        with self._lock:
            self._counts.update(rxnb=1, rxok=1, rxfw=1)
        self._push(PushData(self._token("push"), VERSION, self.eui, (packet,)))

    def _push(self, message: PushData) -> None:
        with self._lock:
            self._counts["pushed"] += 1
        self._send(message.to_bytes())

    def _keep_alive(self) -> None:
        stat_at = time.monotonic() + STAT_S
        while not self._stopping.is_set():
            self._send(PullData(self._token("pull"), VERSION, self.eui).to_bytes())
            if time.monotonic() >= stat_at:
                stat_at += STAT_S
                self._push(PushData(self._token("push"), VERSION, self.eui, stat=self._stat()))
            # until the server answers, ask more often: it may not have been up at the first try
            self._stopping.wait(KEEPALIVE_S if self._pulled.is_set() else 0.25)

    def _stat(self) -> Stat:
        with self._lock:
            counts = self._counts
            acknowledged = 100.0 * counts["push_acks"] / max(1, counts["pushed"])
            return Stat(
                counts["rxnb"], counts["rxok"], counts["rxfw"], round(acknowledged, 1), counts["dwnb"], counts["txnb"]
            )

    def _token(self, kind: str) -> int:
        token = secrets.randbelow(1 << 16)
        with self._lock:
            self._unanswered[token] = kind
            if len(self._unanswered) > _TOKENS_MAX:
                self._unanswered.popitem(last=False)
        return token

    # To the air

    def _read(self) -> None:
        assert self._socket is not None
        while not self._stopping.is_set():
            try:
                datagram = self._socket.recv(semtech_udp.SMALL_DATAGRAM_MAX + 1)
            except TimeoutError:
                continue
            except OSError:  # the server is not there yet: the kernel passes its host's ICMP message on
                self._stopping.wait(0.05)
                continue
            try:
                self._take(datagram)
            except DatagramRefused as refusal:
                with self._lock:
                    self._counts[f"refused_{refusal.reason}"] += 1

    def _take(self, datagram: bytes) -> None:
        message = semtech_udp.decode_downstream(datagram)
        if isinstance(message, PullResp):
            error = self._plan(message.txpk)  # not under the lock, which the ether's answer may have to wait for
            with self._lock:
                self._counts.update(("dwnb", "txnb" if error == "NONE" else error))
            self._send(TxAck(message.token, VERSION, self.eui, error).to_bytes())
            return
        with self._lock:
            expected = "pull" if isinstance(message, PullAck) else "push"
            if self._unanswered.get(message.token) != expected:
                self._counts["refused_token"] += 1
                return
            del self._unanswered[message.token]
            self._counts["push_acks" if isinstance(message, PushAck) else "pull_acks"] += 1
        if isinstance(message, PullAck):
            self._pulled.set()

    def _plan(self, txpk: Txpk) -> str:
        """Put a packet on the air at its time; the word for TX_ACK."""
        now = self._clock.now()
        if txpk.by_gps:
            return "GPS_UNLOCKED"
        start = now if txpk.tmst_us is None else self._virtual(txpk.tmst_us, now)
        if start < now - self.slack_s * self._clock.speed:
            return "TOO_LATE"
        if start > now + TOO_EARLY_S:
            return "TOO_EARLY"
        if not self._bands[0].low_hz <= txpk.frequency_hz <= self._bands[-1].high_hz:
            return "TX_FREQ"
        if txpk.power_dbm > HIGHEST_DBM:
            return "TX_POWER"
        try:
            params = transmit_params(txpk)
        except RadioError:
            return "TX_FREQ"
        end = start + airtime_s(params, len(txpk.data))
        self._planned = [(s, e) for s, e in self._planned if e > now - 60]
        if len(self._planned) >= QUEUE_MAX or any(s < end and start < e for s, e in self._planned):
            return "COLLISION_PACKET"
        assert self._radio is not None
        try:
            self._radio.transmit(txpk.data, params, at=start)
        except EtherError:
            return "COLLISION_PACKET"
        self._planned.append((start, end))
        return "NONE"

    def _virtual(self, tmst_us: int, now: float) -> float:
        """The virtual time nearest to now at which the concentrator's clock shows `tmst_us`."""
        ahead_us = (tmst_us - self.tmst_us(now)) % WRAP_US
        if ahead_us >= WRAP_US // 2:
            ahead_us -= WRAP_US
        return now + ahead_us / 1e6

    def _send(self, datagram: bytes) -> None:
        assert self._socket is not None
        with contextlib.suppress(OSError):  # UDP promises nothing
            self._socket.send(datagram)


def transmit_params(txpk: Txpk) -> RadioParams:
    """How the concentrator modulates a packet; RadioError where it cannot."""
    spreading, _, bandwidth = txpk.data_rate.removeprefix("SF").partition("BW")
    return RadioParams(
        frequency_hz=txpk.frequency_hz,
        sf=int(spreading),
        bw_hz=int(bandwidth) * 1000,
        coding_rate=int(txpk.coding_rate[-1]),
        preamble_len=txpk.preamble_len,
        crc=txpk.crc,
        invert_iq=txpk.invert_iq,
        power_dbm=txpk.power_dbm,
        sync_word=radio.SYNC_WORD,
    )
