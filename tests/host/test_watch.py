"""`readings watch`: what stands there is what came, and a terminal is left as it was found."""

import base64
import fcntl
import json
import os
import pty
import re
import select
import signal
import stat
import struct
import sys
import termios
import time
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_tools import cli
from tests.support.fleet import MASTER_KEY, T0, AuditEvent, Fleet, message, models, process, readings, telemetry, uplink
from tests.support.operators import log_in

from host_tools.ingest import watching  # isort: skip  needs Django, which fleet connects

SEALBAND = str(Path(sys.executable).parent / "sealband")
NOW = 1_790_000_000
PATIENCE_S = 20


def reading(value, at, record="heart_rate", device="02" * 8, received=None, number=1) -> readings.Reading:
    scaled = None if value is None else Decimal(value)
    return readings.Reading(device, at, record, number, scaled, "beat/min", "lora", "", received or at + 5.0)


def test_newest_reach_and_share_are_those_of_the_window():
    watched = watching.Watched(600)
    watched.take(
        reading(value, at) for value, at in ((200, NOW - 700), (70, NOW - 540), (75, NOW - 480), (71, NOW - 60))
    )
    watched.take([reading(73, NOW - 420), reading(72, NOW - 360)])  # of an older frame, that came late
    (row,) = watched.rows(NOW, 10)
    assert (row.newest.value, row.low, row.high) == (71, 70, 75)
    # one a minute: of the eight after the first, four came
    assert row.share == 4 / 8
    assert row.trend == (None, 70, 75, 73, 72, None, None, None, None, 71)
    assert watching.sparkline(row.trend) == " ▁█▅▄    ▂"
    assert watching.sparkline(row.trend, watching.ASCII) == " _#=-    ."


def test_what_arrived_while_the_past_was_read_counts_once():
    watched = watching.Watched(600)
    for _ in range(2):
        watched.take([reading(70, NOW - 60), reading(72, NOW)])
    assert watched.rows(NOW, 1)[0].trend == (71,)


def test_a_series_is_late_when_nothing_arrives_and_not_because_it_is_gathered():
    watched = watching.Watched(7200)
    watched.take(reading(70, NOW - 300 * n, received=NOW - 300 * n + 250) for n in range(5, 0, -1))
    assert not watched.rows(NOW + 700, 1)[0].late
    assert watched.rows(NOW + 951, 1)[0].late


def test_an_event_with_two_values_is_told_once_and_memory_is_bounded():
    watched = watching.Watched(600)
    for number in range(watching.EVENTS_MAX + 5):
        watched.take([reading(value, NOW + number, "event/fall") for value in (4200, 12)])
    assert len(watched.events) == watching.EVENTS_MAX
    watched.take(reading(1, NOW, f"record_{number}", number=number) for number in range(watching.SERIES_MAX + 10))
    assert len(watched.rows(NOW, 1)) == watching.SERIES_MAX


@given(st.lists(st.one_of(st.none(), st.floats(-1e300, 1e300)), max_size=40))
def test_a_sparkline_is_as_long_as_its_trend(trend):
    line = watching.sparkline(trend)
    assert len(line) == len(trend)
    assert [block == " " for block in line] == [value is None for value in trend]


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


@pytest.fixture
def wearable(fleet: Fleet):
    wearable = fleet.add()
    models.Meaning.objects.create(kind="event", number=64, name="moved\x1b[2J", defined_at_ms=0)
    sent = [telemetry(72, 73, 71), message(0, T0, [6, 0, 1]), message(1, T0 + 60, 64)]
    process(fleet.intake(), *(uplink(wearable.seal(plaintext)) for plaintext in sent))
    return wearable


def test_without_a_terminal_there_are_plain_lines(wearable, capsys: pytest.CaptureFixture[str]):
    capsys.readouterr()
    assert cli.run(("readings", "watch", "--since", "2025-01-01", "--looks", "1")) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert len(lines) == 3 and "\x1b" not in out
    assert "heart_rate" in lines[0] and "71 beat/min" in lines[0] and "71 to 73" in lines[0]
    assert "walking" in lines[1]
    assert "event/moved" in lines[2]
    event = AuditEvent.objects.latest("sequence")
    assert json.loads(event.details)["command"] == "readings watch"


def test_machines_get_a_line_a_look(wearable, capsys: pytest.CaptureFixture[str]):
    capsys.readouterr()
    assert cli.run(("readings", "watch", "--since", "2025-01-01", "--looks", "2", "--every", "0.2", "--json")) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(told) == 2
    rows = {row["record"]: row for row in told[0]["rows"]}
    assert (rows["heart_rate"]["value"], rows["heart_rate"]["least"], rows["heart_rate"]["greatest"]) == (71, 71, 73)
    assert rows["activity"]["meaning"] == "walking"
    assert told[0]["events"][0]["id"] == 64


def test_a_terminal_is_resized_and_left_as_it_was_on_ctrl_c(fleet: Fleet, wearable):
    pid, terminal = pty.fork()
    if not pid:
        # not execv: readline, where a test runner loads it, puts COLUMNS behind Python's back
        environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
        command = [SEALBAND, "readings", "watch", "--since", "2025-01-01", "--every", "0.2"]
        os.execve(SEALBAND, command, {**environment, "TERM": "xterm-256color"})
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
        seen = until(terminal, b"came")  # a column that is there when there is room
        assert wearable.eui.hex() in text(seen)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
        # the end of its number is what fits
        until(terminal, rb"(?<![0-9a-f])" + wearable.eui.hex()[-6:].encode())
        process(fleet.intake(), uplink(wearable.seal(telemetry(199, t0=T0 + 500))))
        until(terminal, b"199 beat/min")
        os.write(terminal, b"\x03")
        rest = until(terminal, None)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        pid = 0
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(terminal)
    # the cursor is shown again, and the other screen is left
    assert rest.rstrip().endswith(b"\x1b[?25h\x1b[?1049l")
    assert b"Traceback" not in rest
    assert "\x1b[2J" not in seen.decode(errors="replace").split("moved")[-1][:4]


def until(terminal: int, what: bytes | None) -> bytes:
    """What is written until this pattern appears; None: until the end."""
    seen, end = b"", time.monotonic() + PATIENCE_S
    while what is None or not re.search(what, seen):
        assert time.monotonic() < end, text(seen)
        if select.select([terminal], [], [], 0.5)[0]:
            try:
                piece = os.read(terminal, 65536)
            except OSError:  # as Linux tells the end of a pty
                break
            if not piece:
                break
            seen += piece
    assert what is None or re.search(what, seen), text(seen)
    return seen


def text(written: bytes) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.decode(errors="replace"))


@pytest.mark.parametrize("command", [("watch", "--every", "0.2", "--looks", "100"), ("show", "--follow")])
@pytest.mark.parametrize("what", ["session ended", "role withdrawn"])
def test_readings_are_not_shown_any_longer_than_somebody_may_see_them(
    wearable, command, what, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from host_tools.ingest.readings import follow
    from provisioning.operators import sessions
    from provisioning.operators.models import Operator

    def followed(source, wanted, seen, pause):
        pieces = follow(source, wanted, seen, lambda: None)
        yield next(pieces)
        operator = Operator.objects.get(name="care")
        sessions.end_all(operator) if what == "session ended" else monkeypatch.setattr(
            "provisioning.operators.grants.held", lambda vault, operator: frozenset()
        )
        for _ in range(100):
            yield next(pieces)
        pytest.fail("still shown")

    monkeypatch.setattr("host_tools.ingest.readings.follow", followed)
    monkeypatch.setattr("host_tools.cli.readings_source.HOLD_S", 0.0)
    assert cli.run(("readings", *command)) == 1
    assert ("does not hold" if what == "session ended" else "may not do this") in capsys.readouterr().err


def test_a_screen_that_was_left_behind_does_not_keep_its_session_alive(fleet: Fleet):
    from provisioning.operators import sessions
    from provisioning.operators.errors import SessionRefused
    from tests.support.operators import session_of

    began = time.time()
    session = session_of(fleet.vault, "care", ["care"])
    sessions.hold(fleet.vault, session, "reading.view", lambda: began + sessions.IDLE_S - 5)
    with pytest.raises(SessionRefused, match="not used"):
        sessions.hold(fleet.vault, session, "reading.view", lambda: began + sessions.IDLE_S + 5)
