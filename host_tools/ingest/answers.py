"""What the frames of one batch are answered with: a sync, or a command in its place. Runs in the batch's transaction.

One answer for each device and epoch, by the gateway that heard the last transmission best. A device drops a frame that
was answered three times without being acknowledged, and needs syncs for its clock and its epochs; so a command answers

- only a frame that is new, and so no frame more than once;
- only where the answer before was a sync, and one within the last hour or after the command was queued;
- in the device's newest epoch, and never a hello.
"""

from collections.abc import Callable, Sequence

from host_tools.gateway.envelope import Downlink, Route, downlink_topic
from host_tools.ingest import commands, plaintexts, store, sync
from host_tools.ingest.arrivals import Genuine
from host_tools.ingest.chains import Chains
from host_tools.ingest.models import Command
from host_tools.ingest.observer import Ended
from host_tools.ingest.unseal import seal_downlink
from sealwire.messages import REKEY
from sealwire.radio import EU868_POWER_DBM, RX1_DELAY_MS

RX1_DELAY_S = RX1_DELAY_MS / 1000
# what bridge and gateway still need before the window opens
SEND_AHEAD_S = 0.2
# A frame that is stored already is answered again, so that a device which missed the answer can let go of it, but not
# sooner than its window is over: what comes before is another gateway's copy, another worker's, or a flood of replays.
ANSWER_AGAIN_S = RX1_DELAY_S - 1
COPY_S = 2.0  # how far apart two gateways may tell of one transmission


def device_downlink_topic(eui: bytes) -> str:
    """Where a device that speaks MQTT itself listens."""
    return f"sb/v1/d/{eui.hex()}/down"


class Answers:
    """Answers the devices of a batch.

    Args:
        chains: gives downlink counters.
        queue: the commands.
        clock: Unix seconds.
        newest_release: newest release sequence of a model, for the sync.
    """

    def __init__(
        self,
        chains: Chains,
        queue: commands.Commands,
        clock: Callable[[], float],
        newest_release: Callable[[str], int],
    ) -> None:
        self._chains = chains
        self._queue = queue
        self._clock = clock
        self._newest_release = newest_release

    def give(self, genuine: Sequence[Genuine], new: set[store.Number]) -> "Given":
        """Seal the answers to a batch.

        Args:
            genuine: its frames that opened.
            new: the numbers of those that were not stored before.
        """
        given = Given()
        now = self._clock()
        chosen, begun = self._choose(genuine, new, now, given)
        counters = self._chains.take_downlink_counters(chosen, repeated=chosen.keys() - begun)
        given.unanswerable += len(chosen) - len(counters)
        able = {
            number: chosen[number]
            for number in counters
            if chosen[number].row.number in new and _takes_commands(chosen[number])
        }
        due, given.ended = self._queue.due({device for device, _ in able})
        # newest epoch first: a command is given once, though a batch holds frames of two epochs
        for number in sorted(counters, reverse=True):
            target, ctr = chosen[number], counters[number]
            plaintext = self._command(target, ctr, due.pop(number[0], []), given) if number in able else None
            if plaintext is None:
                plaintext = self._sync(target, now)
                given.synced.add(number[0])
            else:
                given.commanded.add(number[0])
            candidate = target.key.candidate
            frame = seal_downlink(candidate.keys, candidate.eui, candidate.epoch, ctr, plaintext)
            given.publications.append(_publication(target, frame))
        commands.count_too_long(given.too_long)
        store.note_answered(given.synced - given.commanded, given.commanded, int(now * 1000))
        return given

    def _choose(
        self, genuine: Sequence[Genuine], new: set[store.Number], now: float, given: "Given"
    ) -> tuple[dict[tuple[int, int], Genuine], set[tuple[int, int]]]:
        """Which arrival is answered, by (device, epoch); and those that sent something new."""
        again = [one for one in genuine if one.row.number not in new and not one.heard.arrival.redelivered]
        synced_ms = store.last_synced_ms(one.row.device for one in again) if again else {}
        waiting: dict[tuple[int, int], list[Genuine]] = {}
        begun: set[tuple[int, int]] = set()
        for one in genuine:
            fresh = one.row.number in new or one.heard.arrival.redelivered
            if fresh:
                begun.add(one.key.number)
            if fresh or now - synced_ms[one.row.device] / 1000 >= ANSWER_AGAIN_S:
                waiting.setdefault(one.key.number, []).append(one)
        chosen: dict[tuple[int, int], Genuine] = {}
        for number, several in waiting.items():
            target = _best(several)
            if target.heard.uplink and now - target.heard.received_at > RX1_DELAY_S - SEND_AHEAD_S:
                given.late += 1
            else:
                chosen[number] = target
        return chosen, begun

    def _command(self, target: Genuine, ctr: int, due: Sequence[Command], given: "Given") -> bytes | None:
        """The first command that the link carries, noted as sent."""
        longest = plaintexts.answer_max(target.heard.uplink)
        for row in due:
            if row.plaintext_len > longest:
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
            return plaintext
        return None

    def _sync(self, target: Genuine, now: float) -> bytes:
        row = target.row
        counters = store.stored_counters(row.device, row.epoch)
        anchor = sync.anchor(row.ctr, counters[0])
        if anchor != counters[0]:
            counters = store.stored_counters(row.device, row.epoch, at_most=anchor)
        heard_at = target.heard.received_at + RX1_DELAY_S if target.heard.uplink else now
        statement = sync.Sync(
            t=sync.seconds(heard_at),
            anchor=anchor,
            bitmap=sync.bitmap(anchor, counters),
            release=self._newest_release(target.key.model),
        )
        return statement.to_bytes()


class Given:
    """What a batch was answered with.

    Attributes:
        publications: (topic, payload) of the answers.
        synced, commanded: devices that were given a sync, a command.
        too_long: commands that an answer could not carry.
        ended: commands that are given up.
        late: answers not given because the receive window could not be met any more.
        unanswerable: answers not given because the epoch has no downlink counter left.
    """

    def __init__(self) -> None:
        self.publications: list[tuple[str, bytes]] = []
        self.synced: set[int] = set()
        self.commanded: set[int] = set()
        self.too_long: list[int] = []
        self.ended: list[Ended] = []
        self.late = 0
        self.unanswerable = 0


def _takes_commands(target: Genuine) -> bool:
    return not target.opened.hello and target.key.candidate.epoch >= target.key.newest_epoch


def _best(copies: Sequence[Genuine]) -> Genuine:
    """Of a device's arrivals, the last transmission as the gateway that heard it best told it."""
    last = max(copies, key=lambda one: one.heard.received_at)
    same = [
        one
        for one in copies
        if one.row.number == last.row.number and last.heard.received_at - one.heard.received_at <= COPY_S
    ]
    return max(same, key=lambda one: one.heard.uplink.snr if one.heard.uplink else float("inf"))


def _publication(target: Genuine, frame: bytes) -> tuple[str, bytes]:
    uplink = target.heard.uplink
    if uplink is None:
        return device_downlink_topic(target.key.candidate.eui), frame
    route = Route(
        gateway=uplink.gateway,
        context=uplink.context,
        frequency_hz=uplink.frequency_hz,
        data_rate=uplink.data_rate,
        power_dbm=EU868_POWER_DBM,
        region=uplink.region,
    )
    downlink = Downlink(
        frame=frame,
        at=target.heard.received_at + RX1_DELAY_S,
        delay_ms=RX1_DELAY_MS,
        routes=(route,),
    )
    return downlink_topic(uplink.gateway), downlink.to_bytes()
