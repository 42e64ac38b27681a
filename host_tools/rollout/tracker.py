"""Follows what devices say of their updates, for the ingest worker that it is given to as an observer.

A message moves the device that sealed it, in the newest rollout of the release that it names, and nothing else; an
older message than the newest that was followed moves nothing. However many reports a device sends, a batch writes one
row for it, and the audit trail gets its first few endings.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from django.db.models import Max, Q

from host_tools.ingest.commands import withdraw
from host_tools.ingest.decode import Status, UpdateReport
from host_tools.ingest.models import Command
from host_tools.ingest.observer import Ended, Told
from host_tools.rollout import plan, progress
from host_tools.rollout.dispatch import ROUNDS_MAX, Dispatch, finish
from host_tools.rollout.models import Rollout, RolloutDevice
from host_tools.rollout.plan import Progress, State
from provisioning.registry import audit
from provisioning.registry.vault import Vault
from sealwire.messages import STATUS_RELEASE, STATUS_RUNNING

ENDINGS_TOLD = 3  # of a device in a rollout, to the audit trail
NEWEST_KEPT_S = 5.0
_LIVING = (Rollout.State.ACTIVE, Rollout.State.PAUSED, Rollout.State.DONE)


class Tracker:
    """An observer of ingest, and what the sync says of releases.

    Args:
        vault: seals commands, signs the audit trail.
        clock: Unix seconds.
    """

    def __init__(self, vault: Vault, clock: Callable[[], float] = time.time) -> None:
        self._vault = vault
        self._clock = clock
        self._dispatch = Dispatch(vault, clock)
        self._newest: dict[str, int] = {}
        self._newest_until = 0.0

    def newest_release(self, model: str) -> int:
        """Newest release sequence that is or was rolled out to a model; 0 when there is none."""
        now = time.monotonic()
        if now >= self._newest_until:
            self._newest = newest_releases()
            self._newest_until = now + NEWEST_KEPT_S
        return self._newest.get(model, 0)

    def keep_house(self) -> None:
        """Take in new devices, queue what is due."""
        self._dispatch.join()
        self._dispatch.order(rounds=ROUNDS_MAX)

    def follow(self, told: Sequence[Told], ended: Sequence[Ended]) -> None:
        """Note what devices said; inside ingest's transaction."""
        now = self._clock()
        rows = self._rows(told, ended)
        before = {row.pk: row.state for row in rows}
        for one in ended:
            for row in rows:
                if row.command_id == one.command:
                    progress.put(row, plan.by_receipt(progress.of(row), one.code, now), int(now * 1000))
        for message in told:
            for row in _meant(message, rows):
                row.told_epoch, row.told_ctr = message.epoch, message.ctr
                progress.put(row, _after(row, message, now), int(now * 1000))
        if rows:
            self._tell(rows, before)
            # who reports has the order, whatever became of the receipt: it is not to be sent again
            reached = [row.command_id for row in rows if State(row.state) not in (State.WAITING, State.ORDERED)]
            withdraw(Command.objects.filter(pk__in=[pk for pk in reached if pk is not None]), int(now * 1000))
            progress.save(rows)
        finish({row.rollout_id for row in rows if State(row.state) in plan.ENDED}, int(now * 1000))

    def _rows(self, told: Sequence[Told], ended: Sequence[Ended]) -> list[RolloutDevice]:
        """The rows that may be meant, locked; of each device and release the newest rollout's."""
        sequences = {one.message.release for one in told if isinstance(one.message, UpdateReport)}
        wanted = Q(command_id__in=[one.command for one in ended])
        if sequences:
            reporting = {one.device for one in told if isinstance(one.message, UpdateReport)}
            wanted |= Q(device_id__in=reporting, rollout__release__sequence__in=sequences)
        saying = {one.device for one in told if isinstance(one.message, Status)}
        if saying:
            living = Rollout.objects.filter(state__in=_LIVING, release__component="app").values("model")
            newest = [row["newest"] for row in living.annotate(newest=Max("pk"))]
            wanted |= Q(device_id__in=saying, rollout_id__in=newest)
        rows = RolloutDevice.objects.select_for_update(of=("self",)).filter(wanted).order_by("pk")
        return list(rows.select_related("rollout__release", "device", "command"))

    def _tell(self, rows: Iterable[RolloutDevice], before: dict[int, str]) -> None:
        """Write endings to the audit trail."""
        for row in rows:
            state = State(row.state)
            if state not in plan.ENDED or before[row.pk] == row.state or row.endings >= ENDINGS_TOLD:
                continue
            row.endings += 1
            event = "ota_confirmed" if state in plan.SUCCEEDED else "ota_failed"
            with suppress(audit.AuditBroken):  # `audit verify` finds it; it must not hold the rollout up
                audit.append(
                    self._vault,
                    event,
                    subject=row.device.eui_hex,
                    actor="ingest",
                    clock=self._clock,
                    rollout=row.rollout_id,
                    sequence=row.rollout.release.sequence,
                    state=state.value,
                    reason=row.reason,
                )


def newest_releases() -> dict[str, int]:
    """By model, the newest application release of all rollouts that were not given up."""
    rows = Rollout.objects.filter(state__in=_LIVING, release__component="app").values_list("model")
    return dict(rows.annotate(newest=Max("release__sequence")))


def _meant(message: Told, rows: Sequence[RolloutDevice]) -> list[RolloutDevice]:
    """The rows that a message moves: the device's own, not told anything newer yet."""
    own = [row for row in rows if row.device_id == message.device]
    if isinstance(message.message, UpdateReport):
        named = [row for row in own if row.rollout.release.sequence == message.message.release]
        own = [max(named, key=lambda row: row.rollout_id)] if named else []
    else:
        own = [row for row in own if row.rollout.state in _LIVING and row.rollout.release.component == "app"]
        own = [max(own, key=lambda row: row.rollout_id)] if own else []
    return [row for row in own if (row.told_epoch, row.told_ctr) < (message.epoch, message.ctr)]


def _after(row: RolloutDevice, told: Told, now: float) -> Progress:
    message, release = told.message, row.rollout.release
    if isinstance(message, UpdateReport):
        return plan.by_report(progress.of(row), message.state, message.code, now)
    runs = message.fields.get(STATUS_RELEASE)
    if runs is None:
        return progress.of(row)
    running = message.fields.get(STATUS_RUNNING)
    is_image = None if running is None else running == bytes(release.image_digest)[: len(running)]
    was_sent = row.orders > 1 or (row.command is not None and row.command.tries > 0)
    return plan.by_status(progress.of(row), runs, release.sequence, is_image, was_sent, now)
