"""Rows of devices in rollouts ⇄ what the plan decides about."""

from collections.abc import Iterable

from django.db import connection

from host_tools.rollout.models import RolloutDevice
from host_tools.rollout.plan import Progress, State

_COLUMNS = (
    "state",
    "reason",
    "orders",
    "endings",
    "command_id",
    "next_at_ms",
    "told_epoch",
    "told_ctr",
    "changed_at_ms",
)


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


def save(rows: Iterable[RolloutDevice]) -> None:
    """Write what changes of rows that are there."""
    places = ", ".join(f"{column} = %s" for column in _COLUMNS)
    with connection.cursor() as cursor:
        # a large fleet is ordered in one go, and Django's bulk_update takes ten times as long
        cursor.executemany(
            f"UPDATE {RolloutDevice._meta.db_table} SET {places} WHERE id = %s",  # noqa: S608 no input in it
            [[*(getattr(row, column) for column in _COLUMNS), row.pk] for row in rows],
        )
