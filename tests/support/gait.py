"""Recorded movement for tests, and what others make of it. Origins and licences: tests/recordings/README.md."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from host_tools.sim.movement import Vector

RATE_HZ: Final = 50.0
WALK = Path(__file__).parents[1] / "recordings" / "walk.csv"
# gaitpy 1.6.1, demo_gait_features.csv: bouts of walking (from, to; seconds of the recording) and the steps in them
BOUTS: Final = ((30.5, 54.5, 31), (63.5, 93.5, 44), (123.5, 153.5, 46))


def walk() -> list[Vector]:
    """The recording at the lower back, g, 50 a second."""
    lines = WALK.read_text(encoding="utf-8").splitlines()[1:]
    return [(int(x) / 1000, int(y) / 1000, int(z) / 1000) for x, y, z in (line.split(";") for line in lines)]


def exercises() -> Iterator[tuple[str, list[Vector]]]:
    """The wrist recordings of seglearn: the exercise's name and its samples, g, 50 a second."""
    import numpy

    # its file alone: what else the package needs is not needed here
    spec = importlib.util.find_spec("seglearn")
    assert spec and spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]) / "data" / "watch_dataset.npy"
    data = numpy.load(path, allow_pickle=True).item()
    for samples, kind in zip(data["X"], data["y"], strict=True):
        yield data["y_labels"][int(kind)], [(float(s[0]), float(s[1]), float(s[2])) for s in samples]
