"""A wearer who follows a script: how the arm moves, what the body does then, and what a script may say."""

import math
from pathlib import Path

import pytest

from host_tools.cli import run
from host_tools.sim import script
from host_tools.sim.movement import G_MS2
from host_tools.sim.script import Script, ScriptError
from host_tools.sim.wearer import Wearer
from tests.support.heart_reference import heart_rate

NOON = 1_760_011_200.0  # of a day, so that times of the day are seconds after it
WALK, RUN, FALL, WORK, OFF, SLEEP, SOS = 600, 1300, 2600, 3000, 4000, 5000, 9000


def wearer(seed: int = 5, **more: object) -> Wearer:
    spans = (
        script.walk(WALK, WALK + 600),
        script.run(RUN, RUN + 200),
        script.walk(1600, 1700, indoors=True, cadence_hz=1.75),
        script.fall(FALL, lies_s=120),
        script.work(WORK, WORK + 600),
        script.off(OFF, OFF + 300),
        script.sleep(SLEEP, SLEEP + 3600),
        script.sos(SOS, holds_s=4),
        script.saturation(9500, 9900, 88.0),
    )
    return Wearer(seed, script=Script(spans, begins=NOON), **more)  # type: ignore[arg-type]


def lengths_g(who: Wearer, begin_s: float, seconds: float, rate_hz: float = 100.0) -> list[float]:
    count = round(seconds * rate_hz)
    return [math.hypot(*who.acceleration_ms2(NOON + begin_s + n / rate_hz)) / G_MS2 for n in range(count)]


def spread(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))


def strongest_hz(values: list[float], rate_hz: float, low_hz: float, high_hz: float) -> float:
    """Where the spectrum is highest, by plain correlation with sines."""

    def power(hertz: float) -> float:
        turn = 2 * math.pi * hertz / rate_hz
        return math.hypot(
            sum(value * math.cos(turn * n) for n, value in enumerate(values)),
            sum(value * math.sin(turn * n) for n, value in enumerate(values)),
        )

    return max((low_hz + 0.02 * n for n in range(int((high_hz - low_hz) / 0.02))), key=power)


@pytest.mark.parametrize("seed", range(6))
def test_walking_arm_shows_the_steps_that_are_counted(seed: int) -> None:
    who = wearer(seed)
    steps = who.steps(NOON + WALK, NOON + WALK + 600)
    assert 1.6 * 600 <= steps + 1 <= 2.2 * 600 + 2
    felt = lengths_g(who, WALK + 60, 40, 25.0)
    mean = sum(felt) / len(felt)
    felt_hz = strongest_hz([value - mean for value in felt], 25.0, 1.2, 3.0)
    assert felt_hz == pytest.approx(who.steps(NOON + WALK + 60, NOON + WALK + 100) / 40, abs=0.08)
    assert 0.1 < spread(felt) < 0.5


def test_two_wearers_walk_differently() -> None:
    assert wearer(1).timeline.cadence_hz != wearer(2).timeline.cadence_hz  # type: ignore[union-attr]
    assert wearer(1).acceleration_ms2(NOON + WALK + 9) == wearer(1).acceleration_ms2(NOON + WALK + 9)


def test_running_shakes_more_and_steps_faster_than_walking() -> None:
    who = wearer()
    assert spread(lengths_g(who, RUN + 10, 20)) > 2 * spread(lengths_g(who, WALK + 10, 20))
    assert who.steps(NOON + RUN, NOON + RUN + 60) > 1.3 * who.steps(NOON + WALK, NOON + WALK + 60)


@pytest.mark.parametrize("seed", range(8))
def test_fall_is_weightless_then_hits_then_lies_still_otherwise(seed: int) -> None:
    who = wearer(seed)
    assert who.timeline is not None
    fell = who.timeline.falls[0]
    felt = lengths_g(who, FALL, 3.0, 200.0)
    hit = felt.index(max(felt))
    assert 3.0 <= felt[hit] <= 8.2
    assert hit / 200.0 == pytest.approx(fell.impact_s - FALL, abs=0.12)
    light = [value for value in felt[:hit] if value < 0.4]
    assert 0.2 <= len(light) / 200.0 <= 0.5
    hard = [value for value in felt[hit - 20 : hit + 20] if value > 2.0]
    assert 0.02 <= len(hard) / 200.0 <= 0.12
    assert spread(lengths_g(who, FALL + 4, 30)) < 0.02
    assert who.activity(NOON + FALL + 0.3) == "falling"
    assert who.activity(NOON + FALL + 10) == "lying"


def test_band_on_a_table_is_still_cold_and_has_no_pulse() -> None:
    who = wearer()
    assert not who.worn(NOON + OFF + 150)
    assert spread(lengths_g(who, OFF + 100, 20)) < 0.001
    assert who.skin_temperature_c(NOON + OFF + 150) == 22.0
    assert who.perfusion(NOON + OFF + 150) == 0.0
    assert who.position(NOON + OFF + 150) is None
    assert who.worn(NOON + OFF + 300)


def test_pulse_drowns_when_the_arm_moves_and_only_then() -> None:
    who = wearer()

    def most(begin_s: float) -> float:
        return max(abs(who.ppg(NOON + begin_s + n / 25)) for n in range(750))

    assert most(WALK + 30) > 1.3
    assert most(FALL + 30) < 1.0
    assert most(SLEEP + 200) < 1.0


def test_who_has_no_script_sits_still() -> None:
    who = Wearer(4)
    assert who.steps(NOON, NOON + 86400) == 0
    assert who.position(NOON) is None
    assert not who.button(NOON)
    assert who.activity(NOON) == "still"
    assert spread([math.hypot(*who.acceleration_ms2(NOON + n)) / G_MS2 for n in range(600)]) < 0.01
    # standard atmosphere: 12 Pa a metre at the ground, so some 950 hPa at 519 m
    assert 935 < who.pressure_hpa(NOON) < 965


def test_walk_leads_away_and_only_the_sky_tells_where() -> None:
    who = wearer()
    first, later = who.position(NOON + WALK + 1), who.position(NOON + WALK + 200)
    assert first is not None
    assert later is not None
    north_m = (later[0] - first[0]) * 111_195
    east_m = (later[1] - first[1]) * 111_195 * math.cos(math.radians(first[0]))
    assert 150 < math.hypot(north_m, east_m) < 400
    assert who.position(NOON + WALK - 1) is None
    assert who.position(NOON + 1650) is None  # indoors
    assert who.ambient_c(NOON + WALK + 599) < who.ambient_c(NOON + WALK - 1) - 2


def test_saturation_falls_where_the_script_says() -> None:
    who = wearer()
    assert 95.5 < who.spo2_percent(NOON) < 99.5
    assert who.spo2_percent(NOON + 9700) == pytest.approx(88.0)


def test_button_is_pressed_as_long_as_the_script_says() -> None:
    who = wearer()
    assert [who.button(NOON + SOS + n) for n in (-1, 0, 3, 4)] == [False, True, True, False]


@pytest.mark.parametrize("name", ["fast", "slow"])
def test_true_heart_rate_is_what_heartpy_finds(name: str) -> None:
    who = Wearer(3, name)
    rate_hz = 100.0
    window = [who.recorded(NOON + n / rate_hz) for n in range(round(18 * rate_hz))]
    assert who.heart_rate_bpm(NOON + 18, 18.0) == pytest.approx(heart_rate(window, rate_hz).bpm, rel=0.02)


def test_heart_beats_faster_on_a_walk() -> None:
    who = wearer()
    assert who.heart_rate_bpm(NOON + WALK + 500, 60) > 1.1 * who.heart_rate_bpm(NOON + WALK - 10, 60)


def test_day_without_a_beginning_is_every_day_alike() -> None:
    who = Wearer(5, script=Script((script.walk(36000, 36600), script.sos(40000))))
    midnight = NOON - NOON % 86400
    assert who.steps(midnight, midnight + 86400) == who.steps(midnight + 86400, midnight + 2 * 86400) > 900
    assert who.button(midnight + 3 * 86400 + 40001)


def test_file_of_a_script(tmp_path: Path) -> None:
    path = tmp_path / "day.toml"
    path.write_text(
        "place = [60.17, 24.94, 12]\n"
        'walk = [{ from = "09:15", to = "09:40" }, { from = 36000, to = 36060, indoors = true }]\n'
        'fall = [{ at = "15:02:30", lies_s = 180 }]\n'
        'sos = [{ at = "23:59" }]\n'
    )
    told = script.load(path)
    assert told.place == (60.17, 24.94, 12.0)
    assert told.of("walk")[1] == script.walk(36000, 36060, indoors=True)
    assert told.of("fall") == (script.fall(54150, lies_s=180),)
    assert told.beginning(NOON).begins == NOON


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("walk = 1", "not a list"),
        ("stroll = []", "no 'stroll'"),
        ("walk = [{ from = 1 }]", "has no 'to'"),
        ("walk = [{ from = 5, to = 5 }]", "ends before it begins"),
        ('walk = [{ from = "9:75", to = 5 }]', "is no time"),
        ("walk = [{ from = 1, to = 5, indoors = 1 }]", "neither true nor false"),
        ("walk = [{ from = 1, to = 5, lies_s = 9 }]", "has no use for"),
        ("fall = [{ at = 1, lies_s = 1e6 }]", "is not in 5 to 3600"),
        ("fall = [{ at = true }]", "not a number"),
        ("place = [1, 2]", "place is not"),
        ("place = [89.0, 2.0, 3.0]", "nowhere"),
        ("sos = [{ at = 86399 }]\nrun = [3]", "is not a table"),
        ("off = [{ from = 1, to = 90000 }]", "after the day"),
        ("walk = [", "is not TOML"),
        ("begins = nan", "is not in"),
        ("walk = " + 5000 * "[", "is not TOML"),
        ("walk = [{ from = 0, to = 0x" + 500 * "f" + " }]", "is not in"),
    ],
)
def test_script_that_cannot_be_is_refused_in_words(text: str, what: str) -> None:
    with pytest.raises(ScriptError, match=what) as caught:
        script.parse(text)
    assert caught.value.remedy


def test_file_that_is_no_text_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "day.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ScriptError, match="no text"):
        script.load(tmp_path / "day.toml")


def test_board_command_refuses_a_script_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "day.toml"
    path.write_text('walk = [{ from = "9:75", to = "10:00" }]\n')
    assert run(["sim", "board", str(tmp_path / "b"), "--script", str(path)]) == 1
    assert "'9:75' is no time\nto do: write" in capsys.readouterr().err


def test_day_command_refuses_a_day_that_is_too_short_and_a_folder_that_is_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sim", "day", "--hours", "0.5"]) == 2
    (tmp_path / "mine").write_text("x")
    assert run(["sim", "day", "--out", str(tmp_path)]) == 1
    assert "is not empty\nto do: name a new folder" in capsys.readouterr().err
