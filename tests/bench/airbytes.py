"""Bytes on air a sample: ten minutes of a wearable's readings, packed by the device's own code on MicroPython."""

import random

import cbor2

from sealwire import frame, messages, records
from tests.bench.figure import Figure
from tests.support.micropython import Micropython

PERIOD_S = 600
START = 60_000_000 // PERIOD_S * PERIOD_S  # 2026-11: times need four bytes, as they do for a century
LIMITS = {51: 2.5, 222: 1.7}

Sample = tuple[int, int, int, int]  # time, record, period, value


def readings(seed: int) -> list[Sample]:
    """Ten minutes: a heart rate every 10 s that wanders by a few beats, skin temperature every minute, one battery."""
    wearer = random.Random(seed)
    samples: list[Sample] = [(START, records.BATTERY_VOLTAGE, PERIOD_S, wearer.randint(3600, 4150))]
    skin = wearer.randint(3150, 3450)
    for minute in range(10):
        samples.append((START + 60 * minute, records.SKIN_TEMPERATURE, 60, skin))
        skin += wearer.randint(-8, 8)
    rate = wearer.randint(55, 110)
    for step in range(60):
        samples.append((START + 10 * step, records.HEART_RATE, 10, rate))
        rate = min(180, max(45, rate + wearer.randint(-6, 6)))
    return sorted(samples)


def pack(samples: list[Sample], frame_max: int) -> list[bytes]:
    """The telemetry plaintexts that the device makes of these samples for frames of at most `frame_max` bytes."""
    with Micropython(heap="64wK") as device:
        device.run("from sealband.batch import Batch")
        device.run("batch = Batch()")
        for t, record, period, value in samples:
            assert device.call(f"batch.add({record}, {period}, {t}, {value})")
        plaintexts = []
        while (plaintext := device.call(f"batch.take({frame_max - frame.OVERHEAD})")) is not None:
            device.run("batch.drop_taken()")
            plaintexts.append(plaintext)
    return plaintexts


def unpack(plaintexts: list[bytes]) -> list[tuple[int, int, int]]:
    """(time, record, value) of every sample in the plaintexts, read with a second library."""
    found = []
    for plaintext in plaintexts:
        items = _sequence(plaintext)
        assert items[0] == messages.TELEMETRY
        for record, period, *differences in items[2:]:
            value = 0
            for index, difference in enumerate(differences):
                if difference is not None:
                    value += difference
                    found.append((items[1] + index * period, record, value))
    return sorted(found)


def _sequence(data: bytes) -> list[int | list[int]]:
    import io

    stream = io.BytesIO(data)
    items = []
    while stream.tell() < len(data):
        items.append(cbor2.load(stream))
    return items


def bytes_a_sample(seed: int, frame_max: int) -> tuple[float, int]:
    """Bytes on air a sample and the number of frames; every sample is in them, once."""
    samples = readings(seed)
    plaintexts = pack(samples, frame_max)
    assert unpack(plaintexts) == sorted((t, record, value) for t, record, _, value in samples)
    sizes = [len(plaintext) + frame.OVERHEAD for plaintext in plaintexts]
    assert max(sizes) <= frame_max
    return sum(sizes) / len(samples), len(sizes)


def figures() -> list[Figure]:
    """Bytes on air a sample for both frame lengths, the worst of a few wearers."""
    results = []
    for frame_max, limit in LIMITS.items():
        value, frames = max(bytes_a_sample(seed, frame_max) for seed in range(5))
        note = f"71 samples in {frames} frames, everything beside the LoRa header counted"
        results.append(Figure(f"bytes on air a sample, frames ≤ {frame_max} B", value, limit, unit="B", note=note))
    return results
