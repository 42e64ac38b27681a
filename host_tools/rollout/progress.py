"""Rows of devices in rollouts ⇄ what the plan decides about."""

from host_tools.rollout.models import RolloutDevice
from host_tools.rollout.plan import Progress, State

FIELDS = ("state", "reason", "orders", "next_at_ms", "changed_at_ms")


def of(row: RolloutDevice) -> Progress:
    """Where a device stands."""
    next_at = None if row.next_at_ms is None else row.next_at_ms / 1000
    return Progress(State(row.state), row.reason, row.orders, next_at)


def put(row: RolloutDevice, progress: Progress, now_ms: int) -> bool:
    """Change an unsaved row to what was decided; whether the device's state is another now."""
    moved = row.state != progress.state.value
    if moved:
        row.changed_at_ms = now_ms
    row.state = progress.state.value
    row.reason = progress.reason[:32]
    row.orders = progress.orders
    row.next_at_ms = None if progress.next_at is None else int(progress.next_at * 1000)
    return moved
