"""What the server does of itself: new devices come into a rollout, and orders that are due are queued.

Everything is done in short transactions over some hundred devices, so that a large fleet holds no worker up, and so
that whoever is stopped half-way (a command, a worker) leaves the rest to the next round. Rounds of several workers
exclude each other by row locks.
"""

from collections.abc import Callable, Iterable

from django.db import transaction
from django.db.models import Max, QuerySet

from host_tools.ingest import plaintexts
from host_tools.ingest.commands import Commands, Order
from host_tools.rollout import plan, progress
from host_tools.rollout.models import Rollout, RolloutDevice
from host_tools.rollout.plan import Progress, RolloutState, State
from provisioning.registry.devices import SERVED
from provisioning.registry.models import Device
from provisioning.registry.vault import Vault
from sealwire.messages import UPDATE

CHUNK = 500
ROUNDS_MAX = 20  # of a chunk each, in one go of a worker's housekeeping
_ENDED = [state.value for state in plan.ENDED]


class Dispatch:
    """Queues what is due.

    Args:
        vault: seals the commands.
        clock: Unix seconds.
    """

    def __init__(self, vault: Vault, clock: Callable[[], float]) -> None:
        self._commands = Commands(vault, clock)
        self._clock = clock

    def order(self, rollout: int | None = None, rounds: int | None = None) -> int:
        """Queue the update command for every device whose turn it is; how many.

        Args:
            rollout: only this one's.
            rounds: of `CHUNK` devices, at most; None: until all is done.
        """
        total = 0
        while rounds is None or rounds > 0:
            looked_at, ordered = self._round(rollout)
            total += ordered
            if looked_at < CHUNK:
                break
            rounds = None if rounds is None else rounds - 1
        return total

    def _round(self, rollout: int | None) -> tuple[int, int]:
        now = self._clock()
        now_ms = int(now * 1000)
        with transaction.atomic():
            # the rollout's row too: nothing is ordered while somebody pauses it
            rows = RolloutDevice.objects.select_for_update(of=("self", "rollout"), skip_locked=True).filter(
                rollout__state=Rollout.State.ACTIVE, next_at_ms__lte=now_ms
            )
            if rollout is not None:
                rows = rows.filter(rollout_id=rollout)
            chunk = list(rows.select_related("rollout__release", "device").order_by("pk")[:CHUNK])
            ordered: dict[int, RolloutDevice] = {}
            orders: list[Order] = []
            for row in chunk:
                release, device = row.rollout.release, row.device
                is_active = device.state in SERVED and device.model == release.model
                after, order = plan.due(progress.of(row), RolloutState.ACTIVE, is_active, now)
                progress.put(row, after, now_ms)
                if order:
                    ordered[device.pk] = row
                    plaintext = plaintexts.update(release.sequence, bytes(release.manifest_digest), release.url)
                    orders.append(Order(device.pk, bytes(device.eui), UPDATE, plaintext))
            for pk, command in self._commands.queue(orders).items():
                ordered[pk].command_id = command
            progress.save(chunk)
        return len(chunk), len(orders)

    def join(self) -> int:
        """Take devices that were heard into rollouts to everybody that they are not in yet; how many."""
        newest = (
            Rollout.objects.filter(everybody=True, state__in=(Rollout.State.ACTIVE, Rollout.State.DONE))
            .values_list("model", "release__component")
            .annotate(newest=Max("pk"))
        )
        return sum(self._join(pk) for _, _, pk in newest)

    def _join(self, pk: int) -> int:
        missing = list(_outside(pk)[:CHUNK])
        if not missing:
            return 0
        now = self._clock()
        with transaction.atomic():
            rollout = Rollout.objects.select_for_update(of=("self",)).select_related("release").get(pk=pk)
            if rollout.state not in (Rollout.State.ACTIVE, Rollout.State.DONE):
                return 0
            others = Rollout.objects.filter(
                model=rollout.model, state__in=(Rollout.State.ACTIVE, Rollout.State.PAUSED)
            ).exclude(pk=pk)
            if rollout.state == Rollout.State.DONE and others.exists():
                return 0  # one at a time; theirs comes when that is done
            come = enter(rollout, missing, now)
            if rollout.state == Rollout.State.DONE and any(one.state not in plan.ENDED for one in come):
                rollout.state = Rollout.State.ACTIVE
                rollout.changed_at_ms = int(now * 1000)
                rollout.save(update_fields=["state", "changed_at_ms"])
        return len(come)


def enter(rollout: Rollout, devices: Iterable[Device], now: float) -> list[Progress]:
    """Put devices into a rollout, each where it stands by what it last said it runs.

    Args:
        devices: best with `select_related("contact")`.
    """
    now_ms = int(now * 1000)
    come: list[Progress] = []
    rows: list[RolloutDevice] = []
    for device in devices:
        row = RolloutDevice(rollout=rollout, device=device, state=State.WAITING.value, changed_at_ms=now_ms)
        contact = getattr(device, "contact", None)  # none: it was never heard
        if contact is not None:
            # what it sealed before, for an earlier rollout of the same release, is not about this one
            row.told_epoch, row.told_ctr = contact.epoch, contact.ctr
        release = rollout.release
        # a status names the application's release only
        runs = device.release if release.component == "app" else 0
        come.append(plan.begin(runs, release.sequence, now))
        progress.put(row, come[-1], now_ms)
        rows.append(row)
    # two workers may have seen the same device
    RolloutDevice.objects.bulk_create(rows, batch_size=CHUNK, ignore_conflicts=True)
    return come


def finish(rollouts: Iterable[int], now_ms: int) -> None:
    """Call those of the rollouts done in which no device has anything to come."""
    for pk in sorted(rollouts):
        if not RolloutDevice.objects.filter(rollout_id=pk).exclude(state__in=_ENDED).exists():
            Rollout.objects.filter(pk=pk, state=Rollout.State.ACTIVE).update(
                state=Rollout.State.DONE, changed_at_ms=now_ms
            )


def _outside(pk: int) -> QuerySet[Device]:
    """Devices of the rollout's model that are active, were heard, and are not in it."""
    rollout = Rollout.objects.get(pk=pk)
    return (
        Device.objects.filter(model=rollout.model, state__in=SERVED, contact__isnull=False)
        .exclude(rollouts__rollout_id=pk)
        .select_related("contact")
        .order_by("pk")
    )
