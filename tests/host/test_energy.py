"""`sealband sim energy`: the computed day against the ledger that the device keeps itself, and against arithmetic."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import boards
from host_tools.cli import run
from host_tools.sim import energy_profile
from host_tools.sim.energy import ALARM, DAY_S, MOTION, REST, Day, Estimate, estimate
from host_tools.sim.energy_probe import Cost, Probed, ProbeError, Sensor, probe
from sealwire.names import CHARGE_PARTS
from tests.support.micropython import ROOT, Micropython

SENSORS = [([3], [180, 180, 180], 250), ([1], [900, 90, 60], 9750), ([4], [900, 900, 900], 0)]
SPANS = ((25_200, 27_900, MOTION), (63_000, 66_600, MOTION))
EVENTS = (54_000,)
TOLERANCE = 0.1


def told_by_the_device(board: boards.Board, *, deep_sleep: bool) -> dict[str, float]:
    """mAh of a day by part, by the ledger of a whole node in virtual time (tests/device/ledger_day.py)."""
    assert board.radio
    radio = {name: value for name, value in vars(board.radio).items() if value is not None}
    with Micropython(heap="4M", path=[ROOT / "tests"]) as device:
        device.run("from device.ledger_day import day")
        given = (board.ledger(), radio, SENSORS, SPANS, EVENTS, deep_sleep, 900)
        pairs = device.call(f"day(*{given!r})", timeout_s=120)
    return {CHARGE_PARTS[part]: uah / 1000 for part, uah in pairs}


@pytest.mark.parametrize("deep_sleep", [True, False])
def test_computed_day_is_the_one_that_the_device_counts_itself(deep_sleep: bool) -> None:
    """Within a tenth, part by part. Of a start the device knows the loader's 0.3 s only: so they are assumed."""
    board = boards.load("LILYGO_T_BEAM")
    probed = probe(board, "lora", sensors=SENSORS, settings={"deep_sleep": deep_sleep, "send_every_s": 900})
    computed = estimate(board, probed, "lora", Day(SPANS, EVENTS), wake_s=0.3)
    told = told_by_the_device(board, deep_sleep=deep_sleep)
    print({part: (round(mah, 3), round(told.get(part, 0), 3)) for part, mah in computed.mah.items()})
    assert set(told) == set(computed.mah)
    for part, mah in computed.mah.items():
        assert told[part] == pytest.approx(mah, rel=TOLERANCE, abs=0.02), part


def made(deep_sleep: bool = True, **more: object) -> Probed:
    """One reading of a second each hour, one frame a sending."""
    usual = Probed(
        sensors=(Sensor((3,), (3600, 3600, 3600), 1.0),),
        watched=(),
        links=("lora",),
        deep_sleep=deep_sleep,
        send_every_s=3600,
        status_every_s=DAY_S,
        frames=((40,), (40,), (40,)),
        costs={40: Cost(sent=0.1, heard=0.2, awake=6.0, first=10.0, more=0.5)},
        frame_max=222,
    )
    return replace(usual, **more)  # type: ignore[arg-type]


def virtual(probed: Probed, link: str = "lora", day: Day = Day((), ()), wake_s: float = 1.0) -> Estimate:  # noqa: B008
    return estimate(boards.load("VIRTUAL"), probed, link, day, wake_s=wake_s)


def test_a_day_is_what_arithmetic_makes_of_it() -> None:
    """24 wakes of 1 s + 1 s; 24 sessions 15 s later, again 1 s + 6 s, and one status more; currents of 3.3 V behind a
    regulator of 85 % from 3.7 V: 40 mA less 10 uA awake, 90 mA sending, 4.6 mA listening; other sensors count as the
    one that takes most, 0.714 mA of the BME280.
    """
    through = 3300 / (3700 * 0.85)
    found = virtual(made())
    awake_s = 24 * 2 + 24 * 7 + 6
    assert found.awake_s == pytest.approx(awake_s)
    assert (found.wakes, found.frames) == (48, 25)
    assert found.mah["chip"] == pytest.approx(39.99 * through * awake_s / 3600, rel=1e-3)
    assert found.mah["lora"] == pytest.approx(25 * (0.1 * 90 + 0.2 * 4.6) * through / 3600, rel=1e-3)
    assert found.mah["sensors"] == pytest.approx(24 * 0.714 * through / 3600, rel=0.01)
    assert found.mah["board"] == pytest.approx(boards.load("VIRTUAL").ledger()[0] * 24 / 1000, rel=1e-3)
    assert found.life_days == pytest.approx(1000 * 0.85 / found.total_mah)
    for name, minutes in found.minutes.items():
        assert sum(minutes) / 60 == pytest.approx(found.mah[name])


def test_staying_awake_takes_the_processor_s_current_all_day() -> None:
    found = virtual(made(deep_sleep=False))
    assert found.awake_s == DAY_S
    assert found.mah["chip"] == pytest.approx(39.99 * 24 * 3300 / (3700 * 0.85), rel=1e-3)


def test_wifi_and_modem_are_on_for_a_session_and_lora_is_not() -> None:
    for link, part, ma in (("wifi", "wifi", 74 * 3300 / (3700 * 0.85)), ("lte", "modem", 80)):
        found = virtual(made(), link)
        # a first frame of ten seconds and half a second of listening; the status at midnight comes in the same session
        assert found.mah[part] == pytest.approx(ma * (24 * 10.5 + 0.5) / 3600, rel=1e-3)
        assert "lora" not in found.mah


def test_motion_alarm_and_quiet_hours_change_how_often_is_measured() -> None:
    probed = made(sensors=(Sensor((1,), (3600, 600, 60), 10.0, quiet=False),))
    ma = (1.11 - 0.0007) * 3300 / (3700 * 0.85)

    def readings(day: Day) -> float:
        return virtual(probed, day=day).mah["pulse"] * 3600 / (10 * ma)

    assert readings(Day((), ())) == pytest.approx(24, rel=0.01)
    assert readings(Day(((36_000, 39_600, MOTION),), ())) == pytest.approx(23 + 6, rel=0.01)
    assert readings(Day((), (36_000,))) == pytest.approx(23 + 10, rel=0.01)
    assert readings(Day((), (), (79_200, 21_600))) == pytest.approx(16, rel=0.01)
    assert [Day((), (36_000,)).pace(at) for at in (35_999, 36_000, 36_599, 36_600)] == [REST, ALARM, ALARM, REST]


def test_an_accelerometer_that_is_watched_works_all_day() -> None:
    assert "motion" not in virtual(made()).mah
    if boards.load("VIRTUAL").ledger()[7]:
        assert virtual(made(watched=((5, 6, 15),))).mah["motion"] > 0


def test_every_figure_has_its_source_among_the_assumptions() -> None:
    found = virtual(made())
    told = "\n".join(found.assumptions)
    board = boards.load("VIRTUAL")
    for part in (board.chip, "SX1262", "MAX30102", "TMP117"):
        assert f"{part}: {board.power.currents[part].source}" in told
    assert board.power.source in told
    assert "1.0 s awake for each wake" in told


def test_an_application_that_cannot_be_built_is_refused_with_what_it_said(tmp_path: Path) -> None:
    board = boards.load("VIRTUAL")
    for text, said in (("def build(board): 1/0", "ZeroDivisionError"), ("def build(", "SyntaxError"), ("", "build")):
        (tmp_path / "app.py").write_text(text)
        with pytest.raises(ProbeError, match=said):
            probe(board, "lora", app=tmp_path / "app.py")
    with pytest.raises(ProbeError, match="no LoRa radio"):
        probe(boards.load("LILYGO_T_SIM7080G_S3"), "lora")
    with pytest.raises(ProbeError, match="no modem"):
        probe(boards.load("LILYGO_T_BEAM"), "lte")


def test_the_example_application_is_asked_for_what_it_does() -> None:
    probed = probe(boards.load("VIRTUAL"), "lora")
    assert probed.links[0] == "lora"
    assert any(1 in sensor.records for sensor in probed.sensors)
    assert all(sensor.seconds <= 300 for sensor in probed.sensors)
    # SX1261/2 datasheet 6.1.4, SF7, 125 kHz, 22 bytes with explicit header and CRC: 56.6 ms
    assert probed.costs[22].sent == pytest.approx(0.057, abs=0.001)


PROFILE = """
send_every_s = 600
[[sensors]]
records = ["heart_rate", "spo2"]
every_s = [600, 60]
takes_s = 9.7
[day]
motion = ["07:00-07:45"]
events = ["15:00"]
quiet = "22:00-06:00"
"""


def test_a_profile_says_periods_and_a_day(tmp_path: Path) -> None:
    path = tmp_path / "profile.toml"
    path.write_text(PROFILE)
    profile = energy_profile.load(path)
    assert profile.sensors == [([1, 2], [600, 60], 9700)]
    assert profile.settings == {"deep_sleep": True, "send_every_s": 600}
    assert profile.day == Day(((25_200, 27_900, MOTION),), (54_000,), (79_200, 21_600))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("send_every_s = 600", "send_every_s = 1"),
        ("send_every_s = 600", "colour = 1"),
        ('"spo2"', '"no_record"'),
        ('"spo2"', "{}"),
        ("send_every_s = 600", "sensors = " + 5000 * "["),
        ("[600, 60]", "[0]"),
        ("[600, 60]", "[1, 2, 3, 4]"),
        ("[600, 60]", "'often'"),
        ("takes_s = 9.7", "takes_s = -1"),
        ("07:00-07:45", "07:00"),
        ("07:00-07:45", "08:00-07:45"),
        ("15:00", "25:00"),
        ("quiet =", "loud ="),
        ("[day]", "[day"),
    ],
)
def test_a_wrong_profile_is_refused(tmp_path: Path, old: str, new: str) -> None:
    assert old in PROFILE
    path = tmp_path / "profile.toml"
    path.write_text(PROFILE.replace(old, new))
    with pytest.raises(energy_profile.ProfileError, match=r"profile\.toml"):
        energy_profile.load(path)


def test_the_command_tells_life_and_assumptions_and_draws_the_same_picture_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "profile.toml"
    path.write_text(PROFILE)
    pictures = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for out in pictures:
        command = ["sim", "energy", "--app", str(path), "--link", "lora", "--link", "lte", "--out", str(out), "--json"]
        assert run(command) == 0
    one, other = json.loads(capsys.readouterr().out.partition("]\n[")[0] + "]")
    assert one["link"] == "LoRa SF7" and other["link"] == "LTE"
    assert one["battery_days"] > other["battery_days"] > 1
    assert sum(one["mah_by_part"].values()) == pytest.approx(one["mah_a_day"])
    assert len(one["ma_by_minute"]["chip"]) == 1440
    assert any("assumed" in line for line in one["assumptions"])
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
    assert pictures[0].read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--board", "NONE"], 1),
        (["--board", "LILYGO_T_BEAM", "--link", "lte"], 1),
        (["--link", "carrier-pigeon"], 2),
        (["--out", "picture.gif"], 2),
        (["--app", "/nowhere.py"], 2),
        (["--out", "/nowhere/at/all.png"], 1),
    ],
)
def test_what_cannot_be_computed_is_refused(
    arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sim", "energy", *arguments]) == status
    said = capsys.readouterr()
    assert "Traceback" not in said.err + said.out
