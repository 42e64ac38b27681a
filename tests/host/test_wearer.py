"""The simulated wearer and the recordings it lives from."""

import itertools

import pytest

from host_tools.sim.parts.battery import BatteryAdc
from host_tools.sim.wearer import _RECORDINGS, Recording, Wearer, recordings
from tests.support.heart_reference import example, heart_rate

NOW = 1_760_000_000.0


def test_recordings_are_small_and_say_where_they_come_from() -> None:
    assert recordings() == ["fast", "middle", "slow"]
    assert sum(len(entry.read_bytes()) for entry in _RECORDINGS.iterdir() if entry.is_file()) <= 60 * 1024
    text = (_RECORDINGS / "README.md").read_text(encoding="utf-8")
    assert "Copyright (c) 2021 Paul van Gent" in text
    assert all(f"`{name}.csv`" in text for name in recordings())


@pytest.mark.parametrize(("name", "number"), [("slow", 0), ("middle", 1), ("fast", 2)])
def test_recording_is_the_excerpt_of_heartpys_data_that_it_says(name: str, number: int) -> None:
    head = (_RECORDINGS / f"{name}.csv").read_text(encoding="utf-8").splitlines()[0]
    begin, end = (int(word) for word in head.rpartition("samples ")[2].split(" to "))
    samples, rate_hz = example(number)
    recording = Recording.load(name)
    assert recording.samples == tuple(samples[begin:end])
    assert recording.rate_hz == pytest.approx(rate_hz, abs=1e-5)


@pytest.mark.parametrize("name", recordings())
def test_loop_has_no_false_beat_at_its_seam(name: str) -> None:
    recording = Recording.load(name)
    count = int(4 * recording.rate_hz)
    around = recording.samples[-count:] + recording.samples[:count]
    reference = heart_rate(around, recording.rate_hz)
    assert reference.steady
    assert reference.bpm == pytest.approx(heart_rate(recording.samples, recording.rate_hz).bpm, rel=0.12)


def test_unknown_recording_is_refused() -> None:
    with pytest.raises(ValueError, match="there are: fast, middle, slow"):
        Recording.load("../wearer")


def test_reading_between_samples_and_over_the_seam() -> None:
    recording = Recording("ramp", 10.0, (0.0, 1.0, 2.0, 3.0))
    assert recording.at(0.15) == pytest.approx(1.5)
    assert recording.at(0.35) == pytest.approx(1.5)  # half way from 3 back to 0
    assert recording.at(NOW + 0.1) == pytest.approx(recording.at(0.1), abs=1e-4)


def test_wearer_is_made_by_its_seed() -> None:
    def body(seed: int) -> tuple[float, ...]:
        wearer = Wearer(seed)
        return wearer.ppg(NOW), wearer.skin_temperature_c(NOW), wearer.battery_mv(NOW)

    assert body(4) == body(4)
    assert body(4) != body(5)
    assert Wearer(0).recording.name != Wearer(1).recording.name


def test_wearer_stays_within_a_bodys_bounds() -> None:
    wearer = Wearer(3, away=[(NOW + 100, NOW + 200)], moving=[(NOW + 300, NOW + 400)])
    calm = [wearer.ppg(NOW + step / 10) for step in range(900)]
    assert max(calm) < 1.0
    assert min(calm) > -1.0
    assert max(abs(wearer.ppg(NOW + 300 + step / 10)) for step in range(900)) > 3.0
    assert all(31.5 < wearer.skin_temperature_c(NOW + step) < 35.5 for step in range(0, 86400, 300) if step != 0)
    assert not wearer.worn(NOW + 150)
    assert wearer.skin_temperature_c(NOW + 150) == 22.0


def test_battery_falls_for_eight_days_and_is_charged_before_it_is_low() -> None:
    wearer = Wearer(8)
    levels = [wearer.battery_mv(NOW + 3600 * hour) for hour in range(8 * 24)]
    rises = [one for one, other in itertools.pairwise(levels) if other > one]
    assert len(rises) == 1
    assert 3775 <= min(levels) < 3790
    assert 4140 < max(levels) <= 4150
    assert [Wearer.cell_mv(level) for level in (1.0, 0.15, 0.0)] == [4150, 3700, 3300]


def test_adc_sees_the_divided_voltage_with_noise() -> None:
    wearer = Wearer(8)
    adc = BatteryAdc(wearer, lambda: NOW, 2.0, seed=1)
    reads = sorted(adc() for _ in range(101))
    assert reads[50] * 2 / 1000 == pytest.approx(wearer.battery_mv(NOW), abs=5)
    assert reads[0] < reads[50] < reads[-1]
    assert BatteryAdc(wearer, lambda: NOW, 1.0)() == 3_100_000  # the converter's end
