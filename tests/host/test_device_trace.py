"""Sensor traces: files that are whole or refused, and parts that answer from them also where a driver has changed."""

import json
import resource
import signal
from pathlib import Path

import pytest

from host_tools.device.recording import Recording, Told
from host_tools.device.replay import Replay
from host_tools.device.trace import Entry, Trace, TraceError, TraceWriter
from host_tools.sim.outfit import Outfit
from host_tools.sim.parts import Fault, Nack
from host_tools.sim.parts.tmp117 import Tmp117
from host_tools.sim.wearer import Wearer

T0 = 1.8e9


class Clock:
    def __init__(self) -> None:
        self.s = T0

    def now(self) -> float:
        return self.s


def entries() -> list[Entry]:
    return [
        Entry(0, "w", 0x48, 0x01, b"\x04\x00"),
        Entry(3, "r", 0x48, 0x0F, b"\x01\x17"),
        Entry(5, "n", 0x57, 0x04),
        Entry(9, "a", 35, microvolts=1_850_000),
        Entry(1000, "u", 2, data=b"$GNGGA"),
        Entry(2000, "r", 0x48, 0x00, b"\x11\x00"),
    ]


def written(path: Path, found: list[Entry]) -> Path:
    with TraceWriter(path, "VIRTUAL", "virtual", T0) as writer:
        for entry in found:
            writer.write(entry)
    return path


def test_what_is_written_is_read_and_the_file_is_its_owner_s(tmp_path: Path) -> None:
    path = written(tmp_path / "a.trace", entries())
    trace = Trace.read(path)
    assert (list(trace.entries), trace.whole, trace.board, trace.begun) == (entries(), True, "VIRTUAL", T0)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(TraceError, match="already"):
        TraceWriter(path, "VIRTUAL", "virtual", T0)


def test_recording_that_was_cut_off_anywhere_is_played_up_to_there(tmp_path: Path) -> None:
    data = written(tmp_path / "a.trace", entries()).read_bytes()
    cut = tmp_path / "cut.trace"
    head = data.index(b"\n") + 1
    for length in range(head, len(data)):
        cut.write_bytes(data[:length])
        trace = Trace.read(cut)
        assert not trace.whole
        assert list(trace.entries) == entries()[: len(trace.entries)]


def test_changed_bit_is_refused_wherever_it_is(tmp_path: Path) -> None:
    data = written(tmp_path / "a.trace", entries()).read_bytes()
    bad = tmp_path / "bad.trace"
    for index in range(len(data) - 1):
        bad.write_bytes(data[:index] + bytes((data[index] ^ 1,)) + data[index + 1 :])
        with pytest.raises(TraceError):
            Trace.read(bad)


@pytest.mark.parametrize("change", ["swap", "drop", "twice", "after"])
def test_line_that_is_missing_or_elsewhere_is_refused(tmp_path: Path, change: str) -> None:
    path = written(tmp_path / "a.trace", entries())
    lines = path.read_bytes().splitlines(keepends=True)
    if change == "swap":
        lines[2], lines[3] = lines[3], lines[2]
    elif change == "drop":
        del lines[3]
    elif change == "twice":
        lines.insert(3, lines[3])
    else:
        lines.append(lines[-1])
    path.write_bytes(b"".join(lines))
    with pytest.raises(TraceError, match="damaged"):
        Trace.read(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x7fELF\x00\x01",
        b"t,value\n1,2\n",
        b"sealband-trace 1 [[[[",
        b'sealband-trace 1 {"board": "../../etc", "source": "virtual", "begun": 1}\n',
        b'sealband-trace 1 {"board": "VIRTUAL", "source": "virtual", "begun": 1e999}\n',
        b'sealband-trace 1 {"board": "VIRTUAL"}\n',
        b"sealband-trace 1 " + b"[" * 100_000,
        b"x" * 1_000_000,
    ],
)
def test_foreign_file_is_refused_as_such(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.trace"
    path.write_bytes(data)
    with pytest.raises(TraceError, match="no sensor trace"):
        Trace.read(path)


def test_trace_of_a_later_version_is_told_apart_from_a_foreign_file(tmp_path: Path) -> None:
    path = tmp_path / "x.trace"
    path.write_bytes(b"sealband-trace 2 {}\n")
    with pytest.raises(TraceError, match="another version"):
        Trace.read(path)


def test_file_without_an_end_is_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.trace"
    with open(path, "wb") as file:
        file.write(b"sealband-trace 1 ")
        file.truncate(1 << 40)
    with pytest.raises(TraceError, match="longer than"):
        Trace.read(path)


def test_recording_that_is_too_long_ends_where_it_can_still_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("host_tools.device.trace.FILE_MAX", 1000)
    path = written(tmp_path / "a.trace", [Entry(ms, "a", 35, microvolts=ms) for ms in range(100)])
    trace = Trace.read(path)
    assert path.stat().st_size <= 1000
    assert trace.whole and 10 < len(trace.entries) < 100
    week = 7 * 86_400_000
    with TraceWriter(tmp_path / "b.trace", "VIRTUAL", "virtual", T0) as writer:
        for ms in (0, week, week + 1):
            writer.write(Entry(ms, "a", 35))
    assert "7 days" in writer.stopped
    assert [entry.ms for entry in Trace.read(tmp_path / "b.trace").entries] == [0, week]


def test_full_disk_ends_the_recording_and_not_the_board(tmp_path: Path) -> None:
    path = tmp_path / "a.trace"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with TraceWriter(path, "VIRTUAL", "virtual", T0) as writer:
            resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
            for ms in range(100):
                writer.write(Entry(ms, "a", 35, microvolts=ms))
            assert writer.stopped
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert 5 < len(Trace.read(path).entries) < 50


def test_run_that_did_not_begin_leaves_no_file_in_the_way_of_the_next(tmp_path: Path) -> None:
    with pytest.raises(TraceError), TraceWriter(tmp_path / "a.trace", "VIRTUAL", "virtual", T0):
        raise TraceError("not begun")
    assert not list(tmp_path.iterdir())


# what a real board tells


def test_lines_of_a_hostile_board_become_no_entries(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "a.trace", "VIRTUAL", "board", T0) as writer:
        told = Told(writer)
        assert not told.take("[12] boot 1")
        for line in (
            "sealband-tap 5 i r 48 0f 0117; import os",
            "sealband-tap 5 i r zz 0f 0117",
            "sealband-tap 99999999999 i r 48 0f 0117",
            "sealband-tap 5 end 1",
            "sealband-tap 5 i r 48 0f " + "00" * 100_000,
            "sealband-tap 5 a 35 1\nsealband-trace 1",
            "sealband-tap \u0665 a 35 1",
        ):
            assert told.take(line)
        assert told.take("sealband-tap 1073741820 i r 48 0f 0117")
        assert told.take("sealband-tap 16 a 35 1850000")
    trace = Trace.read(tmp_path / "a.trace")
    assert [(entry.ms, entry.kind) for entry in trace.entries] == [(0, "r"), (20, "a")]


# record and replay


def replayed(found: list[Entry], clock: Clock) -> tuple[Replay, Outfit]:
    replay = Replay(Trace("VIRTUAL", "virtual", 0, tuple(found), True), clock.now)
    fitted = replay.fit(Outfit((), {}))
    replay.begin()
    return replay, fitted


def read(outfit: Outfit, address: int, register: int, n: int) -> bytes:
    part = next(part for part in outfit.parts if part.address == address)
    part.write(bytes((register,)))
    return part.read(n)


def test_recorded_part_answers_the_same_when_it_is_replayed(tmp_path: Path) -> None:
    clock = Clock()
    real = Tmp117(Wearer(3), clock.now)
    path = tmp_path / "a.trace"
    with TraceWriter(path, "VIRTUAL", "virtual", T0) as writer:
        recording = Recording(writer, clock.now)
        fitted = recording.fit(Outfit((real,), {35: lambda: 1_900_000 + int(clock.s - T0)}))
        assert read(fitted, 0x48, 0x0F, 2) == b"\x01\x17"  # before the application has begun
        recording.begin()
        first = [(read(fitted, 0x48, 0x00, 2), fitted.adc[35](), clock.__setattr__("s", clock.s + 7)) for _ in range(9)]
        real.fault = Fault.ABSENT
        with pytest.raises(Nack):
            read(fitted, 0x48, 0x00, 2)
    clock = Clock()
    replay, again = replayed(list(Trace.read(path).entries), clock)
    second = [(read(again, 0x48, 0x00, 2), again.adc[35](), clock.__setattr__("s", clock.s + 7)) for _ in range(9)]
    assert second == first
    assert len({temperature for temperature, *_ in first}) > 2
    with pytest.raises(Nack):
        read(again, 0x48, 0x00, 2)
    clock.s += 10
    assert replay.played


def test_driver_with_other_settings_reads_back_its_own() -> None:
    recorded = [Entry(0, "w", 0x48, 0x01, b"\x0c\x20"), Entry(1, "r", 0x48, 0x01, b"\x0c\x20")]
    _, fitted = replayed(recorded, Clock())
    fitted.parts[0].write(b"\x01\x0c\x40")
    assert read(fitted, 0x48, 0x01, 2) == b"\x0c\x40"


def test_fifo_gives_its_bytes_in_other_pieces_than_they_were_read_in() -> None:
    recorded = [Entry(i, "r", 0x57, 0x07, bytes(range(i * 6, i * 6 + length))) for i, length in enumerate((6, 6, 3))]
    _, fitted = replayed(recorded, Clock())
    data = b"".join(read(fitted, 0x57, 0x07, n) for n in (3, 9, 3))
    assert data == b"".join(entry.data for entry in recorded)
    with pytest.raises(Nack):
        read(fitted, 0x57, 0x07, 3)


def test_register_within_a_piece_that_was_read_in_one_is_known() -> None:
    _, fitted = replayed([Entry(0, "r", 0x57, 0x04, b"\x0a\x00\x03")], Clock())
    assert read(fitted, 0x57, 0x06, 1) == b"\x03"


def test_register_that_the_trace_never_asked_for_is_not_made_up() -> None:
    replay, fitted = replayed(entries(), Clock())
    with pytest.raises(Nack):
        read(fitted, 0x48, 0x20, 2)
    assert replay.unknown == {(0x48, 0x20)}


def test_identity_may_be_asked_for_more_often_than_it_was_and_a_reading_may_not() -> None:
    recorded = [Entry(0, "r", 0x48, 0x0F, b"\x01\x17"), *(Entry(i, "r", 0x48, 0, bytes((i, 0))) for i in (1, 2))]
    _, fitted = replayed(recorded, Clock())
    assert {read(fitted, 0x48, 0x0F, 2) for _ in range(5)} == {b"\x01\x17"}
    assert [read(fitted, 0x48, 0, 2) for _ in range(2)] == [b"\x01\x00", b"\x02\x00"]
    with pytest.raises(Nack):
        read(fitted, 0x48, 0, 2)


def test_uart_and_adc_say_what_they_said_at_that_time_and_again_after_a_rewind() -> None:
    clock = Clock()
    recorded = [
        Entry(0, "a", 35, microvolts=1),
        Entry(500, "u", 2, data=b"one"),
        Entry(1000, "a", 35, microvolts=2),
        Entry(1500, "u", 2, data=b"two"),
    ]
    replay, fitted = replayed(recorded, clock)
    for _ in range(2):
        said = []
        for _ in range(4):
            clock.s += 0.6
            said.append((fitted.adc[35](), fitted.serial[2].say(clock.s)))
        assert said == [(1, b"one"), (2, b""), (2, b"two"), (2, b"")]
        replay.rewind()
        assert fitted.serial[2].say(clock.s) == b""
        replay.begin()


def test_part_does_not_answer_before_the_application_has_begun() -> None:
    clock = Clock()
    replay = Replay(Trace("VIRTUAL", "virtual", 0, tuple(entries()), True), clock.now)
    fitted = replay.fit(Outfit((), {}))
    with pytest.raises(Nack):
        fitted.parts[0].write(b"")
    replay.begin()
    fitted.parts[0].write(b"")


def test_trace_s_header_holds_nothing_of_the_machine_it_was_made_on(tmp_path: Path) -> None:
    head = written(tmp_path / "a.trace", []).read_text().splitlines()[0]
    assert set(json.loads(head.split(" ", 2)[2])) == {"board", "source", "begun"}
