"""Sealwire's integers in the code of a board: what is put in, what stays, and that the code does the same."""

import ast
import os
import subprocess
from pathlib import Path

import pytest

import boards
from host_tools.release.bundle import compile_tree
from host_tools.release.numbers import numbers, put_in
from host_tools.sim.interpreter import find_micropython
from tests.support.collector import RUNNER
from tests.support.micropython import ROOT

KNOWN = {"messages": {"EVENT": 1, "LOW": -5}, "recordids": {"SPO2": 2, "STEPS": 5}}
DEVICE = ROOT / "device"


@pytest.mark.parametrize(
    ("source", "made"),
    [
        ("from sealwire import messages\nx = messages.EVENT\n", "pass\nx = 1\n"),
        ("from sealwire import messages as m\nx = 3 - m.LOW\n", "pass\nx = 3 - (-5)\n"),
        ("from sealwire import messages, frame\nx = messages.EVENT\n", "from sealwire import frame\nx = 1\n"),
        ("from sealwire import messages\nx = messages.EVENT + len(messages.NAMES)\n", None),
        ("from sealwire.recordids import SPO2, STEPS, lookup\nlookup(SPO2, STEPS)\n", None),
        (
            "def f():\n    from sealwire.recordids import SPO2\n    return (SPO2,)\n",
            "def f():\n    pass\n    return (2,)\n",
        ),
        ("from sealwire.recordids import (\n    SPO2,\n    STEPS,\n)\nx = SPO2 + STEPS\n", "pass\n\n\n\nx = 2 + 5\n"),
        ("from sealwire.recordids import SPO2\nx = SPO2.to_bytes(2, 'big')\n", "pass\nx = (2).to_bytes(2, 'big')\n"),
        ("from sealwire import messages\nx = messages.LOW.to_bytes\n", "pass\nx = (-5).to_bytes\n"),
        ("x = 'é'; from sealwire.recordids import SPO2; y = 'é', SPO2\n", "x = 'é'; pass; y = 'é', 2\n"),
    ],
)
def test_integers_of_sealwire_are_put_in_on_their_lines(source: str, made: str | None) -> None:
    result = put_in(source, KNOWN)
    if made is not None:
        assert result == made
    ast.parse(result)
    assert result.count("\n") == source.count("\n")
    assert "messages.EVENT" not in result and "SPO2" not in result


@pytest.mark.parametrize(
    "source",
    [
        "from sealwire.recordids import SPO2\ndef f(SPO2):\n    return SPO2\n",
        "from sealwire.recordids import SPO2\nSPO2 += 1\n",
        "from sealwire.recordids import SPO2\nfor SPO2 in (): pass\n",
        "from sealwire.recordids import SPO2\n__all__ = ('SPO2',)\n",
        "from sealwire import messages\nfor messages in (): print(messages.EVENT)\n",
        "from sealwire import messages\nimport messages\nprint(messages.EVENT)\n",
        "from sealwire import messages\nmessages.EVENT = 3\n",
        "if 1:\n    from sealwire.recordids import SPO2 as a\nelse:\n    from sealwire.messages import LOW as a\n",
        "from sealwire.recordids import *\nx = SPO2\n",
        "from .messages import EVENT\nx = EVENT\n",
        "from other.messages import EVENT\nx = EVENT\n",
        "class sealwire: pass\nx = sealwire.messages.EVENT\n",
        "this is no Python\n",
    ],
)
def test_a_name_that_means_something_else_anywhere_is_left_alone(source: str) -> None:
    assert put_in(source, KNOWN) == source


def test_what_is_imported_for_others_or_whole_stays_imported() -> None:
    source = "from sealwire import messages\nx = messages.EVENT, getattr(messages, name)\n"
    assert put_in(source, KNOWN) == "from sealwire import messages\nx = 1, getattr(messages, name)\n"


def test_a_number_that_is_assigned_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lib" / "sealwire").mkdir(parents=True)
    (tmp_path / "lib" / "sealwire" / "x.py").write_text("A = 1\nA = 2\n")
    with pytest.raises(ValueError, match="assigned twice"):
        numbers(tmp_path)


def test_device_code_with_its_numbers_put_in_does_the_same(tmp_path: Path) -> None:
    # the device's own tests, which ask modules for the names that they hold, over code that holds the numbers
    known = numbers(DEVICE)
    changed = 0
    for path in sorted(DEVICE.rglob("*.py")):
        made = tmp_path / path.relative_to(DEVICE)
        made.parent.mkdir(parents=True, exist_ok=True)
        source = path.read_text()
        made.write_text(put_in(source, known))
        changed += made.read_text() != source
    assert changed > 30
    where = [tmp_path, tmp_path / "lib", ROOT / "tests" / "device", ROOT / "tests", ROOT / "host_tools/sim/micropython"]
    environment = {**os.environ, "MICROPYPATH": ":".join(map(str, where)) + ":.frozen"}
    for name in ("consent", "batch", "seal", "sampler", "outbox", "retire"):
        file = ROOT / "tests" / "device" / f"test_{name}.py"
        tests = [node.name for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)]
        tests = [test for test in tests if test.startswith("test_")]
        command = [find_micropython(), str(RUNNER), str(file), *tests]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        failed = [line for line in done.stdout.splitlines() if line.startswith("@@ fail")]
        assert done.stdout.count("@@ ok") == len(tests) and not failed, (name, done.stdout[-2000:], done.stderr)


def test_an_application_s_module_still_has_the_names_that_others_take_from_it(tmp_path: Path) -> None:
    (tmp_path / "ids.py").write_text("from sealwire.recordids import HEART_RATE, SPO2, STEPS\nx = SPO2\n")
    (tmp_path / "app.py").write_text("import ids\nfrom ids import STEPS\nprint(ids.HEART_RATE, STEPS, ids.x)\n")
    out = tmp_path / "out"
    compile_tree(DEVICE, out, boards.load("VIRTUAL"), app=tmp_path / "app.py")
    path = {"MICROPYPATH": f"{out}:{out}/lib:.frozen"}
    run = [find_micropython(), "-c", "import app, ids; print(hasattr(ids, 'SPO2'))"]
    assert subprocess.run(run, env=path, capture_output=True, text=True, timeout=30).stdout == "1 5 2\nFalse\n"
