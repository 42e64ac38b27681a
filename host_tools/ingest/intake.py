"""One batch of what the broker delivered: whose is it, is it genuine, is it new, store it, answer it. No MQTT here.

Order matters: cheap checks first (topic, envelope, shape of the frame), then one look-up of the candidates of the
whole batch, then the tags. Everything that follows from frames that opened (rows, epochs, failures, downlink
counters, refusals) is one transaction. What `process` returns may leave the process only because that was committed;
if it raises, nothing was stored and the same batch can be processed again.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from django.db import InterfaceError, OperationalError, transaction

from host_tools.courier.topics import courier_of
from host_tools.gateway.envelope import EnvelopeError, Uplink
from host_tools.ingest import probes, receptions, store, sync
from host_tools.ingest.answers import ANSWER_AGAIN_S as ANSWER_AGAIN_S
from host_tools.ingest.answers import Answers, Asked, Given
from host_tools.ingest.arrivals import Arrival, Genuine, Heard
from host_tools.ingest.chains import Chains, Found, Key
from host_tools.ingest.commands import Commands
from host_tools.ingest.decode import Message, MessageError, Receipt, Status, UpdateReport, decode
from host_tools.ingest.hellos import HelloLimit
from host_tools.ingest.lifecycle import Lifecycle
from host_tools.ingest.models import Frame
from host_tools.ingest.observer import Ended, Observer, Told
from host_tools.ingest.refusals import Reason, Refused
from host_tools.ingest.unseal import Opened, open_uplink, parse
from provisioning.registry.models import Device
from provisioning.registry.vault import Vault
from sealwire.frame import KIND_HELLO
from sealwire.keys import FAILED_OPENINGS_MAX
from sealwire.messages import STATUS_RELEASE

FUTURE_S = 86400  # a sample may lie this far ahead of our clock; beyond, the device's clock is not to be believed

_log = logging.getLogger("sealband.ingest")
_DEVICE_TOPIC = re.compile(r"sb/v1/d/([0-9a-f]{16})/up", re.ASCII)


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
        publications: (topic, payload) of the answers.
        commanded: how many of them are commands; the others are syncs.
        too_long: commands that waited because the answer's data rate does not carry them.
        late: answers that were not given because the receive window could not be met any more.
        unanswerable: answers that were not given because the epoch has no downlink counter left.
        receptions_left_out: receptions that were not stored because their frame has enough of them.
    """

    stored: list[Stored] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    publications: list[tuple[str, bytes]] = field(default_factory=list)
    opened: int = 0
    commanded: int = 0
    too_long: int = 0
    late: int = 0
    unanswerable: int = 0
    receptions_left_out: int = 0

    def add(self, given: Given) -> None:
        """What came of answers."""
        self.publications += given.publications
        self.commanded += len(given.commanded)
        self.too_long += len(given.too_long)
        self.late += given.late
        self.unanswerable += given.unanswerable


class Intake:
    """Processes batches, one after the other.

    Args:
        vault: opens chain keys, seals payloads.
        clock: Unix seconds.
        newest_release: newest release sequence of a model, for the sync; 0 when there is none.
        observers: told of statuses, update reports and commands that ended, inside the transaction.
        copies_s: how long an answer over LoRa waits for other gateways' copies; it comes from `answer_due` then.
    """

    def __init__(
        self,
        vault: Vault,
        clock: Callable[[], float],
        newest_release: Callable[[str], int] = lambda model: 0,
        observers: Sequence[Observer] = (),
        copies_s: float = 0.0,
    ) -> None:
        self.chains = Chains(vault, clock)
        self._payloads = store.Payloads(vault)
        self._commands = Commands(vault, clock)
        self._lifecycle = Lifecycle(vault, clock)
        self._answers = Answers(self.chains, self._commands, clock, newest_release, copies_s)
        self._clock = clock
        self._observers = observers
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
            outcome.receptions_left_out = receptions.insert(_heard_by(genuine))
            first = self._sort_out(genuine, new, outcome)
            self.chains.count_failures(failed)
            rekeyed = [
                device
                for device, epoch, is_rekeyed in _newest_epochs(first)
                if self.chains.advance(device, epoch, rekeyed=is_rekeyed) and is_rekeyed
            ]
            self._lifecycle.heard({one.row.device for one in first if one.key.state == Device.State.ENROLLED})
            newest = {one.row.device: one.row for one in sorted(first, key=lambda one: one.row.received_at_ms)}
            store.note_heard(newest.values())
            ended = self._commands.rekeyed(rekeyed)
            told, settled = self._follow(first)
            ended += settled
            given = self._answers.give(genuine, new)
            # after the answer: the receipt of who is retired is acknowledged with the key that is destroyed here
            self._lifecycle.follow(ended)
            probes.ask(self._commands, self.chains.unproven(given.synced))
            self._tell_observers(told, ended + given.ended)
            counted = Counter(refusal.reason.value for refusal in outcome.refused)
            counted.update(one.fault for one in outcome.stored if one.fault)
            store.count_refusals(counted, self._now_ms())
        self._answers.committed()
        outcome.add(given)
        return outcome

    @property
    def waiting(self) -> int:
        """How many answers wait for other gateways' copies: `answer_due` gives them."""
        return self._answers.waiting

    def answer_due(self) -> Outcome:
        """Give the answers that have waited for other gateways' copies.

        Raises:
            django.db.OperationalError: the database could not be written; no counter was spent.
        """
        outcome = Outcome()
        asked = self._answers.due()
        try:
            self._give_due(asked, outcome)
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            # one of them is poison: it must not cost the others their answers
            _log.exception("%d answers could not be given at once", len(asked))
            for one in asked:
                try:
                    self._give_due([one], outcome)
                except (OperationalError, InterfaceError):
                    if outcome.publications:
                        break  # these are committed; the others wait for the next call
                    raise
                except Exception:
                    _log.exception("an answer could not be given")
                    self._answers.forget([one])  # the device asks again
        return outcome

    def _give_due(self, asked: Sequence[Asked], outcome: Outcome) -> None:
        if not asked:
            return
        with transaction.atomic():
            given = self._answers.give_due(asked)
            probes.ask(self._commands, self.chains.unproven(given.synced))
            self._tell_observers((), given.ended)
        self._answers.forget(asked)
        outcome.add(given)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _look(self, arrivals: Iterable[Arrival], outcome: Outcome) -> list[Heard]:
        heard = []
        for arrival in arrivals:
            try:
                heard.append(_heard(arrival))
            except Refused as refused:
                outcome.refused.append(Refusal(refused.reason, arrival.topic))
        return heard

    def _open(self, heard: list[Heard], outcome: Outcome) -> tuple[list[Genuine], list[Key]]:
        hellos = [one for one in heard if one.parts.kind == KIND_HELLO]
        data = [one for one in heard if one.parts.kind != KIND_HELLO]
        by_did = self.chains.by_pseudonym((one.parts.epoch_bits, one.parts.did) for one in data)
        by_eui = self.chains.by_eui((one.parts.eui, one.parts.epoch) for one in hellos)
        genuine: list[Genuine] = []
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

    def _genuine(self, heard: Heard, key: Key, opened: Opened) -> Genuine:
        message, fault, span = None, "", None
        try:
            message = decode(opened.plaintext)
            span = message.span()
            if isinstance(message, UpdateReport):
                # it carries no time of its own, and is found by when it was heard
                span = (sync.seconds(heard.received_at),) * 2
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
            link=_link(heard).value,
            gateway=uplink.gateway if uplink else heard.courier,
            rssi=uplink.rssi if uplink else None,
            snr=uplink.snr if uplink else None,
        )
        return Genuine(heard, key, opened, row, message)

    def _sort_out(self, genuine: list[Genuine], new: set[store.Number], outcome: Outcome) -> list[Genuine]:
        """Tell the new ones from those that were stored before, here or by another worker."""
        first: list[Genuine] = []
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

    def _follow(self, first: Iterable[Genuine]) -> tuple[list[Told], list[Ended]]:
        """What new messages say of commands and releases: receipts are settled, the rest is for the observers."""
        told: list[Told] = []
        receipts: list[tuple[int, int, int, int]] = []
        # readings say nothing of either, and are nearly all there is
        telling = [one for one in first if isinstance(one.message, Receipt | Status | UpdateReport)]
        for one in sorted(telling, key=lambda one: one.row.number):
            row, message = one.row, one.message
            if isinstance(message, Receipt):
                receipts.append((row.device, row.epoch, message.downlink_ctr, message.code))
            elif isinstance(message, Status | UpdateReport):
                told.append(Told(row.device, one.key.candidate.eui, row.epoch, row.ctr, message))
        self.chains.prove((device, epoch, ctr) for device, epoch, ctr, _ in receipts)
        statuses = {one.device: one.message.fields for one in told if isinstance(one.message, Status)}
        store.note_releases(
            {device: fields[STATUS_RELEASE] for device, fields in statuses.items() if STATUS_RELEASE in fields}
        )
        return told, self._commands.settle(receipts, statuses)

    def _tell_observers(self, told: Sequence[Told], ended: Sequence[Ended]) -> None:
        if not told and not ended:
            return
        for observer in self._observers:
            try:
                with transaction.atomic():
                    observer.follow(told, ended)
            except (OperationalError, InterfaceError):
                raise
            except Exception:
                # it must not cost anybody's readings: without this, the frames would be given up as poison
                _log.exception("an observer failed")


def _heard_by(genuine: Iterable[Genuine]) -> list[receptions.Heard]:
    return [
        receptions.Heard(one.row.number, one.heard.uplink, one.row.received_at_ms)
        for one in genuine
        if one.heard.uplink
    ]


def _heard(arrival: Arrival) -> Heard:
    """Topic, envelope and shape; raises Refused."""
    own = _DEVICE_TOPIC.fullmatch(arrival.topic)
    courier = courier_of(arrival.topic)
    if courier:
        return Heard(arrival, arrival.payload, parse(arrival.payload), None, None, courier)
    if own:
        frame, uplink, eui = arrival.payload, None, bytes.fromhex(own.group(1))
    else:
        try:
            uplink = Uplink.from_message(arrival.topic, arrival.payload)
        except EnvelopeError as error:
            raise Refused(Reason.BAD_TOPIC if error.reason == "topic" else Reason.BAD_ENVELOPE) from None
        frame, eui = uplink.frame, None
    return Heard(arrival, frame, parse(frame), uplink, eui)


def _link(heard: Heard) -> Frame.Link:
    if heard.courier:
        return Frame.Link.BLE
    return Frame.Link.LORA if heard.uplink else Frame.Link.MQTT


def _allowed(found: Found, heard: Heard, failures: Mapping[tuple[int, int], int]) -> list[Key]:
    """The keys to try: in a device's own topic only that device's, and none that failed too often."""
    return [
        key
        for key in found.keys
        if (heard.eui is None or key.candidate.eui == heard.eui)
        and key.failures + failures[key.number] < FAILED_OPENINGS_MAX
    ]


def _newest_epochs(genuine: Iterable[Genuine]) -> list[tuple[int, int, bool]]:
    """(device, epoch, whether by a rekey) of the devices that went on to one that the server does not stand in yet."""
    epochs: dict[int, tuple[int, bool]] = {}
    for one in genuine:
        if one.row.epoch > max(one.key.newest_epoch, epochs.get(one.row.device, (0, False))[0]):
            epochs[one.row.device] = one.row.epoch, one.key.rekeyed
    return sorted((device, *reached) for device, reached in epochs.items())
