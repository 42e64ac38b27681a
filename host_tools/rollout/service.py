"""What an operator does with rollouts, each in one transaction with its audit event: create, pause, resume, abort.

Which devices get what next is decided by `plan`; orders leave through ingest's queue of commands. Prints nothing.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from django.db import IntegrityError, OperationalError, transaction
from django.db.models import F

from host_tools.ingest.commands import withdraw
from host_tools.ingest.models import Command
from host_tools.rollout import plan
from host_tools.rollout.dispatch import Dispatch, enter, finish
from host_tools.rollout.errors import RolloutError
from host_tools.rollout.models import Release, Rollout
from host_tools.rollout.plan import Progress, State
from host_tools.rollout.published import Published
from provisioning.registry import audit
from provisioning.registry.devices import SERVED
from provisioning.registry.models import Device
from provisioning.registry.vault import Vault

NAMED_MAX = 10_000  # devices that a rollout names
SHOWN_MAX = 5  # in a message
TRIES_MAX = 3
_UNDER_WAY = (Rollout.State.ACTIVE, Rollout.State.PAUSED)

_Result = TypeVar("_Result")


def _persistently(action: Callable[[], _Result]) -> _Result:
    """Try again when a worker's transaction and this one waited for each other, and the database ended this one."""
    for _ in range(TRIES_MAX - 1):
        try:
            return action()
        except OperationalError:
            time.sleep(0.05)
    return action()


class Rollouts:
    """The rollouts of the connected database.

    Args:
        vault: seals commands, signs the audit trail.
        actor: who does it.
        clock: Unix seconds.
    """

    def __init__(self, vault: Vault, actor: str = "system", clock: Callable[[], float] = time.time) -> None:
        self._vault = vault
        self._actor = actor
        self._clock = clock
        self._dispatch = Dispatch(vault, clock)

    def create(self, published: Published, euis: Sequence[bytes] | None = None, *, replace: bool = False) -> int:
        """Begin to roll a release out; the orders are queued when this returns.

        Args:
            published: the release.
            euis: the devices that are to get it; None: all of its model, those to come included.
            replace: end what is under way for the model.

        Returns:
            The rollout's number.

        Raises:
            RolloutError: says what stands against it; nothing was changed.
        """
        try:
            pk = _persistently(lambda: self._create(published, euis, replace))
        except IntegrityError:
            raise _other(published.model) from None
        self._dispatch.order(pk)
        return pk

    def _create(self, published: Published, euis: Sequence[bytes] | None, replace: bool) -> int:
        now = self._clock()
        now_ms = int(now * 1000)
        with transaction.atomic():
            devices = _targets(published, euis)
            under_way = list(
                Rollout.objects.select_for_update().filter(model=published.model, state__in=_UNDER_WAY).order_by("pk")
            )
            if under_way and not replace:
                raise _other(published.model, under_way[0].pk)
            release = _release(published, now_ms)
            for other in under_way:
                self._end(other, Rollout.State.REPLACED, now_ms)
            rollout = Rollout.objects.create(
                release=release,
                model=release.model,
                everybody=euis is None,
                created_by=self._actor[:64],
                created_at_ms=now_ms,
                changed_at_ms=now_ms,
            )
            enter(rollout, devices, now)
            self._tell(
                "ota_started",
                rollout,
                devices=len(devices),
                everybody=rollout.everybody,
                manifest=bytes(release.manifest_digest).hex(),
                url=release.url,
            )
        return rollout.pk

    def pause(self, number: int) -> None:
        """Send no more orders; those that a device has are carried out. Raises RolloutError."""
        _persistently(lambda: self._pause(number))

    def resume(self, number: int) -> None:
        """Go on with a paused rollout; the orders are queued when this returns. Raises RolloutError."""
        _persistently(lambda: self._resume(number))
        self._dispatch.order(number)

    def abort(self, number: int) -> None:
        """End a rollout for good: no more orders, and its release is not the newest any more. Raises RolloutError."""
        _persistently(lambda: self._abort(number))

    def _pause(self, number: int) -> None:
        now_ms = self._now_ms()
        with transaction.atomic():
            rollout = _get(number)
            if rollout.state != Rollout.State.ACTIVE:
                raise RolloutError(f"rollout {number} is {rollout.state}", "only an active one can be paused")
            self._withdraw(rollout, now_ms, for_good=False)
            _to(rollout, Rollout.State.PAUSED, now_ms)
            self._tell("ota_paused", rollout)

    def _resume(self, number: int) -> None:
        now = self._clock()
        with transaction.atomic():
            rollout = _get(number)
            if rollout.state != Rollout.State.PAUSED:
                raise RolloutError(f"rollout {number} is {rollout.state}", "only a paused one can go on")
            for state in set(State) - plan.ENDED:
                after = plan.resume(Progress(state), now)
                assert after.next_at is not None
                rollout.devices.filter(state=state.value).update(
                    state=after.state.value, next_at_ms=int(after.next_at * 1000)
                )
            _to(rollout, Rollout.State.ACTIVE, int(now * 1000))
            self._tell("ota_resumed", rollout)
            finish([rollout.pk], int(now * 1000))

    def _abort(self, number: int) -> None:
        with transaction.atomic():
            rollout = _get(number)
            if rollout.state not in (*_UNDER_WAY, Rollout.State.DONE):
                raise RolloutError(f"rollout {number} is {rollout.state}", "nothing is left to abort")
            self._end(rollout, Rollout.State.ABORTED, self._now_ms())

    def _end(self, rollout: Rollout, state: Rollout.State, now_ms: int) -> None:
        self._withdraw(rollout, now_ms, for_good=True)
        _to(rollout, state, now_ms)
        self._tell("ota_stopped", rollout, state=state.value)

    def _withdraw(self, rollout: Rollout, now_ms: int, *, for_good: bool) -> None:
        rows = rollout.devices
        # the commands first: after that nobody sends them any more, and what was sent is known
        withdraw(Command.objects.filter(pk__in=rows.exclude(command=None).values("command_id")), now_ms)
        for state in set(State) - plan.ENDED:
            for was_sent in (True, False):
                after = plan.withdraw(Progress(state, orders=1), was_sent, for_good)
                sent = rows.filter(command__tries__gt=0).values("pk")
                those = rows.filter(state=state.value)
                those = those.filter(pk__in=sent) if was_sent else those.exclude(pk__in=sent)
                those.update(next_at_ms=None, orders=F("orders") + after.orders - 1)
                if after.state is not state:
                    those.update(state=after.state.value, changed_at_ms=now_ms)

    def _tell(self, event: str, rollout: Rollout, **details: audit.Detail) -> None:
        release = rollout.release
        audit.append(
            self._vault,
            event,
            subject=f"rollout {rollout.pk}",
            actor=self._actor[:64],
            clock=self._clock,
            model=release.model,
            component=release.component,
            sequence=release.sequence,
            **details,
        )

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _targets(published: Published, euis: Sequence[bytes] | None) -> list[Device]:
    """The devices of a new rollout; raises RolloutError if they cannot be, or none of them needs the release."""
    of_model = Device.objects.filter(model=published.model)
    if not of_model.exists():
        known = ", ".join(sorted(set(Device.objects.values_list("model", flat=True)))[:SHOWN_MAX]) or "none"
        raise RolloutError(f"no device of the model {published.model!r} is enrolled", f"models that are: {known}")
    if euis is None:
        devices = list(of_model.filter(state__in=SERVED).select_related("contact").order_by("pk"))
    else:
        devices = _named(published, euis)
    if not devices:
        raise RolloutError(f"no device of the model {published.model!r} is active", "see: sealband registry devices")
    if published.component == "app" and all(device.release >= published.sequence for device in devices):
        least = min(device.release for device in devices)
        raise RolloutError(
            f"release {published.sequence} is not newer than what the devices run (release {least} or later)",
            "build the release anew with a higher sequence: devices never go back",
        )
    return devices


def _named(published: Published, euis: Sequence[bytes]) -> list[Device]:
    wanted = set(euis)
    if not 0 < len(wanted) <= NAMED_MAX:
        raise RolloutError(f"a rollout names 1 to {NAMED_MAX} devices", "leave --device out for all of the model")
    found: list[Device] = []
    for start in range(0, len(wanted), 500):
        part = sorted(wanted)[start : start + 500]
        found += Device.objects.filter(eui__in=part, former=None).select_related("contact").order_by("pk")
    missing = wanted - {bytes(device.eui) for device in found}
    if missing:
        raise RolloutError(f"not enrolled: {_shown(missing)}", "see: sealband registry devices")
    foreign = [bytes(device.eui) for device in found if device.model != published.model]
    if foreign:
        raise RolloutError(
            f"not of the model {published.model!r}: {_shown(foreign)}", "name devices of the release's model only"
        )
    off = [bytes(device.eui) for device in found if device.state not in SERVED]
    if off:
        raise RolloutError(f"suspended or retired: {_shown(off)}", "name active devices only")
    return found


def _release(published: Published, now_ms: int) -> Release:
    """The release's row, made when it is not there."""
    names = {"model": published.model, "component": published.component, "sequence": published.sequence}
    release = Release.objects.select_for_update().filter(**names).first()
    if release is None:
        return Release.objects.create(
            **names,
            version=published.version[:64],
            manifest_digest=published.manifest_digest,
            image_digest=published.image_digest,
            size=published.size,
            url=published.url,
            published_at_ms=now_ms,
        )
    if bytes(release.manifest_digest) != published.manifest_digest:
        raise RolloutError(
            f"release {published.sequence} of {published.model} was rolled out before with another manifest",
            "a sequence is given once: build the release anew with a higher one",
        )
    if release.url != published.url:
        release.url = published.url
        release.save(update_fields=["url"])
    return release


def _get(number: int) -> Rollout:
    rollout = Rollout.objects.select_for_update(of=("self",)).select_related("release").filter(pk=number).first()
    if rollout is None:
        raise RolloutError(f"there is no rollout {number}", "see: sealband rollout status")
    return rollout


def _to(rollout: Rollout, state: Rollout.State, now_ms: int) -> None:
    rollout.state = state
    rollout.changed_at_ms = now_ms
    rollout.save(update_fields=["state", "changed_at_ms"])


def _other(model: str, number: int | None = None) -> RolloutError:
    which = "another rollout" if number is None else f"rollout {number}"
    return RolloutError(
        f"{which} is under way for {model}", "wait until it is done, abort it, or put this one in its place: --replace"
    )


def _shown(euis: Iterable[bytes]) -> str:
    shown = [eui.hex() for eui in sorted(euis)]
    more = f" and {len(shown) - SHOWN_MAX} more" if len(shown) > SHOWN_MAX else ""
    return ", ".join(shown[:SHOWN_MAX]) + more
