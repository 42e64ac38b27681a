"""What the device packs, the server reads: random batches go through MicroPython and come back as they were put in."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host_tools.ingest.decode import Telemetry, decode
from tests.support.micropython import Micropython

PACK = """
def pack(samples, room):
    from sealband.batch import Batch
    batch = Batch()
    for sample in samples:
        batch.add(*sample)
    plaintexts = []
    while len(batch):
        plaintexts.append(batch.take(room))
        batch.drop_taken()
    return plaintexts
"""
T = 60_000_000
# (record, period, which turns, first value): a sensor that was read at some of its turns
sensors = st.tuples(
    st.integers(1, 255),
    st.sampled_from([1, 10, 60, 600]),
    st.lists(st.integers(0, 60), min_size=1, max_size=30, unique=True),
    st.integers(-(2**31) + 1, 2**31 - 1),
)


@pytest.fixture(scope="module")
def device() -> Iterator[Micropython]:
    with Micropython() as device:
        device.run(PACK)
        yield device


@settings(max_examples=60, deadline=None)
@given(st.lists(sensors, min_size=1, max_size=4, unique_by=lambda sensor: sensor[0]), st.sampled_from([38, 102, 209]))
def test_what_the_device_packs_the_server_reads(device: Micropython, told, room: int):
    samples = sorted(
        (T + turn * period, record, period, max(-(2**31) + 1, min(2**31 - 1, first + turn * turn)))
        for record, period, turns, first in told
        for turn in turns
    )
    plaintexts = device.call(f"pack({[(record, period, t, value) for t, record, period, value in samples]!r}, {room})")
    found = []
    for plaintext in plaintexts:
        assert len(plaintext) <= room
        read = decode(plaintext)
        assert isinstance(read, Telemetry)
        found += list(read.samples())
    assert sorted(found) == sorted((t, record, value) for t, record, _, value in samples)
