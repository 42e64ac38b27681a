"""One batch of what the broker delivered: whose is it, is it genuine, is it new, store it, answer it. No MQTT here.

Order matters: cheap checks first (topic, envelope, shape of the frame), then one look-up of the candidates of the
whole batch, then the tags. Everything that follows from frames that opened (rows, epochs, failures, downlink
counters, refusals) is one transaction. What `process` returns may leave the process only because that was committed;
if it raises, nothing was stored and the same batch can be processed again.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from django.db import transaction

from host_tools.gateway.envelope import Downlink, EnvelopeError, Uplink, downlink_topic
from host_tools.ingest import store, sync
from host_tools.ingest.chains import Chains, Found, Key
from host_tools.ingest.decode import Message, MessageError, decode
from host_tools.ingest.hellos import HelloLimit
from host_tools.ingest.models import Frame
from host_tools.ingest.refusals import Reason, Refused
from host_tools.ingest.unseal import Opened, open_uplink, parse, seal_downlink
from provisioning.registry.vault import Vault
from sealwire.frame import KIND_HELLO
from sealwire.frame import Frame as Parts
from sealwire.keys import FAILED_OPENINGS_MAX
from sealwire.radio import EU868_POWER_DBM, RX1_DELAY_MS

RX1_DELAY_S = RX1_DELAY_MS / 1000
# what bridge and gateway still need before the window opens
SEND_AHEAD_S = 0.2
# A frame that is stored already is answered again, so that a device which missed the answer can let go of it, but not
# sooner than its window is over: what comes before is another gateway's copy, another worker's, or a flood of replays.
ANSWER_AGAIN_S = RX1_DELAY_S - 1
COPY_S = 2.0  # how far apart two gateways may tell of one transmission
FUTURE_S = 86400  # a sample may lie this far ahead of our clock; beyond, the device's clock is not to be believed

_DEVICE_TOPIC = re.compile(r"sb/v1/d/([0-9a-f]{16})/up", re.ASCII)


def device_downlink_topic(eui: bytes) -> str:
    """Where a device that speaks MQTT itself listens."""
    return f"sb/v1/d/{eui.hex()}/down"


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message of the broker.

    Attributes:
        at: when it came, Unix seconds.
        redelivered: the broker says that an earlier delivery was never acknowledged.
    """

    topic: str
    payload: bytes
    at: float
    redelivered: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """A frame that was new, opened, and is committed."""

    eui: str
    epoch: int
    ctr: int
    received_at: float
    message: Message | None
    fault: str
    link: str
    gateway: str
    rssi: float | None
    snr: float | None
    frame_len: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """An arrival that was not stored, and why; `eui` is "" unless its tag was right."""

    reason: Reason
    topic: str
    eui: str = ""


@dataclass(slots=True)
class Outcome:
    """What one batch came to.

    Attributes:
        publications: (topic, payload) of the syncs.
        late: answers that were not given because the receive window could not be met any more.
        unanswerable: answers that were not given because the epoch has no downlink counter left.
    """

    stored: list[Stored] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    publications: list[tuple[str, bytes]] = field(default_factory=list)
    opened: int = 0
    late: int = 0
    unanswerable: int = 0


@dataclass(frozen=True, slots=True)
class _Heard:
    """A frame that looks like one."""

    arrival: Arrival
    frame: bytes
    parts: Parts
    uplink: Uplink | None  # None: the device's own topic
    eui: bytes | None  # whose topic it was

    @property
    def received_at(self) -> float:
        # Nothing was heard after it came here: a gateway whose clock is ahead, or that lies, must not set a device's
        # clock or draw all answers to itself.
        return min(self.uplink.received_at, self.arrival.at) if self.uplink else self.arrival.at


@dataclass(frozen=True, slots=True)
class _Genuine:
    """A frame that opened."""

    heard: _Heard
    key: Key
    opened: Opened
    row: store.Row
    message: Message | None


class Intake:
    """Processes batches, one after the other.

    Args:
        vault: opens chain keys, seals payloads.
        clock: Unix seconds.
        newest_release: newest release sequence of a model, for the sync; 0 when there is none.
    """

    def __init__(
        self, vault: Vault, clock: Callable[[], float], newest_release: Callable[[str], int] = lambda model: 0
    ) -> None:
        self.chains = Chains(vault, clock)
        self._payloads = store.Payloads(vault)
        self._clock = clock
        self._newest_release = newest_release
        self._hellos = HelloLimit()

    def process(self, arrivals: Sequence[Arrival]) -> Outcome:
        """Open and store a batch.

        Args:
            arrivals: at most a few hundred.

        Raises:
            django.db.OperationalError: the database could not be written; nothing was stored.
        """
        outcome = Outcome()
        genuine, failed = self._open(self._look(arrivals, outcome), outcome)
        outcome.opened = len(genuine)
        with transaction.atomic():
            new = store.insert(one.row for one in genuine)
            first = self._sort_out(genuine, new, outcome)
            self.chains.count_failures(failed)
            for device, epoch in _newest_epochs(first):
                self.chains.advance(device, epoch)
            newest = {one.row.device: one.row for one in sorted(first, key=lambda one: one.row.received_at_ms)}
            store.note_heard(newest.values())
            self._answer(genuine, new, outcome)
            counted = Counter(refusal.reason.value for refusal in outcome.refused)
            counted.update(one.fault for one in outcome.stored if one.fault)
            store.count_refusals(counted, self._now_ms())
        return outcome

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _look(self, arrivals: Iterable[Arrival], outcome: Outcome) -> list[_Heard]:
        heard = []
        for arrival in arrivals:
            try:
                heard.append(_heard(arrival))
            except Refused as refused:
                outcome.refused.append(Refusal(refused.reason, arrival.topic))
        return heard

    def _open(self, heard: list[_Heard], outcome: Outcome) -> tuple[list[_Genuine], list[Key]]:
        hellos = [one for one in heard if one.parts.kind == KIND_HELLO]
        data = [one for one in heard if one.parts.kind != KIND_HELLO]
        by_did = self.chains.by_pseudonym((one.parts.epoch_bits, one.parts.did) for one in data)
        by_eui = self.chains.by_eui((one.parts.eui, one.parts.epoch) for one in hellos)
        genuine: list[_Genuine] = []
        failed: list[Key] = []
        failures: Counter[tuple[int, int]] = Counter()
        for one in heard:
            parts = one.parts
            is_hello = parts.kind == KIND_HELLO
            found = by_eui[parts.eui, parts.epoch] if is_hello else by_did[parts.epoch_bits, parts.did]
            keys = _allowed(found, one, failures)
            try:
                if keys and is_hello and not self._hellos.allows(parts.eui, self._clock()):
                    raise Refused(Reason.TOO_MANY_HELLOS)
                if not keys:
                    raise Refused(Reason.KEY_EXHAUSTED if found.keys and not one.eui else found.reason)
                opened = open_uplink(one.frame, [key.candidate for key in keys])
            except Refused as refused:
                outcome.refused.append(Refusal(refused.reason, one.arrival.topic))
                if refused.reason is Reason.BAD_TAG:
                    # Only what opens under no key counts: a frame that opened under one of several keys is that
                    # device's, and it can send no more of them than its counter allows.
                    failed += keys
                    failures.update(key.number for key in keys)
                    if is_hello:
                        self._hellos.failed(parts.eui, self._clock())
                continue
            key = next(key for key in keys if key.candidate is opened.candidate)
            genuine.append(self._genuine(one, key, opened))
        return genuine, failed

    def _genuine(self, heard: _Heard, key: Key, opened: Opened) -> _Genuine:
        message, fault, span = None, "", None
        try:
            message = decode(opened.plaintext)
            span = message.span()
            if span and span[1] > sync.seconds(self._clock()) + FUTURE_S:
                fault = Reason.IMPLAUSIBLE_TIME.value
        except MessageError:
            # kept as it came, and acknowledged: the device would send it for ever, and a later version may read it
            fault = Reason.MALFORMED_MESSAGE.value
        candidate, uplink = opened.candidate, heard.uplink
        row = store.Row(
            device=key.device,
            epoch=candidate.epoch,
            ctr=opened.ctr,
            received_at_ms=int(heard.received_at * 1000),
            message_type=None if message is None else message.TYPE,
            fault=fault,
            t_first=span[0] if span else None,
            t_last=span[1] if span else None,
            payload_wrapped=self._payloads.wrap(opened.plaintext, candidate.eui, candidate.epoch, opened.ctr),
            link=Frame.Link.LORA.value if uplink else Frame.Link.MQTT.value,
            gateway=uplink.gateway if uplink else "",
            rssi=uplink.rssi if uplink else None,
            snr=uplink.snr if uplink else None,
        )
        return _Genuine(heard, key, opened, row, message)

    def _sort_out(self, genuine: list[_Genuine], new: set[store.Number], outcome: Outcome) -> list[_Genuine]:
        """Tell the new ones from those that were stored before, here or by another worker."""
        first: list[_Genuine] = []
        seen: set[store.Number] = set()
        for one in genuine:
            row, eui = one.row, one.key.candidate.eui.hex()
            if row.number not in new or row.number in seen:
                outcome.refused.append(Refusal(Reason.REPLAY, one.heard.arrival.topic, eui))
                continue
            seen.add(row.number)
            first.append(one)
            outcome.stored.append(
                Stored(
                    eui=eui,
                    epoch=row.epoch,
                    ctr=row.ctr,
                    received_at=one.heard.received_at,
                    message=one.message,
                    fault=row.fault,
                    link=row.link,
                    gateway=row.gateway,
                    rssi=row.rssi,
                    snr=row.snr,
                    frame_len=len(one.heard.frame),
                )
            )
        return first

    def _answer(self, genuine: list[_Genuine], new: set[store.Number], outcome: Outcome) -> None:
        """Seal a sync for each (device, epoch) that is to be answered; the newest arrival says where it goes."""
        now = self._clock()
        again = [one for one in genuine if one.row.number not in new and not one.heard.arrival.redelivered]
        synced_ms = store.last_synced_ms(one.row.device for one in again) if again else {}
        waiting: dict[tuple[int, int], list[_Genuine]] = {}
        begun: set[tuple[int, int]] = set()  # those that sent something new
        for one in genuine:
            fresh = one.row.number in new or one.heard.arrival.redelivered
            if fresh:
                begun.add(one.key.number)
            if fresh or now - synced_ms[one.row.device] / 1000 >= ANSWER_AGAIN_S:
                waiting.setdefault(one.key.number, []).append(one)
        chosen: dict[tuple[int, int], _Genuine] = {}
        for number, several in waiting.items():
            target = _best(several)
            if target.heard.uplink and now - target.heard.received_at > RX1_DELAY_S - SEND_AHEAD_S:
                outcome.late += 1
            else:
                chosen[number] = target
        counters = self.chains.take_downlink_counters(chosen, repeated=chosen.keys() - begun)
        outcome.unanswerable += len(chosen) - len(counters)
        for number, ctr in counters.items():
            target = chosen[number]
            frame = self._sealed_sync(target, ctr, now)
            outcome.publications.append(_publication(target, frame))
        store.note_synced((device for device, _ in counters), int(now * 1000))

    def _sealed_sync(self, target: _Genuine, downlink_ctr: int, now: float) -> bytes:
        row, key = target.row, target.key
        counters = store.stored_counters(row.device, row.epoch)
        anchor = sync.anchor(row.ctr, counters[0])
        if anchor != counters[0]:
            counters = store.stored_counters(row.device, row.epoch, at_most=anchor)
        heard_at = target.heard.received_at + RX1_DELAY_S if target.heard.uplink else now
        statement = sync.Sync(
            t=sync.seconds(heard_at),
            anchor=anchor,
            bitmap=sync.bitmap(anchor, counters),
            release=self._newest_release(key.model),
        )
        candidate = key.candidate
        return seal_downlink(candidate.keys, candidate.eui, candidate.epoch, downlink_ctr, statement.to_bytes())


def _heard(arrival: Arrival) -> _Heard:
    """Topic, envelope and shape; raises Refused."""
    own = _DEVICE_TOPIC.fullmatch(arrival.topic)
    if own:
        frame, uplink, eui = arrival.payload, None, bytes.fromhex(own.group(1))
    else:
        try:
            uplink = Uplink.from_message(arrival.topic, arrival.payload)
        except EnvelopeError as error:
            raise Refused(Reason.BAD_TOPIC if error.reason == "topic" else Reason.BAD_ENVELOPE) from None
        frame, eui = uplink.frame, None
    return _Heard(arrival, frame, parse(frame), uplink, eui)


def _allowed(found: Found, heard: _Heard, failures: Mapping[tuple[int, int], int]) -> list[Key]:
    """The keys to try: in a device's own topic only that device's, and none that failed too often."""
    return [
        key
        for key in found.keys
        if (heard.eui is None or key.candidate.eui == heard.eui)
        and key.failures + failures[key.number] < FAILED_OPENINGS_MAX
    ]


def _newest_epochs(genuine: Iterable[_Genuine]) -> list[tuple[int, int]]:
    """(device, epoch) of the devices that went on to an epoch that the server does not stand in yet."""
    epochs: dict[int, int] = {}
    for one in genuine:
        if one.row.epoch > max(one.key.newest_epoch, epochs.get(one.row.device, 0)):
            epochs[one.row.device] = one.row.epoch
    return sorted(epochs.items())


def _best(copies: Sequence[_Genuine]) -> _Genuine:
    """Of a device's arrivals, the last transmission as the gateway that heard it best told it."""
    last = max(copies, key=lambda one: one.heard.received_at)
    same = [
        one
        for one in copies
        if one.row.number == last.row.number and last.heard.received_at - one.heard.received_at <= COPY_S
    ]
    return max(same, key=lambda one: one.heard.uplink.snr if one.heard.uplink else float("inf"))


def _publication(target: _Genuine, frame: bytes) -> tuple[str, bytes]:
    uplink = target.heard.uplink
    if uplink is None:
        return device_downlink_topic(target.key.candidate.eui), frame
    downlink = Downlink(
        frame=frame,
        tmst_us=(uplink.tmst_us + RX1_DELAY_MS * 1000) % 2**32,
        frequency_hz=uplink.frequency_hz,
        data_rate=uplink.data_rate,
        power_dbm=EU868_POWER_DBM,
    )
    return downlink_topic(uplink.gateway), downlink.to_bytes()
