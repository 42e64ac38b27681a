"""Pictures of readings: what is missing shows, what is short does not vanish, and no name is taken for markup."""

import base64
import json
import math
import os
import stat
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host_tools import cli
from tests.support import worn_day
from tests.support.fleet import MASTER_KEY, NOW, T0, AuditEvent, Fleet, message, models, process, uplink
from tests.support.operators import log_in

from host_tools.plot import scene as scenes  # isort: skip  needs Django, which fleet connects
from host_tools.plot import chart, picture
from host_tools.plot.tracks import SAMPLES_MAX, STATES_MAX, UNKNOWN_STATE, Span, States, Track

UNIX_T0 = T0 + 1735689600
SVG = "{http://www.w3.org/2000/svg}"
DAY = ("--since", "2026-09-21", "--until", "2026-09-22")


def track(*series: tuple[int, int, list[int | None]], length: int = 7200, scale: int = 0) -> Track:
    made = Track(Span(0, length), scale)
    for one in series:
        made.add(*one)
    return made


def test_a_line_breaks_where_samples_are_missing_and_nowhere_else():
    made = track((0, 60, [1, 2, None, 4]), (240, 60, [5, 6]), (600, 60, [7, 8]), (720, 10, [9, 9]))
    curve = made.curve()
    # a null at 120; nothing at 360 to 540; a shorter period that begins in time is no gap
    nan = math.nan
    expected_x = [0, 60, nan, 180, 240, 300, nan, 600, 660, 720, 730]
    assert np.array_equal(curve.x, expected_x, equal_nan=True)
    assert np.array_equal(curve.mean, [1, 2, nan, 4, 5, 6, nan, 7, 8, 9, 9], equal_nan=True)
    assert curve.gaps == [(60, 180), (300, 600)]
    assert list(curve.nulls) == [120]
    assert (made.sums.count, made.sums.nulls, made.sums.missing) == (9, 1, 5)
    assert made.sums.share == 9 / 14


def test_single_samples_are_expected_as_far_apart_as_they_usually_are():
    made = track(*((t, 0, [1]) for t in (0, 600, 1200, 1800, 4200, 4800)))
    assert made.curve().gaps == [(1800, 4200)]
    assert made.sums.missing == 3


def test_what_was_not_agreed_to_is_not_missing():
    made = track((0, 60, [1] * 11), (3600, 60, [1] * 11))
    made.curve(wanted=[(0, 600), (3600, 7200)])
    assert made.sums.missing == 0
    made = track((0, 60, [1] * 11), (3600, 60, [1] * 11))
    made.curve()
    assert made.sums.missing == 49  # 660, 720 … 3540


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5000))
def test_bins_hold_every_sample_between_their_least_and_greatest(seed, length):
    chance = np.random.default_rng(seed)
    count = SAMPLES_MAX + 1 + seed % 3000
    values = [int(value) for value in chance.integers(-(10**6), 10**6, count)]
    step = max(1, length * 20 // count)
    made = track((7, step, values), length=count * step + 20, scale=-2)
    curve = made.curve()
    assert curve.bin_s
    there = np.isfinite(curve.x)
    x, low, high = curve.x[there], curve.low[there], curve.high[there]
    times = 7 + step * np.arange(count)
    at = np.searchsorted(np.floor(x / curve.bin_s), np.floor(times / curve.bin_s))
    scaled = np.array(values) / 100
    assert (np.abs(times - x[at]) <= curve.bin_s / 2 + 1e-6).all()
    assert (low[at] <= scaled + 1e-9).all() and (scaled <= high[at] + 1e-9).all()
    assert made.sums.low == min(values) * 10.0**-2 and made.sums.high == max(values) * 10.0**-2
    assert made.sums.total == pytest.approx(sum(values) / 100, abs=1e-3)
    assert made.sums.missing == 0


def test_gap_of_a_long_span_breaks_the_line_too():
    made = track((0, 10, [5] * 5000), (80_000, 10, [5] * 5000), length=130_000)
    curve = made.curve()
    ((begun, ended),) = curve.gaps
    assert 50_000 <= begun <= 50_000 + curve.bin_s and 80_000 - curve.bin_s <= ended <= 80_000
    assert int(np.isnan(curve.mean).sum()) == 1
    assert made.sums.missing == pytest.approx(3000, rel=0.02)


def test_two_samples_years_apart_with_a_period_of_a_second_take_no_memory():
    made = track((0, 1, [1, 1]), (10**9, 1, [1, 1]), length=10**9 + 10)
    curve = made.curve()
    assert len(curve.x) == 5 and len(curve.share) <= 241
    assert made.sums.missing == 10**9 - 2


def test_states_hold_until_the_next_one_or_no_longer_than_is_believed():
    held = States(Span(0, 10_000))
    held.add(0, 60, [0, 0, 1, 1])
    held.add(240, 60, [0])
    held.add(5000, 60, [2])
    runs, bin_s = held.runs()
    assert bin_s == 0
    assert runs == [(0, 120, 0), (120, 240, 1), (240, 300, 0), (5000, 5060, 2)]
    assert held.seconds() == pytest.approx({0: 180, 1: 120, 2: 60})
    # drawn a second time, in another picture
    assert held.runs() == (runs, 0) and held.seconds() == pytest.approx({0: 180, 1: 120, 2: 60})


def test_a_device_that_invents_states_is_shown_as_many_as_are_kept():
    held = States(Span(0, 10**6))
    held.add(0, 1, list(range(100_000)))
    held.runs()
    assert len(held.seconds()) == STATES_MAX + 1
    assert UNKNOWN_STATE in held.seconds()


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fleet = Fleet(tmp_path)
    key = tmp_path / "key"
    key.write_bytes(base64.b64encode(MASTER_KEY))
    key.chmod(stat.S_IRUSR)
    monkeypatch.setenv("SEALBAND_DATABASE", str(fleet.path))
    monkeypatch.setenv("SEALBAND_KEY_FILE", str(key))
    monkeypatch.setenv("SEALBAND_SESSION", str(log_in(fleet.vault, tmp_path, "care")))
    yield fleet
    fleet.close()


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = cli.run(("readings", "plot", *arguments))
    output = capsys.readouterr()
    return status, output.out, output.err


def test_a_day_is_told_as_it_was(fleet: Fleet, tmp_path: Path, capsys):
    wearable = fleet.add()
    count = worn_day.put(fleet, wearable)
    status, out, _ = call(capsys, "--out", str(tmp_path / "day.svg"), "--json", *DAY)
    assert status == 0
    (device,) = json.loads(out)["files"][0]["devices"]
    assert device["device"] == wearable.eui.hex()
    records = {one["record"]: one for one in device["records"]}
    states = {one["record"]: one["seconds"] for one in device["states"]}
    assert {"heart_rate", "spo2", "skin_temperature", "steps", "battery_voltage", "acceleration_rms"} == set(records)
    # every second of each record is there: what came and what is missing make up the day
    assert records["heart_rate"]["samples"] + records["heart_rate"]["missing"] == 86400 / 30
    assert records["steps"]["share"] == 1
    # states and places are samples, too
    assert sum(one["samples"] for one in records.values()) == count - 2 * 1440 - 2 * 48
    assert states["activity"]["walking"] == 2400 and states["activity"]["running"] == 1800
    assert states["wear_state"]["not worn"] == 2700
    names = [event["name"] for event in device["events"]]
    assert names == ["restart", "consent", "fall", "sos", "taken_off", "worn", "64"]
    assert [event["values"] for event in device["events"] if event["name"] == "fall"] == [[4200, 12]]
    ((begun, ended),) = device["offline"]
    assert abs(begun - (1_789_948_800 + 13 * 3600)) <= 360 and abs(ended - (1_789_948_800 + 16 * 3600)) <= 360
    # off the wrist there is no pulse, and the line breaks there
    off = 1_789_948_800 + worn_day.OFF_WRIST[0]
    assert any(begun <= off <= ended for begun, ended in records["heart_rate"]["gaps"])


def test_the_same_data_give_the_same_bytes_in_any_process(fleet: Fleet, tmp_path: Path, capsys):
    worn_day.put(fleet, fleet.add())
    # whatever the user's own settings say
    (tmp_path / "matplotlibrc").write_text(
        "font.size: 20\naxes.facecolor: red\nsvg.fonttype: none\ntimezone: Asia/Tokyo\n"
    )
    made = []
    for number, more in enumerate(({}, {"MATPLOTLIBRC": str(tmp_path), "TZ": "Asia/Tokyo", "MPLBACKEND": "pdf"})):
        out = tmp_path / f"{number}.svg"
        environment = {**os.environ, "PYTHONHASHSEED": str(number + 1), **more}
        command = [str(Path(sys.executable).parent / "sealband"), "readings", "plot", "--out", str(out), *DAY]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        made.append(out.read_bytes())
    assert made[0] == made[1]
    assert b"<svg" in made[0] and len(made[0]) < 800_000
    for number in (2, 3):
        assert call(capsys, "--out", str(tmp_path / f"{number}.png"), *DAY)[0] == 0
    assert (tmp_path / "2.png").read_bytes() == (tmp_path / "3.png").read_bytes()


def test_a_unit_is_text_and_neither_a_formula_nor_markup(fleet: Fleet, tmp_path: Path, capsys):
    # names and units are checked when they are defined; a database that somebody wrote into is drawn all the same
    for number, unit in ((64, "$x^2$"), (65, "--><script>"), (66, "\x1b[2J\n"), (67, "$\\frac{")):
        models.Meaning.objects.create(kind="record", number=number, name=f"own_{number}", unit=unit, defined_at_ms=0)
    models.Meaning.objects.create(kind="event", number=64, name="$a$\x1b]0;b\x07", defined_at_ms=0)
    wearable = fleet.add()
    sent = [message(0, T0, [number, 60, 1, 1]) for number in (64, 65, 66, 67)] + [message(1, T0, 64)]
    process(fleet.intake(), *(uplink(wearable.seal(one)) for one in sent))
    out = tmp_path / "out.svg"
    status, _, err = call(capsys, "--out", str(out))
    assert status == 0
    text = out.read_text()
    assert "\x1b" not in text + err and "\x07" not in text
    tree = ElementTree.fromstring(text)
    assert not [one for one in tree.iter() if one.tag.removeprefix(SVG) in ("script", "a", "image", "foreignObject")]
    # the dollar sign itself is drawn: a formula would have swallowed it
    assert any(one.get("{http://www.w3.org/1999/xlink}href") == "#DejaVuSans-24" for one in tree.iter(f"{SVG}use"))


def test_a_picture_is_for_its_owner_and_replaces_no_other_file(fleet: Fleet, tmp_path: Path, capsys):
    worn_day.put(fleet, fleet.add())
    out = tmp_path / "day.png"
    out.write_text("somebody's own")
    status, _, err = call(capsys, "--out", str(out), "--record", "steps")
    assert status == 1 and "no picture of readings" in err
    assert out.read_text() == "somebody's own"
    assert call(capsys, "--out", str(out), "--record", "steps", "--force")[0] == 0
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert call(capsys, "--out", str(out), "--record", "steps")[0] == 0  # one of ours
    assert [path.name for path in tmp_path.iterdir() if "day" in path.name] == ["day.png"]


def test_a_folder_gets_one_picture_a_device(fleet: Fleet, tmp_path: Path, capsys):
    wearables = [fleet.add() for _ in range(2)]
    for wearable in wearables:
        process(fleet.intake(), uplink(wearable.seal(message(0, T0, [1, 60, 70, 1]))))
    status, out, _ = call(capsys, "--out", str(tmp_path / "all"), "--format", "png", "--json")
    assert status == 0
    names = sorted(f"{wearable.eui.hex()}.png" for wearable in wearables)
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == names
    assert sorted(Path(one["path"]).name for one in json.loads(out)["files"]) == names
    assert stat.S_IMODE((tmp_path / "all").stat().st_mode) == 0o700


def test_only_what_is_asked_for_is_drawn(fleet: Fleet, tmp_path: Path, capsys):
    one, other = fleet.add(), fleet.add()
    for wearable in (one, other):
        worn_day.put(fleet, wearable)
    asked = ("--record", "heart_rate", "--record", "event/fall", "--device", one.eui.hex())
    cut = ("--since", "2026-09-21T10:00", "--until", "2026-09-21T12:00")
    _, out, _ = call(capsys, "--out", str(tmp_path / "a.svg"), "--json", *asked, *cut)
    told = json.loads(out)
    (device,) = told["files"][0]["devices"]
    assert device["device"] == one.eui.hex()
    assert [(record["record"], record["samples"] + record["missing"]) for record in device["records"]] == [
        ("heart_rate", 240)
    ]
    assert (told["since"], told["until"]) == (1_789_984_800, 1_789_992_000)
    assert [event["name"] for event in device["events"] if event["name"] not in ("consent", "restart")] == ["fall"]
    assert (device["states"], device["places"]) == ([], 0)


def test_a_status_from_before_the_time_was_known_stretches_no_picture(fleet: Fleet, tmp_path: Path, capsys):
    wearable = fleet.add()
    sent = [message(2, 3, {1: 3}), message(0, T0, [1, 60, 70, 1])]
    process(fleet.intake(), *(uplink(wearable.seal(one)) for one in sent))
    told = json.loads(call(capsys, "--out", str(tmp_path / "a.svg"), "--json")[1])
    assert (told["since"], told["until"]) == (UNIX_T0, UNIX_T0 + 61)


def test_who_drew_what_is_in_the_audit_trail(fleet: Fleet, tmp_path: Path, capsys):
    process(fleet.intake(), uplink(fleet.add().seal(message(0, T0, [1, 60, 70, 1]))))
    call(capsys, "--out", str(tmp_path / "a.svg"))
    event = AuditEvent.objects.latest("sequence")
    assert event.event == "sensitive_read"
    assert json.loads(event.details) == {"command": "readings plot", "devices": []}


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--out", "a.svg"), 1, "no readings to draw"),
        (("--out", "a.jpg"), 2, ".svg or .png"),
        (("--out", "a.svg", "--timezone", "Mars/Olympus"), 1, "no time zone"),
        (("--out", "a.svg", "--timezone", "../../etc/passwd"), 1, "no time zone"),
        (("--out", "a.svg", "--record", "pulse"), 1, "no record"),
        (("--out", "nowhere/a.svg"), 1, "no readings"),
        ((), 2, "--out"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_two_lines(
    fleet: Fleet, tmp_path, monkeypatch, capsys, arguments, status, said
):
    monkeypatch.chdir(tmp_path)
    found, out, err = call(capsys, *arguments)
    assert (found, out) == (status, "")
    assert said in err
    assert err.count("\n") == 2 and "Traceback" not in err
    assert not list(tmp_path.glob("a.*"))


def test_pipe_in_the_place_of_a_picture_is_refused_and_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "a.svg")
    for force in (False, True):
        with pytest.raises(picture.PictureRefused, match="no file"):
            picture.refuse_others(tmp_path / "a.svg", force=force)


def test_without_matplotlib_one_is_told_what_to_install(fleet: Fleet, tmp_path: Path, capsys, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "matplotlib" else real(name, *a))
    status, _, err = call(capsys, "--out", str(tmp_path / "a.svg"))
    assert status == 1
    assert "matplotlib" in err and "pip install 'sealband[plot]'" in err


def test_consent_that_was_withdrawn_is_a_mark_and_no_gap(fleet: Fleet, tmp_path: Path, capsys):
    wearable = fleet.add()
    sent = [
        message(2, T0 - 3600, {12: bytes((1, 3))}),
        message(0, T0 - 3600, [1, 60, *[70] + [0] * 9]),
        message(2, T0 - 3000, {12: bytes((3,))}),
        message(2, T0 - 600, {12: bytes((1, 3))}),
        message(0, T0 - 600, [1, 60, *[70] + [0] * 9]),
    ]
    process(fleet.intake(), *(uplink(wearable.seal(one), at=NOW) for one in sent))
    _, out, _ = call(capsys, "--out", str(tmp_path / "a.svg"), "--json")
    (device,) = json.loads(out)["files"][0]["devices"]
    assert [event["values"] for event in device["events"] if event["name"] == "consent"] == [[1, 3], [3], [1, 3]]
    assert device["records"][0]["missing"] == 0


def test_a_device_that_invents_places_and_events_fills_no_memory():
    from host_tools.ingest.decode import Event, Series, Telemetry
    from host_tools.ingest.readings import Filter, Opened
    from host_tools.ingest.vocabulary import STANDARD

    def frames():
        for number in range(scenes.CELLS_MAX + 500):
            both = (Series(7, 0, (number * 100,)), Series(8, 0, (number,)))
            yield Opened("02", Telemetry(T0 + number, both), T0, "lora", "", NOW)
            yield Opened("02", Telemetry(T0 + number, (Series(7, 1, (1, 2, 3)),)), T0, "lora", "", NOW)
            yield Opened("02", Event(T0, 64 + number % 100, (number,)), T0, "lora", "", NOW)

    (scene,) = scenes.scenes(frames(), Filter(), Span(UNIX_T0, UNIX_T0 + 5000), STANDARD)
    assert len(scene.cells) <= scenes.CELLS_MAX and len(scene.events) == scenes.EVENTS_MAX
    assert scene.events_left_out == scenes.CELLS_MAX + 500 - scenes.EVENTS_MAX


def test_places_are_cells_of_the_size_that_the_device_makes_them():
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    # a thousandth of a degree of latitude is 111.3 m; at 60 degrees north one of longitude is half of it
    chart.draw(axes, {(60.0, 10.0): 5, (60.001, 10.0): 1, (60.0, 10.002): 1}, 100)
    corners = sorted((round(patch.get_x()), round(patch.get_y()), patch.get_width()) for patch in axes.patches)
    assert corners == [(-50, -50, 100), (-50, 61, 100), (61, -50, 100)]
