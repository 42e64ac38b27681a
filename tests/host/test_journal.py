"""The station's journal: a cut at any byte loses nothing that was acknowledged, and a changed line is found."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from provisioning.station import journal as journals
from provisioning.station.journal import ENROLLED, FAILED, RESERVED, Journal, JournalDamaged, JournalError, parse

EUI, TICKET, NONCE = "01" * 8, "02" * 8, "03" * 16


def write(path: Path, boards: int = 2) -> bytes:
    with Journal.open(path, clock=lambda: 1.75e9) as journal:
        for _ in range(boards):
            journal.append(RESERVED, eui=EUI, ticket=TICKET, station_nonce=NONCE)
            journal.append(ENROLLED, eui=EUI, ticket=TICKET, record="ab" * 20)
            journal.append(FAILED, eui=EUI, ticket=TICKET, reason="random")
    return path.read_bytes()


def test_a_journal_comes_back_as_it_was(tmp_path: Path):
    path = tmp_path / "journal"
    write(path)
    with Journal.open(path) as journal:
        assert journal.recovered == ""
        assert [entry.kind for entry in journal.entries] == ["opened", *[RESERVED, ENROLLED, FAILED] * 2]
        assert journal.entries[2].body["record"] == "ab" * 20
        assert journal.entries[2].at == 1750000000
    assert path.stat().st_mode & 0o077 == 0


def test_cut_at_any_byte_keeps_every_whole_line_and_sets_the_rest_aside(tmp_path: Path):
    data = write(tmp_path / "whole")
    lines = data.splitlines(keepends=True)
    for cut in range(len(data) + 1):
        folder = tmp_path / str(cut)
        folder.mkdir()
        path = folder / "journal"
        path.write_bytes(data[:cut])
        whole = data[:cut].splitlines(keepends=True)
        torn = b"" if not whole or whole[-1].endswith(b"\n") else whole.pop()
        completed = torn + b"\n" == lines[len(whole)] if torn else False
        kept = len(whole) + completed
        with Journal.open(path) as journal:
            # an empty journal begins anew with its first entry
            assert len(journal.entries) == max(kept, 1)
            assert bool(journal.recovered) == bool(torn)
            journal.append(FAILED, eui=EUI, ticket=TICKET, reason="after")
        now = path.read_bytes()
        assert now.startswith(data[:cut] if completed else b"".join(whole))
        assert [entry.kind for entry in parse(now).entries][-1] == FAILED
        aside = [other.read_bytes() for other in folder.glob("journal.torn-*")]
        assert aside == ([torn] if torn and not completed else [])


@pytest.mark.parametrize("zeros", [1, 7, 5000])
def test_a_tail_of_zeros_is_set_aside(tmp_path: Path, zeros: int):
    path = tmp_path / "journal"
    data = write(path)
    for tail in (bytes(zeros), bytes(zeros) + b"\n", b'{"n":8' + bytes(zeros)):
        path.write_bytes(data + tail)
        with Journal.open(path) as journal:
            assert "half-written" in journal.recovered
            assert len(journal.entries) == 7
        assert path.read_bytes() == data


def test_a_second_cut_while_setting_right_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "journal"
    data = write(path)
    path.write_bytes(data[:-10])
    with monkeypatch.context() as patch:

        def cut(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(os, "ftruncate", cut)
        with pytest.raises(KeyboardInterrupt):
            Journal.open(path)
    with Journal.open(path) as journal:
        assert len(journal.entries) == 6
    assert len(list(tmp_path.glob("journal.torn-*"))) == 1


def test_any_changed_byte_is_found(tmp_path: Path):
    path = tmp_path / "journal"
    data = write(path)
    for at in range(0, len(data) - 1, 3):
        changed = bytearray(data)
        changed[at] ^= 0x01
        with pytest.raises(JournalDamaged, match="line"):
            parse(bytes(changed))


def test_a_removed_repeated_or_moved_line_is_found(tmp_path: Path):
    lines = write(tmp_path / "journal").splitlines(keepends=True)
    for wrong in (lines[:2] + lines[3:], lines[:3] + lines[2:], [lines[0], lines[2], lines[1], *lines[3:]], lines[1:]):
        with pytest.raises(JournalDamaged):
            parse(b"".join(wrong))


def test_a_damaged_journal_is_not_opened_and_not_touched(tmp_path: Path):
    path = tmp_path / "journal"
    data = bytearray(write(path))
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(JournalDamaged):
        Journal.open(path)
    assert path.read_bytes() == bytes(data)
    assert [p.name for p in tmp_path.iterdir()] == ["journal"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("nonsense", {}),
        (RESERVED, {"eui": EUI, "ticket": TICKET}),
        (RESERVED, {"eui": EUI, "ticket": TICKET, "station_nonce": "03" * 15}),
        (RESERVED, {"eui": EUI.upper() + "AA", "ticket": TICKET, "station_nonce": NONCE}),
        (ENROLLED, {"eui": EUI, "ticket": TICKET, "record": ""}),
        (ENROLLED, {"eui": EUI, "ticket": TICKET, "record": 7}),
        (FAILED, {"eui": EUI, "ticket": TICKET, "reason": "a\nb"}),
        (FAILED, {"eui": EUI, "ticket": TICKET, "reason": "x" * 5000}),
        ("opened", {"format": journals.FORMAT, "journal": "00" * 16}),
    ],
)
def test_a_line_of_another_form_is_found_even_with_a_right_hash(tmp_path: Path, kind: str, body: dict):
    path = tmp_path / "journal"
    data = write(path, boards=0)
    head = parse(data).head
    entry = journals.Entry(2, 1, kind, body, journals._digest(head, 2, 1, kind, body))
    with pytest.raises(JournalDamaged):
        parse(data + entry.to_bytes())
    if kind != "opened":
        with Journal.open(path) as journal, pytest.raises(JournalError):
            journal.append(kind, **body)
        assert path.read_bytes() == data


@pytest.mark.parametrize(
    "line", [b"\n", b"null\n", b"[]\n", b"{}\n", b"\xff\n", b"[" * 50_000 + b"\n", b"x" * 10_000 + b"\n"]
)
def test_a_line_that_is_no_entry_is_found(tmp_path: Path, line: bytes):
    with pytest.raises(JournalDamaged):
        parse(write(tmp_path / "journal") + line)


def test_a_hostile_line_with_a_kind_or_time_that_is_none_is_found(tmp_path: Path):
    data = write(tmp_path / "journal", boards=0)
    head = parse(data).head
    for at in (-1, 10**18, 10**400):
        body = {"eui": EUI, "ticket": TICKET}
        entry = journals.Entry(2, at, "labelled", body, journals._digest(head, 2, at, "labelled", body))
        with pytest.raises(JournalDamaged):
            parse(data + entry.to_bytes())
    for kind in ([], {}, None, 1):
        row = json.loads(data) | {"n": 2, "kind": kind}
        with pytest.raises(JournalDamaged):
            parse(data + json.dumps(row, separators=(",", ":"), sort_keys=True).encode() + b"\n")


def test_an_entry_in_another_spelling_is_found(tmp_path: Path):
    data = write(tmp_path / "journal", boards=0)
    with pytest.raises(JournalDamaged):
        parse(json.dumps(json.loads(data)).encode() + b"\n")


def test_two_stations_cannot_use_one_journal(tmp_path: Path):
    with Journal.open(tmp_path / "journal"), pytest.raises(JournalError, match="in use"):
        Journal.open(tmp_path / "journal")
    Journal.open(tmp_path / "journal").close()


def test_a_full_disk_leaves_the_journal_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "journal"
    data = write(path)
    real = os.pwrite
    with Journal.open(path) as journal:
        monkeypatch.setattr(os, "pwrite", lambda fd, part, at: real(fd, part[:7], at) if at == len(data) else 0)
        with pytest.raises(JournalError, match="No space"):
            journal.append(FAILED, eui=EUI, ticket=TICKET, reason="x")
        monkeypatch.undo()
        assert path.read_bytes() == data
        journal.append(FAILED, eui=EUI, ticket=TICKET, reason="x")
    assert len(parse(path.read_bytes()).entries) == 8


def test_an_acknowledged_entry_outlives_a_killed_station(tmp_path: Path):
    path = tmp_path / "journal"
    program = textwrap.dedent(
        f"""
        from pathlib import Path
        from provisioning.station.journal import FAILED, Journal
        with Journal.open(Path({str(path)!r})) as journal:
            while True:
                entry = journal.append(FAILED, eui={EUI!r}, ticket={TICKET!r}, reason="x")
                print(entry.number, flush=True)
        """
    )
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert process.stdout
        last = 0
        for _ in range(20):
            last = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split("\n")[:-1]
        process.wait()
        process.stdout.close()
        last = int(rest[-1]) if rest else last
        with Journal.open(path) as journal:
            assert len(journal.entries) >= last
