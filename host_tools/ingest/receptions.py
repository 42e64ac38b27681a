"""Receptions: which gateways heard a stored frame, and how. No function here begins or ends a transaction.

A frame is stored once; who heard it is stored beside it, up to a bound, since anybody can replay a frame through a
gateway, or be one. Nothing of this is a wearer's: it is about radio.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import Q

from host_tools.gateway.envelope import Uplink
from host_tools.ingest.models import Frame, Reception
from host_tools.ingest.store import FRAMES_A_STATEMENT, Number

# Of one frame. Gateways that hear one transmission are few; what is beyond is somebody who replays it, or a gateway
# that lies, and must not grow the table.
RECEPTIONS_MAX = 16
# Of one frame and gateway: one for each time that the device sends it. A gateway that tells of more must not take the
# room of those that hear the next repetition, for by theirs the answer goes that the first one swallowed.
OF_GATEWAY_MAX = 4

_COLUMNS = (
    "frame_id",
    "gateway",
    "received_at_ms",
    "rssi",
    "snr",
    "frequency_hz",
    "data_rate",
    "region",
    "context",
    "answered",
)


@dataclass(frozen=True, slots=True)
class Heard:
    """How a gateway heard a stored frame; see `models.Reception`."""

    number: Number
    uplink: Uplink
    received_at_ms: int


def insert(heard: Iterable[Heard]) -> int:
    """Store receptions of frames that are stored; how many were left out because their frame has enough of them."""
    waiting = list({(one.number, one.uplink.gateway, one.received_at_ms): one for one in heard}.values())
    room = _room({one.number for one in waiting})
    told_of = _told_of([frame for frame, free in room.values() if free < RECEPTIONS_MAX])
    rows: list[tuple[Any, ...]] = []
    left_out = 0
    # the first of each frame, also where one gateway tells of the same frame again and again
    for one in sorted(waiting, key=lambda one: (one.number, one.received_at_ms)):
        if one.number not in room:
            continue  # not stored: its device is gone meanwhile
        frame, free = room[one.number]
        told = one.uplink
        if not free or told_of[frame, told.gateway] >= OF_GATEWAY_MAX:
            left_out += 1
            continue
        room[one.number] = frame, free - 1
        told_of[frame, told.gateway] += 1
        values = told.rssi, told.snr, told.frequency_hz, told.data_rate, told.region, told.context, False
        rows.append((frame, told.gateway, one.received_at_ms, *values))
    _store(rows)
    return left_out


def _store(rows: Sequence[tuple[Any, ...]]) -> None:
    # one for every frame: written out, it costs a fifth of what objects do
    place = f"({', '.join(['%s'] * len(_COLUMNS))})"
    with connection.cursor() as cursor:
        for start in range(0, len(rows), FRAMES_A_STATEMENT):
            part = rows[start : start + FRAMES_A_STATEMENT]
            cursor.execute(
                f"INSERT INTO {Reception._meta.db_table} ({', '.join(_COLUMNS)})"  # noqa: S608 no input in it
                f" VALUES {', '.join([place] * len(part))} ON CONFLICT DO NOTHING",
                [value for row in part for value in row],
            )


def _room(numbers: set[Number]) -> dict[Number, tuple[int, int]]:
    """(primary key, receptions that may still be stored) of each frame."""
    found: dict[Number, tuple[int, int]] = {}
    ordered = sorted(numbers)
    with connection.cursor() as cursor:
        for start in range(0, len(ordered), FRAMES_A_STATEMENT):
            part = ordered[start : start + FRAMES_A_STATEMENT]
            cursor.execute(
                "SELECT f.id, f.device_id, f.epoch, f.ctr,"  # noqa: S608 no input in it
                f" (SELECT COUNT(*) FROM {Reception._meta.db_table} r WHERE r.frame_id = f.id)"
                f" FROM {Frame._meta.db_table} f WHERE (f.device_id, f.epoch, f.ctr)"
                f" IN (VALUES {', '.join(['(%s, %s, %s)'] * len(part))})",
                [value for number in part for value in number],
            )
            for frame, device, epoch, ctr, count in cursor.fetchall():
                found[device, epoch, ctr] = frame, max(0, RECEPTIONS_MAX - count)
    return found


def _told_of(frames: Sequence[int]) -> Counter[tuple[int, str]]:
    """How many receptions each gateway has of these frames (primary keys)."""
    counts: Counter[tuple[int, str]] = Counter()
    if frames:
        rows = Reception.objects.filter(frame_id__in=frames).values_list("frame_id", "gateway")
        counts.update(rows)
    return counts


def of(numbers: Iterable[Number]) -> dict[Number, list[Reception]]:
    """The receptions of these frames, in the order in which they came."""
    frames = {frame: number for number, (frame, _) in _room(set(numbers)).items()}
    found: dict[Number, list[Reception]] = defaultdict(list)
    for row in Reception.objects.filter(frame_id__in=frames).order_by("received_at_ms", "pk"):
        found[frames[row.frame_id]].append(row)
    return found


def note_answered(receptions: Iterable[int]) -> None:
    """Keep by which gateways frames were answered; by the receptions' primary keys."""
    Reception.objects.filter(pk__in=list(receptions)).update(answered=True)


def newest(devices: Collection[tuple[bytes, int | None]], count: int) -> list[dict[str, Any]]:
    """The newest frames that gateways heard, the newest first, with all their receptions.

    Args:
        devices: EUI-64s, each with the number of a former identity, None for the present one; empty: all.
        count: so many frames.
    """
    frames = Frame.objects.filter(link=Frame.Link.LORA).select_related("device").prefetch_related("receptions")
    if devices:
        named = Q()
        for eui, former in devices:
            named |= Q(device__eui=eui, device__former=former)
        frames = frames.filter(named)
    return [
        {
            "device": frame.device.label,
            "epoch": frame.epoch,
            "ctr": frame.ctr,
            "received_at": frame.received_at_ms / 1000,
            "receptions": [
                {
                    "gateway": one.gateway,
                    "received_at": one.received_at_ms / 1000,
                    "rssi": one.rssi,
                    "snr": one.snr,
                    "frequency_hz": one.frequency_hz,
                    "data_rate": one.data_rate,
                    "region": one.region,
                    "answered": one.answered,
                }
                for one in sorted(frame.receptions.all(), key=lambda one: (one.received_at_ms, one.pk))
            ],
        }
        for frame in frames.order_by("-pk")[:count]
    ]
