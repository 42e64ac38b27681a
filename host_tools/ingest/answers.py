"""What the frames of a batch are answered with: a sync, or a command in its place.

One answer for each device, epoch and link. Over LoRa it waits `COPIES_S` for what other gateways tell of the same
transmission, to this worker or to another, and goes by the gateway that heard it best; see `ways`. Who waits has taken
the answer on itself in the batch's own transaction, so that no other worker gives it too; the answer itself, with its
downlink counter, is a transaction of its own. A worker that dies in between costs the device one repetition.

A device drops telemetry that was answered three times without being acknowledged, and needs syncs for its clock and its
epochs; so a command answers

- only a frame that is new, and so no frame more than once;
- only where the answer before was a sync, and one within the last hour or after the command was queued;
- in the device's newest epoch, and never a hello;
- never what a courier carried: days may pass before the device has the answer, and who carries it chooses when.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from host_tools.courier import topics
from host_tools.gateway.envelope import downlink_topic
from host_tools.ingest import commands, plaintexts, receptions, store, sync, ways
from host_tools.ingest.arrivals import Genuine
from host_tools.ingest.chains import Chains
from host_tools.ingest.decode import Receipt
from host_tools.ingest.models import Command, Frame
from host_tools.ingest.observer import Ended
from host_tools.ingest.unseal import seal_downlink
from host_tools.ingest.ways import COPY_S, RX1_DELAY_S, SEND_AHEAD_S, Way
from sealwire.messages import REKEY

# other gateways' copies come within that, unless their way to the broker is a bad one; the window is 5 s after
COPIES_S = 0.2
# A frame that is stored already is answered again, so that a device which missed the answer can let go of it, but not
# sooner than its window is over: what comes before is another gateway's copy, another worker's, or a flood of replays.
ANSWER_AGAIN_S = RX1_DELAY_S - 1
# how sure it is who sent what comes over a link, and that the device listens there now
_RANKS = {Frame.Link.BLE.value: 0, Frame.Link.LORA.value: 1, Frame.Link.MQTT.value: 2}


def device_downlink_topic(eui: bytes) -> str:
    """Where a device that speaks MQTT itself listens."""
    return f"sb/v1/d/{eui.hex()}/down"


@dataclass(frozen=True, slots=True)
class Asked:
    """A device waits for an answer.

    Attributes:
        target: the last frame that it sent in that epoch over that link.
        begun: something new was among what it sent.
        able: the answer may be a command.
        due: when to give it, Unix seconds.
        since: when it began to wait, monotonic seconds: a clock that stands or was put back must not hold it up.
    """

    target: Genuine
    begun: bool
    able: bool
    due: float
    since: float

    @property
    def key(self) -> tuple[int, int, str]:
        """There is one answer for each of these."""
        return self.target.row.device, self.target.row.epoch, self.target.row.link


class Answers:
    """Answers the devices of a batch.

    Args:
        chains: gives downlink counters.
        queue: the commands.
        clock: Unix seconds.
        newest_release: newest release sequence of a model, for the sync.
        copies_s: how long an answer over LoRa waits for other gateways' copies; 0: for the rest of its batch only.
    """

    def __init__(
        self,
        chains: Chains,
        queue: commands.Commands,
        clock: Callable[[], float],
        newest_release: Callable[[str], int],
        copies_s: float = 0.0,
    ) -> None:
        self._chains = chains
        self._queue = queue
        self._clock = clock
        self._newest_release = newest_release
        self._copies_s = copies_s
        self._waiting: dict[tuple[int, int, str], Asked] = {}
        self._taken: list[Asked] = []

    def give(self, genuine: Sequence[Genuine], new: set[store.Number]) -> "Given":
        """Seal the answers to a batch that need not wait; in the batch's transaction.

        Args:
            genuine: its frames that opened.
            new: the numbers of those that were not stored before.
        """
        now = self._clock()
        self._taken = []
        # What its window can no longer be met for is no reason to keep quiet: the next gateway's copy may be in time,
        # where the one that told first was slow, has a wrong clock, or lies.
        in_time = [one for one in genuine if not _is_late(one, now)]
        asked = self._asked(in_time, new, now)
        # of several links the one that keeps the others quiet
        links = {
            one.target.row.device: one.target.row.link for one in sorted(asked, key=lambda one: _RANKS[one.key[2]])
        }
        store.note_promised(links, int(now * 1000))
        self._taken = [one for one in asked if one.due > now]
        given = self._answer([one for one in asked if one.due <= now])
        late = {(*one.key.number, one.row.link) for one in genuine if _is_late(one, now)}
        given.late += len(late - {one.key for one in asked})
        return given

    def committed(self) -> None:
        """The transaction of `give` was: what it took on itself is remembered."""
        for one in self._taken:
            earlier = self._waiting.get(one.key)
            self._waiting[one.key] = one if earlier is None else _later(earlier, one)
        self._taken = []

    @property
    def waiting(self) -> int:
        """How many wait for other gateways' copies."""
        return len(self._waiting)

    def due(self) -> list[Asked]:
        """The answers that have waited long enough."""
        now, since = self._clock(), time.monotonic() - self._copies_s
        return [one for one in self._waiting.values() if one.due <= now or one.since <= since]

    def forget(self, asked: Iterable[Asked]) -> None:
        """These were given, or cannot be."""
        for one in asked:
            if self._waiting.get(one.key) is one:
                del self._waiting[one.key]

    def give_due(self, asked: Sequence[Asked]) -> "Given":
        """Seal answers that have waited; in a transaction of their own."""
        store.lock_contacts(one.target.row.device for one in asked)
        return self._answer(asked)

    def _asked(self, genuine: Sequence[Genuine], new: set[store.Number], now: float) -> list[Asked]:
        """Who waits for an answer to this batch."""
        again = [one for one in genuine if one.row.number not in new and not one.heard.arrival.redelivered]
        answered = store.last_answers(one.row.device for one in again) if again else {}
        waiting: dict[tuple[int, int, str], list[Genuine]] = {}
        begun: set[tuple[int, int, str]] = set()
        for one in genuine:
            number = (*one.key.number, one.row.link)
            fresh = _is_fresh(one, new)
            if fresh:
                begun.add(number)
            if fresh or _waits_again(one, *answered[one.row.device], now):
                waiting.setdefault(number, []).append(one)
        asked = []
        for number, several in waiting.items():
            # who replays another frame right behind this one must not move its answer
            target = max(several, key=lambda one: (_is_fresh(one, new), one.heard.received_at))
            able = target.row.number in new and _takes_commands(target)
            # what follows from a receipt may be that the key goes which its answer needs
            holds = target.heard.uplink is not None and not isinstance(target.message, Receipt)
            due = now + self._copies_s
            if not holds or due > target.heard.received_at + RX1_DELAY_S - 2 * SEND_AHEAD_S:
                due = now
            asked.append(Asked(target, number in begun, able, due, time.monotonic()))
        return asked

    def _answer(self, asked: Sequence[Asked]) -> "Given":
        given = Given()
        now = self._clock()
        ready: dict[tuple[int, int, str], tuple[Asked, list[Way]]] = {}
        heard = receptions.of(one.target.row.number for one in asked if one.target.heard.uplink)
        for one in asked:
            found = ways.of(one.target, heard.get(one.target.row.number, ()))
            usable = [way for way in found if now - way.received_at <= RX1_DELAY_S - SEND_AHEAD_S]
            if found and not usable:
                given.late += 1
            else:
                ready[one.key] = one, usable
        # one link after the other: a counter is for one answer
        for link in (Frame.Link.MQTT.value, Frame.Link.LORA.value, Frame.Link.BLE.value):
            self._seal({key[:2]: value for key, value in ready.items() if key[2] == link}, now, given)
        commands.count_too_long(given.too_long)
        store.note_answered(given.synced - given.commanded, given.commanded, int(now * 1000))
        receptions.note_answered(given.answered_by)
        return given

    def _seal(self, ready: dict[tuple[int, int], tuple[Asked, list[Way]]], now: float, given: "Given") -> None:
        repeated = {number for number, (asked, _) in ready.items() if not asked.begun}
        counters = self._chains.take_downlink_counters(ready, repeated=repeated)
        given.unanswerable += len(ready) - len(counters)
        able = {number for number in counters if ready[number][0].able and number[0] not in given.commanded}
        due, ended = self._queue.due({device for device, _ in able})
        given.ended += ended
        # newest epoch first: a command is given once, though a batch holds frames of two epochs
        for number in sorted(counters, reverse=True):
            (asked, found), ctr = ready[number], counters[number]
            target = asked.target
            plaintext = None
            if number in able:
                plaintext, found = self._command(target, ctr, found, due.pop(number[0], []), given)
            if plaintext is None:
                plaintext = self._sync(target, found, now)
                given.synced.add(number[0])
            else:
                given.commanded.add(number[0])
            candidate = target.key.candidate
            frame = seal_downlink(candidate.keys, candidate.eui, candidate.epoch, ctr, plaintext)
            if found:
                downlink = ways.downlink(frame, found)
                given.publications.append((downlink_topic(downlink.routes[0].gateway), downlink.to_bytes()))
                given.answered_by += [found[0].reception] if found[0].reception is not None else []
            elif target.heard.courier:
                answer = topics.answer(target.heard.frame, frame)
                given.publications.append((topics.downlink_topic(target.heard.courier), answer))
            else:
                given.publications.append((device_downlink_topic(candidate.eui), frame))

    def _command(
        self, target: Genuine, ctr: int, found: list[Way], due: Sequence[Command], given: "Given"
    ) -> tuple[bytes | None, list[Way]]:
        """The first command that can be carried, noted as sent, and by which ways it goes."""
        for row in due:
            by = ways.another(found, row.tries + row.too_long)
            if row.plaintext_len > plaintexts.answer_max(by[0].route if by else None):
                given.too_long.append(row.pk)
                continue
            plaintext = self._queue.open(row)
            if plaintext is None:
                given.ended.append(Ended(row.pk, row.device_id, target.key.candidate.eui, None, row.kind))
                continue
            if row.kind == REKEY and not self._chains.expect_rekey(
                row.device_id, target.key.candidate.epoch, plaintexts.rekey_random(plaintext)
            ):
                continue
            self._queue.sent(row, target.key.candidate.epoch, ctr)
            return plaintext, by
        return None, found

    def _sync(self, target: Genuine, found: Sequence[Way], now: float) -> bytes:
        row = target.row
        counters = store.stored_counters(row.device, row.epoch)
        anchor = sync.anchor(row.ctr, counters[0])
        if anchor != counters[0]:
            counters = store.stored_counters(row.device, row.epoch, at_most=anchor)
        heard_at = found[0].received_at + RX1_DELAY_S if found else now
        statement = sync.Sync(
            t=sync.seconds(heard_at),
            anchor=anchor,
            bitmap=sync.bitmap(anchor, counters),
            release=self._newest_release(target.key.model),
            # not the best of all: a gateway that is passed over, since it may lie, has no say in the data rate either
            margin=found[0].margin if found else None,
        )
        return statement.to_bytes()


class Given:
    """What a batch was answered with.

    Attributes:
        publications: (topic, payload) of the answers.
        synced, commanded: devices that were given a sync, a command.
        too_long: commands that an answer could not carry.
        ended: commands that are given up.
        answered_by: receptions by whose gateways they go.
        late: answers not given because the receive window could not be met any more.
        unanswerable: answers not given because the epoch has no downlink counter left.
    """

    def __init__(self) -> None:
        self.publications: list[tuple[str, bytes]] = []
        self.synced: set[int] = set()
        self.commanded: set[int] = set()
        self.too_long: list[int] = []
        self.ended: list[Ended] = []
        self.answered_by: list[int] = []
        self.late = 0
        self.unanswerable = 0


def _is_fresh(one: Genuine, new: set[store.Number]) -> bool:
    """Whether a frame was not stored before, or its delivery not acknowledged."""
    return one.row.number in new or one.heard.arrival.redelivered


def _is_late(one: Genuine, now: float) -> bool:
    """Whether a frame was heard over LoRa so long ago that no answer to it could reach its window."""
    return one.heard.uplink is not None and now - one.heard.received_at > RX1_DELAY_S - SEND_AHEAD_S


def _takes_commands(target: Genuine) -> bool:
    if target.opened.hello or target.heard.courier:
        return False
    return target.key.candidate.epoch >= target.key.newest_epoch


def _waits_again(one: Genuine, at_ms: int, link: str, now: float) -> bool:
    """Whether a frame that is stored already is answered once more, after the last answer then and over that link.

    Who replays a frame through a gateway must not silence the device's own topic, for which the broker vouches; and a
    courier, who may come at any time, neither that nor LoRa.
    """
    if now - at_ms / 1000 >= ANSWER_AGAIN_S:
        return True
    return _RANKS[one.row.link] > _RANKS.get(link, 2)


def _later(one: Asked, other: Asked) -> Asked:
    """The answer to both: to the later transmission, when the earlier one's was due."""
    if one.target.row.number == other.target.row.number and other.target.heard.received_at <= (
        one.target.heard.received_at + COPY_S
    ):
        target = one.target
    else:
        target = max((one.target, other.target), key=lambda genuine: genuine.heard.received_at)
    able = one.able if target is one.target else other.able
    return Asked(target, one.begun or other.begun, able, min(one.due, other.due), min(one.since, other.since))
