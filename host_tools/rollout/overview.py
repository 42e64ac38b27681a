"""Rollouts as plain values, for tables and machines. Changes nothing."""

from collections import defaultdict
from typing import Any

from django.db.models import Count, Q

from host_tools.ingest.models import Command
from host_tools.rollout import plan
from host_tools.rollout.models import Rollout, RolloutDevice
from host_tools.rollout.plan import State

_ENDED = [state.value for state in plan.ENDED]
_SUCCEEDED = [state.value for state in plan.SUCCEEDED]


def rollouts(number: int | None = None) -> list[dict[str, Any]]:
    """Rollouts, the newest first.

    Args:
        number: only this one.

    Returns:
        Of each: number, release, state, target, and `devices` by state. `succeeded` and `ended` count those that have
        the release (or a newer one) and those that nothing is expected of; `too_long` those whose link has not been
        able to carry the order so far.
    """
    rows = Rollout.objects.select_related("release").order_by("-pk")
    if number is not None:
        rows = rows.filter(pk=number)
    found = list(rows)
    by_state: defaultdict[int, dict[str, int]] = defaultdict(dict)
    of_these = RolloutDevice.objects.filter(rollout__in=found)
    for pk, state, count in of_these.values_list("rollout_id", "state").annotate(n=Count("pk")):
        by_state[pk][state] = count
    too_long = dict(
        of_these.filter(_unsent_too_long())
        .values_list("rollout_id")
        .annotate(n=Count("pk"))
        .values_list("rollout_id", "n")
    )
    return [
        {
            "rollout": row.pk,
            "model": row.model,
            "component": row.release.component,
            "sequence": row.release.sequence,
            "version": row.release.version,
            "state": row.state,
            "target": "all" if row.everybody else "named",
            "url": row.release.url,
            "manifest_digest": bytes(row.release.manifest_digest).hex(),
            "created_by": row.created_by,
            "created_at": row.created_at_ms / 1000,
            "changed_at": row.changed_at_ms / 1000,
            "total": sum(by_state[row.pk].values()),
            "succeeded": sum(by_state[row.pk].get(state, 0) for state in _SUCCEEDED),
            "ended": sum(by_state[row.pk].get(state, 0) for state in _ENDED),
            "too_long": too_long.get(row.pk, 0),
            "devices": {state.value: by_state[row.pk][state.value] for state in State if state in by_state[row.pk]},
        }
        for row in found
    ]


def devices(number: int) -> list[dict[str, Any]]:
    """The devices of a rollout, those with trouble first.

    Returns:
        Of each: EUI, state, the reason why it is not further, how often its order was sent (`sent` of the last of
        `orders` commands), the release that it last said it runs, and when it was last heard and last moved (Unix
        seconds, None for never).
    """
    rows = (
        RolloutDevice.objects.filter(rollout_id=number)
        .select_related("device__contact", "command")
        .order_by("device__eui")
    )
    told = [_device(row) for row in rows]
    trouble = {State.FAILED: 0, State.ROLLED_BACK: 1, State.REFUSED: 2, State.RETRYING: 3}
    return sorted(told, key=lambda one: trouble.get(State(one["state"]), 9))


def _device(row: RolloutDevice) -> dict[str, Any]:
    contact = getattr(row.device, "contact", None)
    command = row.command
    waits = command is not None and command.state == Command.State.QUEUED and command.too_long > 0
    return {
        "device": row.device.label,
        "state": row.state,
        "reason": row.reason or ("too long for the link" if waits else ""),
        "orders": row.orders,
        "sent": command.tries if command else 0,
        "too_long": command.too_long if command else 0,
        "release": row.device.release,
        "heard_at": contact.heard_at_ms / 1000 if contact else None,
        "changed_at": row.changed_at_ms / 1000,
    }


def _unsent_too_long() -> Q:
    return Q(command__state=Command.State.QUEUED, command__too_long__gt=0)
