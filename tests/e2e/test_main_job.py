"""The main job through the real pieces: virtual boards, mpremote, ether, UDP, MQTT, ingest, SQLite, and the demo."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest

from host_tools.sim.board import VirtualBoard
from host_tools.sim.clock import SimClock
from host_tools.sim.ether import Transmission
from host_tools.sim.site import Site
from host_tools.sim.wearer import Wearer
from sealwire import frame, radio
from tests.support.boards import has_raw_repl, interpreters
from tests.support.heart_reference import beat_times_s, heart_rate

pytestmark = pytest.mark.skipif(not has_raw_repl(), reason="MicroPython's unix port has a raw REPL from 1.27 on")

SPEED = 20.0
MAC = bytes.fromhex("70b3d5002000")
APP = """
from sealband.app import App, Every, part
from sealband.links.lora import LoRa
from sealband.sensors.battery import BatteryVoltage
from sealband.sensors.tmp117 import SkinTemperature


def build(board):
    board.power()
    return App(
        sensors=[
            Every(20, part("max30102", board)),
            Every(20, SkinTemperature(board.i2c())),
            Every(60, BatteryVoltage(board.battery_adc(), board.BATTERY["divider"])),
        ],
        links=[LoRa(board)],
        send_every_s=60,
        deep_sleep=%s,
    )
"""
RUN_S = 36.0
COVERED_MIN_S, WINDOW_S = 4.5, 8.0  # of beats, in sealband.sensors.heart


@dataclass
class Day:
    """What one run of a small site left: stored readings, everything on the air, the wearers."""

    readings: list  # host_tools.ingest.readings.Reading
    frames: list[tuple[str, int, int]]
    air: list[Transmission]
    wearers: dict[str, Wearer]
    statistics: object
    senders: dict[str, dict[str, float]]


def play(folder: Path, *, deep_sleep: bool, loss: float) -> Day:
    """Two boards for RUN_S; the first loses its power twice, in the midst of whatever it does."""
    app = folder / "app.py"
    app.write_text(APP % deep_sleep)
    clock = SimClock.start(SPEED)
    air: list[Transmission] = []
    wearers: dict[str, Wearer] = {}
    with Site(folder / "site", clock, loss=loss, seed=3, app=app) as site:
        site.ether.on_transmission.append(air.append)
        tickets = site.issue(2)
        for number, recording in enumerate(("fast", "slow")):
            wearer = Wearer(number + 20, recording)
            board = site.board(f"b{number}", MAC[:5] + bytes((number,)), wearer)
            done = site.enrol(board, tickets)
            wearers[done.record.eui.hex()] = wearer
        assert len(site.take().admitted) == 2
        begun = time.monotonic()
        for cut_at_s in (RUN_S / 3, RUN_S / 2):
            time.sleep(max(0.0, begun + cut_at_s - time.monotonic()))
            cut_power(site.boards[0])
        time.sleep(max(0.0, begun + RUN_S - time.monotonic()))
        site.worker.check()
        statistics = site.worker.statistics()
        senders = site.ether.statistics()["senders"]
        from host_tools.ingest.models import Frame
        from host_tools.ingest.readings import Filter, Readings
        from host_tools.ingest.store import Payloads

        readings = list(Readings(Payloads(site.vault)).in_order(Filter()))
        rows = Frame.objects.values_list("device__eui", "epoch", "ctr")
        frames = [(bytes(eui).hex(), epoch, ctr) for eui, epoch, ctr in rows]
    return Day(readings, frames, air, wearers, statistics, senders)


def cut_power(board: VirtualBoard) -> None:
    board.power_cut()
    time.sleep(0.3)
    board.power_on()


@pytest.fixture(scope="module", params=[False, True], ids=["awake", "deep sleep"])
def day(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Day:
    return play(tmp_path_factory.mktemp("day"), deep_sleep=request.param, loss=0.2)


def test_both_wearers_readings_arrive_in_spite_of_loss_and_power_cuts(day: Day) -> None:
    for eui in day.wearers:
        records = {reading.record for reading in day.readings if reading.device == eui}
        assert {"heart_rate", "skin_temperature"} <= records
        assert sum(reading.device == eui and reading.record == "heart_rate" for reading in day.readings) >= 8


def test_heart_rates_in_the_store_agree_with_heartpy(day: Day) -> None:
    # Over a whole run, the mean of what arrived and heartpy's rate of the same recording. Exact windows are compared in
    # tests/host/test_heart_agreement.py; here a busy computer moves a window by seconds, in which the pulse changes.
    for eui, wearer in day.wearers.items():
        stored = [float(one.value) for one in day.readings if one.device == eui and one.record == "heart_rate"]
        recording = wearer.recording
        whole = heart_rate(list(recording.samples), recording.rate_hz)
        mean = sum(stored) / len(stored)
        print(f"{eui}: {len(stored)} stored, mean {mean:.1f}; heartpy {whole.bpm:.1f}")
        assert abs(mean - whole.bpm) <= 3.0
        # and none that the recording does not have anywhere: in any run of beats as long as the device wants at least,
        # which is what is left of a window when a busy computer lost samples of it
        beats = beat_times_s(recording.samples * 2, recording.rate_hz)
        runs = [
            60 * (end - begin) / (beats[end] - beats[begin])
            for begin in range(len(beats))
            for end in range(begin + 1, len(beats))
            if COVERED_MIN_S <= beats[end] - beats[begin] <= WINDOW_S
        ]
        assert min(runs) - 3.0 <= min(stored) <= max(stored) <= max(runs) + 3.0


def test_temperatures_in_the_store_are_the_wearers(day: Day) -> None:
    found = [reading for reading in day.readings if reading.record == "skin_temperature"]
    for reading in found:
        wearer = day.wearers[reading.device]
        assert abs(float(reading.value) - wearer.skin_temperature_c(reading.unix_s + 1)) < 0.15


def test_no_nonce_was_used_twice_by_anybody_ever_on_the_air(day: Day) -> None:
    packets = defaultdict(set)
    for sent in day.air:
        parsed = frame.parse(sent.packet)
        name = parsed.did if parsed.kind != frame.KIND_HELLO else parsed.eui
        packets[sent.params.invert_iq, parsed.kind, parsed.epoch_bits, name, parsed.ctr].add(sent.packet)
    assert len(packets) > 20
    # a retry is the same bytes again; anything else under the same counter would be the same nonce for two texts
    assert [key for key, versions in packets.items() if len(versions) > 1] == []


def test_every_frame_is_stored_once(day: Day) -> None:
    assert len(day.frames) == len(set(day.frames)) > 10


def test_duty_cycle_is_kept_as_the_ether_counts_it(day: Day) -> None:
    budget_s = 3600 * radio.EU868_DUTY_PERMILLE / 1000
    boards = [sender for name, sender in day.senders.items() if name.startswith("b")]
    assert len(boards) == 2
    assert all(0 < sender["busiest_hour_s"] <= budget_s for sender in boards)


def test_what_the_gateway_sent_reached_the_devices(day: Day) -> None:
    # frames that were acknowledged are not sent again, so with 20 % loss there are not many more than were stored
    uplinks = [sent for sent in day.air if not sent.params.invert_iq]
    assert len(uplinks) < 3 * len(day.frames)


# --- the demo


def sealband(*arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "host_tools.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, float]:
    folder = tmp_path_factory.mktemp("demo") / "kept"
    begun = time.monotonic()
    done = sealband("demo", "--json", "--keep", str(folder))
    took_s = time.monotonic() - begun
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout), took_s


def test_demo_shows_readings_updates_boards_and_refuses_six_attacks(demo: tuple[Path, dict, float]) -> None:
    _, summary, _ = demo
    assert summary["attacks"] == {
        "a replayed frame": "replay",
        "one bit changed": "bad_tag",
        "a used ticket": "ticket_used",
        "a tampered manifest": "manifest_digest",
        "one signature too few": "too_few_signatures",
        "an older release": "old_sequence",
    }
    assert list(summary["releases"].values()) == [2, 2]
    assert summary["samples"] >= 10
    assert summary["stored"] <= summary["opened"] <= summary["received"]
    assert set(summary["airtime"]) == {"band-1", "band-2"}


def test_demo_takes_at_most_a_minute_and_a_half(demo: tuple[Path, dict, float]) -> None:
    assert demo[2] <= 90


def test_demo_leaves_no_process(demo: tuple[Path, dict, float]) -> None:
    assert interpreters(demo[0]) == []


def test_kept_data_can_be_read_and_exported(demo: tuple[Path, dict, float]) -> None:
    registry = ["--database", str(demo[0] / "registry.db"), "--key-file", str(demo[0] / "master.key")]
    where = [*registry, "--operator", str(demo[0] / "viewer.token")]
    shown = sealband("readings", "show", *where, "--json")
    assert shown.returncode == 0, shown.stderr
    assert {reading["record"] for reading in json.loads(shown.stdout)} >= {"heart_rate", "skin_temperature"}
    for format_ in ("csv", "json", "senml"):
        exported = sealband("readings", "export", *where, "--format", format_)
        assert exported.returncode == 0 and "heart_rate" in exported.stdout
    auditor = [*registry, "--operator", str(demo[0] / "auditor.token"), "--json"]
    audited = sealband("audit", "verify", *auditor)
    assert audited.returncode == 0, audited.stderr
    looked = json.loads(sealband("audit", "show", "--event", "sensitive_read", *auditor).stdout)
    assert [row["actor"].split("/")[0] for row in looked] == ["operator:viewer"] * 4
    assert sealband("registry", "devices", *registry).returncode == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_demo_leaves_no_process_when_it_is_stopped(tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "kept"
    command = [sys.executable, "-m", "host_tools.cli", "demo", "--keep", str(folder)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as demo:
        assert demo.stdout
        for line in demo.stdout:
            if line.startswith("4 "):
                break
        else:
            pytest.fail(f"the demo ended by itself: {demo.stderr.read() if demo.stderr else ''}")
        assert len(interpreters(folder)) == 2
        demo.send_signal(number)
        _out, error = demo.communicate(timeout=20)
        assert demo.returncode == 1
        assert "Traceback" not in error and "stopped before it was done" in error
    deadline = time.monotonic() + 5
    while interpreters(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert interpreters(folder) == []


def test_demo_refuses_a_folder_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "something").write_text("of yours")
    done = sealband("demo", "--keep", str(tmp_path))
    assert done.returncode == 1 and "not empty" in done.stderr
    assert (tmp_path / "something").read_text() == "of yours"
