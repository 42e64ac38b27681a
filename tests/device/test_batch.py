# Packing: nothing is lost, nothing is invented, frames are full, gaps and clock corrections survive.
from sealband import sleep
from sealband.batch import Batch, int_len
from sealband.crypto import cbor

HR = 1
SKIN = 3
BATTERY = 4
T = 60_000_000


def drain(batch, plaintext_max, limit=None):
    plaintexts = []
    while True:
        plaintext = batch.take(plaintext_max, limit)
        if plaintext is None:
            return plaintexts
        assert len(plaintext) <= plaintext_max
        batch.drop_taken()
        plaintexts.append(plaintext)


# [(t, record, value)] by the definition of telemetry, not by the packer's own code
def read(plaintexts):
    found = []
    for plaintext in plaintexts:
        items = cbor.decode_sequence(plaintext)
        assert items[0] == 0
        for series in items[2:]:
            assert series[2] is not None and series[-1] is not None
            assert series[1] > 0 or len(series) == 3
            value = 0
            for i, difference in enumerate(series[2:]):
                if difference is not None:
                    value += difference
                    found.append((items[1] + i * series[1], series[0], value))
    return sorted(found)


def fill(batch, samples):
    for t, record, dt, value in samples:
        assert batch.add(record, dt, t, value)
    return sorted((t, record, value) for t, record, dt, value in samples)


def test_int_len_is_what_cbor_writes():
    for value in (0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, -1, -24, -25, -256, -257, -65536, -65537):
        assert int_len(value) == len(cbor.encode(value)), value


def test_ten_minutes_fill_three_small_frames_or_one_large_one():
    samples = [(T, BATTERY, 600, 3912)]
    samples += [(T + 60 * i, SKIN, 60, 3312 - 4 * i) for i in range(10)]
    samples += [(T + 10 * i, HR, 10, 72 + (i * 7) % 9) for i in range(60)]
    for plaintext_max, frames in ((38, 3), (209, 1)):
        batch = Batch()
        want = fill(batch, samples)
        plaintexts = drain(batch, plaintext_max)
        assert len(plaintexts) == frames, len(plaintexts)
        assert read(plaintexts) == want
        assert len(batch) == 0


def test_missing_samples_become_nulls_and_long_gaps_a_new_series():
    batch = Batch()
    want = fill(batch, [(T, HR, 10, 70), (T + 30, HR, 10, 71), (T + 1000, HR, 10, 72)])
    plaintexts = drain(batch, 209)
    assert len(plaintexts) == 2
    assert read(plaintexts) == want
    assert cbor.decode_sequence(plaintexts[0])[2] == [HR, 10, 70, None, None, 1]


def test_splitting_beside_a_gap_leaves_no_null_at_an_edge():
    batch = Batch()
    samples = [(T + 10 * i, HR, 10, 60 + i % 5) for i in range(120) if i % 7 not in (2, 3, 4)]
    want = fill(batch, samples)
    assert read(drain(batch, 24)) == want


def test_values_of_any_size_and_sign_come_back():
    batch = Batch()
    values = (0, -1, 18000000, -18000000, 2147483647, -2147483647, 5)
    want = fill(batch, [(T + 60 * i, 8, 60, value) for i, value in enumerate(values)])
    assert read(drain(batch, 38)) == want
    assert not batch.add(8, 60, T, 1 << 31)
    assert not batch.add(8, 60, T, -(1 << 31))
    assert len(batch) == 0


def test_a_limit_leaves_later_samples_in_the_batch():
    batch = Batch()
    want = fill(batch, [(T + 10 * i, HR, 10, 70 + i % 3) for i in range(61)])
    plaintexts = drain(batch, 209, T + 600)
    assert read(plaintexts) == want[:60]
    assert len(batch) == 1
    assert batch.take(209, T + 600) is None


def test_what_was_taken_stays_until_it_is_queued():
    batch = Batch()
    fill(batch, [(T, HR, 10, 70), (T + 10, HR, 10, 71)])
    first = batch.take(38)
    assert batch.take(38) == first and len(batch) == 2
    batch.drop_taken()
    assert len(batch) == 0
    batch.drop_taken()


def test_shift_moves_everything():
    batch = Batch()
    fill(batch, [(10, HR, 10, 70), (20, HR, 10, 71), (60, SKIN, 60, 3300)])
    batch.shift(T)
    assert read(drain(batch, 38)) == [(T + 10, HR, 70), (T + 20, HR, 71), (T + 60, SKIN, 3300)]


def test_state_round_trips_through_cbor():
    batch = Batch()
    want = fill(batch, [(T + 10 * i, HR, 10, 70 + i % 4) for i in range(40) if i != 7] + [(T, BATTERY, 600, 3900)])
    other = Batch()
    sleep.regather(other, cbor.decode(cbor.encode(sleep.gathered(batch))))
    assert other.add(HR, 10, T + 400, 99)
    assert read(drain(other, 38)) == sorted(want + [(T + 400, HR, 99)])


def test_a_batch_that_cannot_be_sealed_is_bounded_and_counts_what_it_loses():
    batch = Batch()
    for i in range(5000):
        assert batch.add(HR, 10, T + 10 * i, 70)
        assert len(batch) <= 1200
    kept = read(drain(batch, 209))
    assert len(kept) + batch.lost == 5000
    assert kept[-1] == (T + 49990, HR, 70)


def test_random_series_come_back_from_frames_of_any_length():
    seed = 1
    for plaintext_max in (20, 38, 102, 209):
        for _ in range(6):
            batch = Batch()
            samples = {}
            for record in (HR, SKIN, BATTERY, 200):
                period = (10, 60, 600, 7)[seed % 4]
                for i in range(40):
                    seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
                    if seed >> 16 & 3:
                        samples[(T + period * i, record)] = (period, (seed >> 8) % 400 - 100)
            want = fill(batch, [(t, r) + samples[(t, r)] for t, r in sorted(samples)])
            assert read(drain(batch, plaintext_max)) == want
