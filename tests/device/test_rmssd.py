# RMSSD on MicroPython: intervals whose answer follows from the definition (Task Force of the ESC and NASPE, 1996: the
# square root of the mean of the squared differences of successive intervals). Real pulses: tests/bench/agreement.py.
import math

from sealband.sensors import heart, rmssd

HEAP = "64wK"
RATE = 25


def beats(intervals, begin=400):
    found = [begin]
    for interval in intervals:
        found.append(found[-1] + interval)
    return found


def defined(*pieces):
    differences = [b - a for piece in pieces for a, b in zip(piece, piece[1:])]
    return math.sqrt(sum(d * d for d in differences) / len(differences))


def swinging(count, base=800, swing=40):
    return [base + int(swing * math.sin(i * 1.3)) for i in range(count)]


def test_a_row_of_intervals_is_what_the_definition_says():
    intervals = swinging(40)
    found = rmssd.Rmssd()
    found.take(beats(intervals))
    assert found.count == 39
    assert abs(found.value() - defined(intervals)) <= 0.5


def test_windows_that_overlap_count_each_interval_once():
    row = beats(swinging(60))
    found = rmssd.Rmssd()
    for first in range(0, 61, 5):
        found.take(row[first : first + 10])
    assert found.count == 59
    assert abs(found.value() - defined(swinging(60))) <= 0.5


def test_an_outlier_is_left_out_with_both_its_differences():
    intervals = swinging(50)
    # a beat too early, and the pause after it
    broken = intervals[:20] + [500, 1100] + intervals[22:]
    found = rmssd.Rmssd()
    found.take(beats(broken))
    assert found.count == 46
    assert abs(found.value() - defined(intervals[:20], intervals[22:])) <= 0.5


def test_a_beat_that_was_missed_makes_no_difference():
    intervals = swinging(50)
    row = beats(intervals)
    found = rmssd.Rmssd()
    found.take(row[:25] + row[26:])
    assert abs(found.value() - defined(intervals[:24], intervals[26:])) <= 0.5


def test_what_a_bad_window_parts_is_not_joined():
    intervals = swinging(60)
    row = beats(intervals)
    found = rmssd.Rmssd()
    found.take(row[:30])
    found.take([])
    found.take(row[35:])
    assert abs(found.value() - defined(intervals[:29], intervals[35:])) <= 0.5


def test_windows_with_beats_missing_between_them_are_not_joined():
    intervals = swinging(60)
    row = beats(intervals)
    found = rmssd.Rmssd()
    found.take(row[:30])
    found.take(row[31:])
    assert abs(found.value() - defined(intervals[:29], intervals[31:])) <= 0.5


def test_too_few_differences_give_no_number():
    found = rmssd.Rmssd()
    assert found.value() is None
    found.take(beats(swinging(20)))
    assert found.count == 19 and found.value() is None
    found.take(beats(swinging(21)))
    assert found.value() is not None


def test_tops_between_samples_give_the_intervals_at_25_hz():
    # a pulse whose intervals swing by 4 %: at 40 ms a sample the grid alone would say 40 ms and more
    pulse = heart.Pulse()
    found = rmssd.Rmssd()
    begin = 0.0
    intervals = swinging(70, swing=30)
    samples = []
    for interval in intervals:
        begin += interval / 1000
        while len(samples) / RATE < begin:
            phase = 1 - (begin - len(samples) / RATE) / (interval / 1000)
            turn = 2 * math.pi * phase
            samples.append(int(100000 + 1000 * (math.sin(turn) + 0.4 * math.sin(2 * turn + 0.5))))
    for value in samples[: 48 * RATE]:
        pulse.add(value)
        if pulse.full():
            assert pulse.estimate() == 75
            found.take(pulse.beats)
            pulse.slide(100)
    assert found.count > 50
    assert abs(found.value() - defined(intervals)) <= 3, (found.value(), defined(intervals))
