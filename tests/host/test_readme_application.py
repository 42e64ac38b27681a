"""The application that device/README.md shows, as it stands there, on the simulated chip."""

import textwrap
from pathlib import Path

import pytest

from host_tools.ingest import decode
from tests.support.micropython import ROOT
from tests.support.whole_cycle import BEGIN_S, Cycle, run

GRIP, WEAK, SKIN_TEMPERATURE, STEPS = 64, 64, 3, 5


def _blocks() -> list[str]:
    """The indented blocks of the section."""
    section = (ROOT / "device" / "README.md").read_text().split("## Writing an application\n")[1].split("\n## ")[0]
    blocks: list[list[str]] = [[]]
    for line in section.splitlines():
        if line.startswith("    ") or (not line and blocks[-1]):
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return [textwrap.dedent("\n".join(block)).strip() + "\n" for block in blocks if block]


@pytest.fixture(scope="module")
def cycle(tmp_path_factory: pytest.TempPathFactory) -> Cycle:
    folder = tmp_path_factory.mktemp("application")
    records, application = _blocks()
    (folder / "records.py").write_text(records)
    app: Path = folder / "app.py"
    app.write_text(application)
    return run("90wK", 660, app=app)


def test_application_of_the_readme_measures_its_own_record_in_bursts(cycle: Cycle) -> None:
    grips = [(t, value) for t, record, value in cycle.samples() if record == GRIP]
    assert [t for t, _ in grips] == [BEGIN_S + 120 * i + k for i in range(1, 5) for k in range(3)]
    assert {value for _, value in grips} == {1950}  # what the simulated pin has


def test_application_of_the_readme_tells_its_own_event(cycle: Cycle) -> None:
    events = [one for one in cycle.stored.values() if isinstance(one, decode.Event)]
    assert events and {one.event for one in events} == {WEAK}


def test_application_of_the_readme_measures_the_boards_parts(cycle: Cycle) -> None:
    records = {record for _, record, _ in cycle.samples()}
    assert {SKIN_TEMPERATURE, STEPS} <= records
