"""Records and events of an application's own: what records.py may say, and that an id keeps its meaning for ever."""

import base64
import json
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import boards
from host_tools import cli
from host_tools.ingest import definitions
from host_tools.ingest.definitions import DefinitionError, Event, Record
from host_tools.ingest.vocabulary import FilterError, Vocabulary, meaning
from host_tools.release.bundle import compile_tree, sources
from host_tools.sim.interpreter import find_micropython
from tests.support.fleet import MASTER_KEY, T0, AuditEvent, Fleet, message, process, readings, store, uplink
from tests.support.micropython import ROOT
from tests.support.operators import log_in

OWN = '''"""What the glove measures."""
from micropython import const

GRIP = const(64)
TURN = 65  # degrees

RECORDS = (
    (GRIP, "grip_force", "N", -1),
    (TURN, "turn", "°", 0),
    (70, "counts", "", 0),
)
EVENTS = [(64, "handover")]
'''


def define(text: str, tmp_path: Path) -> str:
    path = tmp_path / "records.py"
    path.write_text(text)
    return str(path)


def test_a_file_is_read_as_it_stands_on_the_device():
    found = definitions.read(OWN)
    assert found.records == (Record(64, "grip_force", "N", -1), Record(65, "turn", "°", 0), Record(70, "counts", "", 0))
    assert found.events == (Event(64, "handover"),)
    # the same by Python itself, with MicroPython's const
    names: dict = {}
    exec(OWN.replace("from micropython import const", "const = int"), names)
    assert tuple(names["RECORDS"]) == tuple((r.number, r.name, r.unit, r.scale) for r in found.records)
    assert tuple(names["EVENTS"]) == tuple((e.number, e.name) for e in found.events)


def test_a_release_carries_the_numbers_only():
    made: dict = {}
    exec(definitions.device_source(definitions.read(OWN)), made)
    assert {name: value for name, value in made.items() if name != "__builtins__"} == {"GRIP": 64, "TURN": 65}


def test_an_application_finds_its_numbers_on_the_board_and_their_names_stay_behind(tmp_path: Path):
    define(OWN, tmp_path)
    app = tmp_path / "my_app.py"
    app.write_text("from records import GRIP\nprint('grip is', GRIP)\n")
    compile_tree(ROOT / "device", tmp_path / "out", boards.load("VIRTUAL"), app=app)
    assert b"grip_force" not in (tmp_path / "out" / "records.mpy").read_bytes()
    done = subprocess.run(
        [find_micropython(), "-c", "import app"],
        env={"MICROPYPATH": str(tmp_path / "out")},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "grip is 64\n", done.stderr
    app.write_text("RECORDS = 'records are not imported'\n")
    assert Path("records.py") not in sources(ROOT / "device", boards.load("VIRTUAL"), app)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("import os\nRECORDS = ()", 1, "only constants"),
        ("RECORDS = ()\nprint(1)", 2, "only constants"),
        ("RECORDS = tuple(open('/etc/passwd'))", 1, "tuple of tuples"),
        ("A = __import__('os').getpid()\nRECORDS = ()", 1, "whole number"),
        ("RECORDS = ((64, 'a', 'N', 0),)\n'text'", 2, "only constants"),
        ("RECORDS = (\n (64, 'grip', 'N', 0),\n (63, 'turn', 'N', 0),\n)", 3, "id 63 is not in 64 to 255"),
        ("RECORDS = ((256, 'grip', 'N', 0),)", 1, "id 256"),
        ("RECORDS = ((64, 'Grip', 'N', 0),)", 1, "a name is a to z"),
        ("RECORDS = ((64, 'grip force', 'N', 0),)", 1, "a name is a to z"),
        ("RECORDS = ((64, 'ｇrip', 'N', 0),)", 1, "a name is a to z"),
        ("RECORDS = ((64, 'g\\x1b[2J', 'N', 0),)", 1, "a name is a to z"),
        ("RECORDS = ((64, '" + 33 * "g" + "', 'N', 0),)", 1, "32 characters"),
        ("RECORDS = ((64, 'grip', 'N', 10),)", 1, "scale 10"),
        ("RECORDS = ((64, 'grip', 'N', -10),)", 1, "scale -10"),
        ("RECORDS = ((64, 'grip', 'N\\x1b[2J', 0),)", 1, "printable"),
        ("RECORDS = ((64, 'grip', '\\u202e', 0),)", 1, "printable"),
        ("RECORDS = ((64, 'grip', 'newtons per metre', 0),)", 1, "16"),
        ("RECORDS = ((64, 'grip', 'N', 0.5),)", 1, "whole number"),
        ("RECORDS = ((True, 'grip', 'N', 0),)", 1, "whole number"),
        # more digits than Python writes out
        ("A = 0x" + "f" * 5000 + "\nRECORDS = ()", 1, "whole number"),
        ("RECORDS = ((0x" + "f" * 5000 + ", 'grip', 'N', 0),)", 1, "whole number"),
        ("RECORDS = ((64, 'grip', 'N'),)", 1, "(id, name, unit, scale)"),
        ("RECORDS = ((64, 'grip', 'N', 0), (64, 'turn', 'N', 0))", 1, "id 64 is defined a second time"),
        ("RECORDS = ((64, 'grip', 'N', 0), (65, 'grip', 'N', 0))", 1, "grip is defined a second time"),
        ("RECORDS = ((64, 'heart_rate', 'beat/min', 0),)", 1, "Sealband's own"),
        ("RECORDS = ((64, 'record_70', '', 0),)", 1, "Sealband's own"),
        ("RECORDS = ((64, 'event', '', 0),)", 1, "Sealband's own"),
        ("EVENTS = ((64, 'fall'),)", 1, "Sealband's own"),
        ("EVENTS = ((2, 'help'),)", 1, "id 2"),
        ("RECORDS = ((GRIP, 'grip', 'N', 0),)\nGRIP = 64", 1, "whole number"),
        ("A = 64\nA = 65\nRECORDS = ()", 2, "second time"),
        ("RECORDS = ()\nRECORDS = ()", 2, "second time"),
        ("RECORDS = ((64, 'grip', 'N', 0)", 1, "never closed"),
        ("RECORDS = ((64, f'{1}', 'N', 0),)", 1, "text in quotes"),
        ("RECORDS = ((64 + 1, 'grip', 'N', 0),)", 1, "whole number"),
    ],
)
def test_anything_else_is_refused_with_its_line(text, line, said):
    with pytest.raises(DefinitionError, match=f"line {line}: ") as caught:
        definitions.read(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "A = 1", "RECORDS = " + "(" * 5000, "x\0", "#" * (definitions.SOURCE_MAX + 1), "-" * 60000 + "1"]
)
def test_what_defines_nothing_or_breaks_the_parser_is_refused(text):
    with pytest.raises(DefinitionError):
        definitions.read(text)


@given(st.text(max_size=80))
def test_no_text_raises_anything_but_the_error_of_the_reader(text):
    try:
        found = definitions.read(f"RECORDS = ((64, 'a', {text}, 0),)")
    except DefinitionError:
        return
    assert found.records[0].number == 64


def test_nothing_in_the_file_is_run(tmp_path: Path):
    trap = tmp_path / "trap"
    for text in (f"RECORDS = open({str(trap)!r}, 'w')", f"A = const(open({str(trap)!r}, 'w'))\nRECORDS = ()"):
        with pytest.raises(DefinitionError):
            definitions.read(text)
    assert not trap.exists()


def test_filters_know_names_of_both_tables():
    own = Vocabulary({64: Record(64, "grip_force", "N", -1)}, {64: Event(64, "handover")})
    assert own.filter_name("grip_force") == own.filter_name("64") == "grip_force"
    assert own.filter_name("handover") == own.filter_name("event/handover") == "event/handover"
    assert own.filter_name("heart_rate") == own.filter_name("1") == "heart_rate"
    assert own.filter_name("65") == "record_65"
    with pytest.raises(FilterError, match="pulse"):
        own.filter_name("pulse")
    assert [meaning(6, 1), meaning(13, 0), meaning(6, 9), meaning(1, 60)] == ["walking", "not worn", "9", ""]


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fleet = Fleet(tmp_path)
    key = tmp_path / "key"
    key.write_bytes(base64.b64encode(MASTER_KEY))
    key.chmod(stat.S_IRUSR)
    monkeypatch.setenv("SEALBAND_DATABASE", str(fleet.path))
    monkeypatch.setenv("SEALBAND_KEY_FILE", str(key))
    monkeypatch.setenv("SEALBAND_SESSION", str(log_in(fleet.vault, tmp_path, "fleet")))
    monkeypatch.setenv("COLUMNS", "120")
    yield fleet
    fleet.close()


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = cli.run(arguments)
    output = capsys.readouterr()
    return status, output.out, output.err


def test_own_names_are_shown_exported_and_filtered_by(fleet: Fleet, tmp_path: Path, capsys, monkeypatch):
    assert call(capsys, "readings", "define", define(OWN, tmp_path))[0] == 0
    wearable = fleet.add()
    sent = [message(0, T0, [64, 10, 123, 4], [6, 0, 2]), message(1, T0, 64, 7), message(1, T0 + 1, 99)]
    process(fleet.intake(), *(uplink(wearable.seal(one)) for one in sent))
    source = readings.Readings(store.Payloads(fleet.vault))
    found = [(one.record, str(one.value), one.unit, one.meaning) for one in source.in_order(readings.Filter())]
    assert sorted(found) == [
        ("activity", "2", "", "running"),
        ("event/99", "None", "", ""),
        ("event/handover", "7", "", ""),
        ("grip_force", "12.3", "N", ""),
        ("grip_force", "12.7", "N", ""),
    ]
    monkeypatch.setenv("SEALBAND_SESSION", str(log_in(fleet.vault, tmp_path, "care")))
    status, out, _ = call(capsys, "readings", "export", "--format", "senml", "--record", "grip_force")
    assert status == 0
    assert [(one["n"], one["u"], one["v"]) for one in json.loads(out)] == [
        ("grip_force", "N", 12.3),
        ("grip_force", "N", 12.7),
    ]
    assert "running" in call(capsys, "readings", "show")[1]
    assert [one["record"] for one in json.loads(call(capsys, "readings", "show", "--json", "--record", "handover")[1])]


def test_a_unit_that_senml_does_not_know_is_left_out(fleet: Fleet, tmp_path: Path, capsys, monkeypatch):
    call(capsys, "readings", "define", define(OWN, tmp_path))
    process(fleet.intake(), uplink(fleet.add().seal(message(0, T0, [65, 0, 90]))))
    monkeypatch.setenv("SEALBAND_SESSION", str(log_in(fleet.vault, tmp_path, "care")))
    (told,) = json.loads(call(capsys, "readings", "export", "--format", "senml")[1])
    assert "u" not in told and told["v"] == 90


def test_definitions_are_added_to_and_never_changed(fleet: Fleet, tmp_path: Path, capsys):
    status, out, _ = call(capsys, "readings", "define", define(OWN, tmp_path), "--json")
    assert (status, json.loads(out)["added"]) == (0, 4)
    event = AuditEvent.objects.latest("sequence")
    assert event.event == "meaning_defined"
    assert json.loads(event.details) == {"records": [64, 65, 70], "events": [64]}
    # again, and with one more; what is not mentioned stays
    assert json.loads(call(capsys, "readings", "define", define(OWN, tmp_path), "--json")[1])["added"] == 0
    more = "RECORDS = ((71, 'sway', 'm', -3),)"
    assert json.loads(call(capsys, "readings", "define", define(more, tmp_path), "--json")[1])["added"] == 1
    for changed, said in (
        ("RECORDS = ((72, 'fine', '', 0), (64, 'grip_force', 'N', -2))", "record 64 is grip_force (N, scale -1) since"),
        ("RECORDS = ((72, 'fine', '', 0), (64, 'pull', 'N', -1))", "not pull (N, scale -1)"),
        ("RECORDS = ((72, 'grip_force', 'N', -1),)", "grip_force is record 64 already, not 72"),
        ("EVENTS = ((64, 'given'),)", "event 64 is handover since"),
    ):
        status, out, err = call(capsys, "readings", "define", define(changed, tmp_path))
        assert (status, out) == (1, "")
        assert said in err
    assert set(readings.Readings(store.Payloads(fleet.vault)).vocabulary.records) == {64, 65, 70, 71}


def test_the_database_itself_keeps_an_id_from_a_second_meaning(fleet: Fleet):
    from django.db import IntegrityError

    from host_tools.ingest.models import Meaning

    Meaning.objects.create(kind="record", number=64, name="grip", defined_at_ms=0)
    with pytest.raises(IntegrityError):
        Meaning.objects.create(kind="record", number=64, name="pull", defined_at_ms=0)


def test_who_cares_for_wearers_names_no_records(fleet: Fleet, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setenv("SEALBAND_SESSION", str(log_in(fleet.vault, tmp_path, "care")))
    status, _, err = call(capsys, "readings", "define", define(OWN, tmp_path))
    assert status == 1
    assert "Traceback" not in err
    assert readings.Readings(store.Payloads(fleet.vault)).vocabulary.records == {}


def test_a_file_that_is_none_is_said_in_two_lines(fleet: Fleet, tmp_path: Path, capsys):
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for path in (str(tmp_path / "binary"), str(tmp_path / "missing"), str(tmp_path), define("x = open(1)", tmp_path)):
        status, out, err = call(capsys, "readings", "define", path)
        assert (status, out) == (1, "")
        assert err.count("\n") == 2 and "Traceback" not in err


def test_a_site_takes_over_the_records_beside_its_application(fleet: Fleet, tmp_path: Path):
    from host_tools.sim.clock import SimClock
    from host_tools.sim.site import Site

    define(OWN, tmp_path)
    site = Site(tmp_path / "site", SimClock(0.0, 1_790_000_000.0), app=tmp_path / "app.py")
    site.vault = fleet.vault
    site._define()
    assert readings.Readings(store.Payloads(fleet.vault)).vocabulary.record(64) == ("grip_force", "N", -1)
