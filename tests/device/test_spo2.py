# Oxygen saturation on MicroPython: made-up lights of known ratio, and what must give no number. Recorded lights:
# tests/host/test_pulse.py.
import gc
import math

from sealband.sensors import heart, spo2

HEAP = "64wK"
RATE = 25
# application note 6845, worked out by hand: R, saturation
CURVE = ((0.4, 99.1), (0.5, 95.8), (0.6, 92.5), (0.7, 89.2), (0.8, 86.0), (1.0, 79.6), (1.25, 71.9))


def wave(phase):
    turn = 2 * math.pi * phase
    return 0.7 * (math.sin(turn) + 0.4 * math.sin(2 * turn + 0.5))


def noise(seed):
    while True:
        seed = (seed * 1664525 + 1013904223) & 0xFFFFFFFF
        yield seed / 4294967296 - 0.5


# red and infrared of a pulse that takes `perfusion` of the infrared light, and `ratio` times as much of the red
def lights(seconds, ratio, perfusion=0.02, red=90000, infrared=130000, leak=0, hiss=0, bpm=70):
    source = noise(11)
    for i in range(seconds * RATE):
        blood = perfusion / 2 * wave(i / RATE * bpm / 60)
        yield (
            int(red * (1 - ratio * blood) + leak + hiss * next(source)),
            int(infrared * (1 - blood) + leak + hiss * next(source)),
        )


def measured(seconds=10, leak=0, calibration=None, gap_at=None, **what):
    pulse = heart.Pulse()
    ratio = spo2.Ratio(pulse.other, leak, calibration)
    for i, (red, infrared) in enumerate(lights(seconds, leak=leak, **what)):
        if i == gap_at:
            pulse.gap()
        ratio.add(red, infrared, pulse.add(262143 - infrared))
    return ratio.percent()


def test_ratio_goes_through_the_makers_curve():
    for ratio, percent in CURVE:
        for bpm in (45, 70, 150):
            found = measured(ratio=ratio, bpm=bpm)
            assert abs(found - percent) <= 0.6, (ratio, bpm, found)


def test_levels_of_the_two_lights_do_not_matter():
    for red, infrared in ((20000, 200000), (200000, 20000), (60000, 60000)):
        assert abs(measured(ratio=0.5, red=red, infrared=infrared) - 95.8) <= 0.6


def test_weak_pulse_with_noise():
    assert abs(measured(ratio=0.6, perfusion=0.004, hiss=20) - 92.5) <= 1


def test_light_that_leaks_in_is_taken_off():
    assert abs(measured(ratio=0.6, leak=15000) - 92.5) <= 0.6
    assert measured(ratio=0.6, leak=60000) is None


def test_own_calibration_is_taken():
    # the textbook's straight line, 110 - 25 R
    assert measured(ratio=0.6, calibration=(0, -25, 110)) == 95


def test_saturation_is_a_hundred_at_most_and_nothing_below_seventy():
    assert measured(ratio=0.34) == 100
    assert measured(ratio=1.4) is None


def test_less_red_than_any_blood_takes_gives_no_number():
    assert measured(ratio=0.2) is None
    assert measured(ratio=0.0) is None


def test_no_pulse_or_noise_gives_no_number():
    assert measured(ratio=0.6, perfusion=0) is None
    assert measured(ratio=0.6, perfusion=0, hiss=200) is None
    assert measured(ratio=0.6, perfusion=0.0004) is None
    # noise as strong as the pulse
    assert measured(ratio=0.6, perfusion=0.004, hiss=900) is None


def test_less_than_six_seconds_in_one_piece_give_no_number():
    assert measured(seconds=6, ratio=0.6) is None
    assert measured(seconds=10, ratio=0.6, gap_at=120) is None
    assert measured(seconds=13, ratio=0.6, gap_at=120) is not None


def test_a_sample_allocates_nothing():
    pulse = heart.Pulse()
    ratio = spo2.Ratio(pulse.other, 0)
    samples = list(lights(3, 0.6))
    for red, infrared in samples:
        ratio.add(red, infrared, pulse.add(infrared))
    pulse.reset()
    gc.collect()
    before = gc.mem_alloc()
    for red, infrared in samples:
        ratio.add(red, infrared, pulse.add(infrared))
    # the list of segments, once
    assert gc.mem_alloc() - before <= 128
