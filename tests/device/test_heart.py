# The heart-rate algorithm on MicroPython: made-up pulses of known rate, noise, gaps, bounded memory. Real pulses:
# tests/host/test_heart_agreement.py.
import gc
import math

from sealband.sensors import heart

HEAP = "64wK"
RATE = 25


# one pulse wave, steep up and slow down, phase 0 to 1, about -1 to 1
def wave(phase):
    turn = 2 * math.pi * phase
    return 0.7 * (math.sin(turn) + 0.4 * math.sin(2 * turn + 0.5) + 0.1 * math.sin(3 * turn + 1))


def noise(seed):
    # Numerical Recipes' LCG, -0.5 to 0.5
    while True:
        seed = (seed * 1664525 + 1013904223) & 0xFFFFFFFF
        yield seed / 4294967296 - 0.5


def fill(pulse, seconds, bpm, height=2000, level=160000, hiss=0, drift=0, begin=0.0):
    source = noise(7)
    for i in range(round(seconds * RATE)):
        t = begin + i / RATE
        value = level + height / 2 * wave(t * bpm / 60 % 1) + hiss * next(source) + drift * math.sin(t * 1.3)
        pulse.add(int(value))


def measured(seconds=9.2, **what):
    pulse = heart.Pulse()
    fill(pulse, seconds, **what)
    return pulse.estimate()


def test_every_rate_from_40_to_200_is_found_within_one_beat():
    for bpm in range(40, 201, 4):
        found = measured(bpm=bpm)
        assert found is not None and abs(found - bpm) <= 1, (bpm, found)


def test_rates_outside_the_range_give_no_number_rather_than_a_wrong_one():
    for bpm in (15, 20, 25, 30, 230, 260, 300):
        found = measured(bpm=bpm)
        assert found is None or abs(found - bpm) <= 2, (bpm, found)


def test_noise_and_breathing_on_a_good_pulse():
    for bpm in (52, 75, 120, 170):
        found = measured(bpm=bpm, hiss=300, drift=1500)
        assert found is not None and abs(found - bpm) <= 2, (bpm, found)


def test_weak_pulse_of_a_thousandth_is_found():
    assert measured(bpm=75, height=160) == 75


def test_no_pulse_no_number():
    assert measured(bpm=75, height=0) is None
    assert measured(bpm=75, height=0, hiss=50) is None
    assert measured(bpm=75, height=0, drift=3000) is None


def test_noise_never_has_a_pulse():
    source = noise(3)
    for _ in range(60):
        pulse = heart.Pulse()
        level = 0
        for _ in range(230):
            # white and wandering
            level += 80 * next(source)
            pulse.add(int(100000 + 300 * next(source) + level))
        assert pulse.estimate() is None
        assert pulse.reason != "good"


def test_pulse_that_drowns_halfway_gives_no_number():
    pulse = heart.Pulse()
    fill(pulse, 5, 70)
    source = noise(5)
    level = 160000
    while not pulse.full():
        level += int(4000 * next(source))
        pulse.add(level)
    assert pulse.estimate() is None


def test_too_few_samples_give_no_number():
    assert heart.Pulse().estimate() is None
    pulse = heart.Pulse()
    fill(pulse, 5, 70)
    assert pulse.estimate() is None
    assert pulse.reason == "too short"


def test_gap_costs_samples_and_makes_no_false_beat():
    for missing in (0.3, 0.5, 0.77):
        pulse = heart.Pulse()
        fill(pulse, 5.2, 72)
        pulse.gap()
        fill(pulse, 5.2, 72, begin=5.2 + missing)
        assert pulse.full()
        assert abs(pulse.estimate() - 72) <= 1


def test_gap_after_gap_leaves_nothing_but_no_error():
    pulse = heart.Pulse()
    for i in range(50):
        fill(pulse, 1.5, 72, begin=2.0 * i)
        pulse.gap()
    assert pulse.estimate() is None
    for i in range(20):
        fill(pulse, 3.7, 72, begin=4.0 * i)
        pulse.gap()
        found = pulse.estimate()
        assert found is None or abs(found - 72) <= 2


def test_step_of_the_level_is_no_beat():
    # the strap slips: another level from one sample to the next
    pulse = heart.Pulse()
    fill(pulse, 4.5, 72)
    fill(pulse, 4.7, 72, level=190000, begin=4.5)
    found = pulse.estimate()
    assert found is None or abs(found - 72) <= 2


def test_samples_beyond_a_full_window_change_nothing():
    pulse = heart.Pulse()
    fill(pulse, 9.2, 72)
    assert pulse.full()
    fill(pulse, 20, 140)
    assert pulse.estimate() == 72
    pulse.reset()
    assert not pulse.full()
    fill(pulse, 9.2, 140)
    assert abs(pulse.estimate() - 140) <= 1


def test_extreme_samples_are_survived():
    pulse = heart.Pulse()
    for i in range(230):
        pulse.add(0x3FFFF if i % 7 < 3 else 0)
    found = pulse.estimate()
    assert found is None or 37 <= found <= 215
    pulse.reset()
    for i in range(230):
        pulse.add(0x3FFFF)
    assert pulse.estimate() is None


def test_a_sample_allocates_nothing():
    pulse = heart.Pulse()
    samples = [160000 + i * 37 % 2000 for i in range(150)]
    for value in samples:
        pulse.add(value)
    pulse.reset()
    gc.collect()
    before = gc.mem_alloc()
    for value in samples:
        pulse.add(value)
    used = gc.mem_alloc() - before
    # the list of segments, once
    assert used <= 128, used


def test_estimate_fits_a_small_heap():
    pulse = heart.Pulse()
    fill(pulse, 9.2, 150)
    gc.collect()
    before = gc.mem_alloc()
    pulse.estimate()
    used = gc.mem_alloc() - before
    assert used < 6000, used


def test_movement_takes_the_last_second_and_a_half_with_it():
    pulse = heart.Pulse()
    fill(pulse, 6, 72)
    # somebody moves; it was not known at once
    source = noise(9)
    for _ in range(30):
        pulse.add(160000 + int(9000 * next(source)))
    pulse.spoil()
    fill(pulse, 6, 72, begin=9)
    assert pulse.full()
    assert abs(pulse.estimate() - 72) <= 1


def test_movement_all_the_time_leaves_nothing():
    pulse = heart.Pulse()
    for i in range(60):
        fill(pulse, 0.25, 72, begin=i / 4)
        pulse.spoil()
    assert pulse.estimate() is None and pulse.reason == "too short"
    # and does no harm to what comes
    fill(pulse, 9.2, 72)
    assert pulse.estimate() == 72


def test_window_that_slides_goes_on_with_the_same_beats():
    pulse = heart.Pulse()
    fill(pulse, 9.2, 66)
    assert pulse.estimate() == 66
    one = pulse.beats
    pulse.slide(100)
    assert not pulse.full()
    fill(pulse, 4, 66, begin=9.2)
    assert pulse.full() and pulse.estimate() == 66
    other = pulse.beats
    joined = [at for at in other if at in one]
    assert len(joined) >= 3 and other[-1] - one[0] > 9000
    intervals = [b - a for a, b in zip(other, other[1:])]
    assert max(intervals) - min(intervals) <= 8, intervals
