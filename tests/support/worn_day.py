"""Frames of worn devices, put into the store as ingest leaves them: for tests and benches of what shows readings.

The values are made up, the same for the same seed, and of no body. Not through radio and worker: thousands of frames
would take minutes.
"""

import math
import random
from collections.abc import Iterator

from host_tools.ingest.decode import decode
from sealwire.messages import EPOCH_2025
from tests.support.fleet import GATEWAY, Fleet, Wearable, message, models, store

DAY = 86400
# 2026-09-21 00:00 UTC, seconds since 2025
MIDNIGHT = 1_789_948_800 - EPOCH_2025
FRAME_S = 300
# record, period in seconds
RECORDS = ((1, 30), (2, 60), (3, 60), (5, 300), (6, 60), (13, 60), (15, 60))
OFFLINE = (13 * 3600, 16 * 3600)
OFF_WRIST = (19 * 3600, 19 * 3600 + 2700)
WALK, RUN = (9 * 3600, 9 * 3600 + 2400), (17 * 3600, 17 * 3600 + 1800)
EVENTS = ((11 * 3600 + 60, 1, 4200, 12), (14 * 3600, 2), (OFF_WRIST[0], 5), (OFF_WRIST[1], 4), (20 * 3600, 64, 7))
HOME = (4736500, 854500)


def put(fleet: Fleet, wearable: Wearable, days: int = 1, seed: int = 1) -> int:
    """Store so many days of this device; how many samples."""
    payloads = store.Payloads(fleet.vault)
    rows, count, epoch, ctr = [], 0, 0, 0
    for plaintext, received in _frames(days, random.Random(seed)):
        decoded = decode(plaintext)
        first, last = decoded.span()
        count += sum(1 for _ in decoded.samples()) if decoded.TYPE == 0 else 0
        rows.append(
            models.Frame(
                device_id=wearable.pk,
                epoch=epoch,
                ctr=ctr,
                received_at_ms=int((received + EPOCH_2025) * 1000),
                message_type=decoded.TYPE,
                t_first=first,
                t_last=last,
                payload_wrapped=payloads.wrap(plaintext, wearable.eui, epoch, ctr),
                link="lora",
                gateway=GATEWAY,
            )
        )
        epoch, ctr = (epoch, ctr + 1) if ctr < 65535 else (epoch + 1, 0)
    models.Frame.objects.bulk_create(rows, batch_size=500)
    return count


def _frames(days: int, chance: random.Random) -> Iterator[tuple[bytes, float]]:
    """(plaintext, when it arrived, seconds since 2025)."""
    place = list(HOME)
    for day in range(days):
        begun = MIDNIGHT + day * DAY
        for at in range(0, DAY, FRAME_S):
            series = []
            for record, period in RECORDS:
                values = [_value(record, at + index * period, chance) for index in range(FRAME_S // period)]
                if values[0] is None:
                    continue  # a series begins with a value
                differences, last = [], 0
                for value in values:
                    differences.append(None if value is None else value - last)
                    last = last if value is None else value
                series.append([record, period if len(values) > 1 else 0, *differences])
            if series:
                yield message(0, begun + at, *series), begun + _arrival(at + FRAME_S, chance)
            if not at % 1800:
                away = WALK[0] <= at < WALK[1] or RUN[0] <= at < RUN[1]
                place = [one + chance.choice((-90, 0, 90)) for one in place] if away else list(HOME)
                yield message(0, begun + at, [7, 0, place[0]], [8, 0, place[1]]), begun + _arrival(at + 30, chance)
                yield message(0, begun + at, [4, 0, 4150 - at // 200]), begun + _arrival(at + 30, chance)
        for at, *event in EVENTS:
            yield message(1, begun + at, *event), begun + _arrival(at + 5, chance)
        yield message(2, begun + 600, {1: 580, 6: 4100, 12: bytes((1, 2, 3, 4, 5, 6, 7, 8, 13, 15))}), begun + 602


def _arrival(at: float, chance: random.Random) -> float:
    """When what is sent at this time of the day arrives."""
    if OFFLINE[0] <= at < OFFLINE[1]:
        return OFFLINE[1] + 20 + (at - OFFLINE[0]) / 40
    return at + 4 + 8 * chance.random()


def _value(record: int, at: int, chance: random.Random) -> int | None:
    walking, running = WALK[0] <= at < WALK[1], RUN[0] <= at < RUN[1]
    off = OFF_WRIST[0] <= at < OFF_WRIST[1]
    if record == 6:
        return 2 if running else 1 if walking else 0 if chance.random() < 0.97 else 3
    if record == 13:
        return 0 if off else 1
    if record == 5:
        return 500 if walking else 780 if running else 0 if off else chance.choice((0, 0, 0, 12, 40))
    if record == 15:
        return 250 if walking else 900 if running else chance.randrange(2, 12)
    if off or (record in (1, 2) and chance.random() < (0.3 if running else 0.03)):
        return None
    wave = math.sin(at / DAY * 2 * math.pi - 2)
    if record == 1:
        return round(64 + 8 * wave + (28 if walking else 75 if running else 0) + chance.gauss(0, 2))
    if record == 2:
        return min(100, round(97 + chance.gauss(0, 0.7)))
    return round(3310 + 60 * wave + chance.gauss(0, 4))
