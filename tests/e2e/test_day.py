"""A short day of two wearers on virtual boards, everything in it: what they did is what is in the store."""

import json
import os
from pathlib import Path

import pytest

from host_tools.sim import day_pictures
from host_tools.sim.day import Day, Seen
from host_tools.sim.day_plan import SHORT_HOURS, plan
from host_tools.sim.day_truth import Row, compare, summary
from host_tools.sim.site import Site
from tests.support.boards import has_raw_repl

pytestmark = pytest.mark.skipif(not has_raw_repl(), reason="MicroPython's unix port has a raw REPL from 1.27 on")

# a computer that cannot keep up is no defect: then the day is played again, slower
SPEEDS = (45.0, 20.0)


def test_what_two_wearers_do_is_what_is_stored(tmp_path: Path) -> None:
    pictures: list[Path] = []
    rows: list[Row] = []
    missed: list[str] = []
    for speed in SPEEDS:
        folder = tmp_path / f"{speed:g}"
        pictures.clear()

        def draw(seen: Seen, site: Site, folder: Path = folder) -> None:
            pictures.extend(day_pictures.draw(seen, site, folder, ("svg",)))

        seen = Day(folder, plan(SHORT_HOURS), speed=speed, seed=4, after=draw).run()
        rows = compare(seen)
        missed = [
            f"{row.wearer} {row.what}: {row.value} (limit {row.limit}) {row.note}" for row in rows if not row.good
        ]
        if file := os.environ.get("SEALBAND_DAY_ROWS"):
            Path(file).write_text(json.dumps({**summary(seen), "rows": [row.to_json() for row in rows]}, indent=1))
        if not missed or not seen.stalls:
            break
    assert missed == []
    # that every comparison had something to compare
    whats = {row.what.partition(",")[0] for row in rows}
    assert whats >= {"heart rate", "SpO2", "steps", "fall", "SOS", "wear state", "taken off", "positions told"}
    assert whats >= {"withdrawn consent", "frames heard without coverage", "longest gap without coverage"}
    assert [path.name for path in pictures] == ["ada.svg", "ben.svg", "day.svg"]
