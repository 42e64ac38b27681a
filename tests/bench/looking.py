"""Plots of readings: a day of two wearers, a month of them beside `export`, and how much memory that takes.

As a child process: `python -m tests.bench.looking export|plot FOLDER` does that with the registry there and prints the
seconds that it took, the most memory that it had in MB, and the bytes that came of it.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.figure import Figure

WEARERS = 2
MONTH = 30
PATIENCE_S = 300
DAY_LIMIT_S = 5.0
MONTH_LIMIT = 1.0  # ÷ export
MEMORY_LIMIT = 2.0  # ÷ a day


def figures() -> list[Figure]:
    """Each in a process of its own, by processor time: these have nothing to wait for."""
    with tempfile.TemporaryDirectory(prefix="sealband-bench-") as name:
        day, month = Path(name, "day"), Path(name, "month")
        count = {folder: _fill(folder, days) for folder, days in ((day, 1), (month, MONTH))}
        drawn_s, day_mb, day_size = _run("plot", day)
        exported_s, _, _ = _run("export", month)
        plotted_s, month_mb, month_size = _run("plot", month)
    rate = count[month] / plotted_s
    return [
        Figure(
            "plot of a day of two wearers, to SVG",
            drawn_s,
            DAY_LIMIT_S,
            unit="s",
            note=f"{count[day]} samples; {day_size // 1000} kB; processor time, without starting Python",
        ),
        Figure(
            "plot ÷ export, a month of two wearers",
            plotted_s / exported_s,
            MONTH_LIMIT,
            note=f"{count[month]} samples; {rate:.0f}/s, export as CSV {count[month] / exported_s:.0f}/s; "
            f"{month_size // 1000} kB",
        ),
        Figure(
            "memory, plot of a month ÷ of a day",
            month_mb / day_mb,
            MEMORY_LIMIT,
            note=f"most at once: {month_mb:.0f} MB, {day_mb:.0f} MB, of the whole process",
        ),
    ]


def _fill(folder: Path, days: int) -> int:
    from tests.support import worn_day
    from tests.support.fleet import Fleet

    folder.mkdir()
    fleet = Fleet(folder)
    count = sum(worn_day.put(fleet, fleet.add(), days, seed=number) for number in range(WEARERS))
    fleet.close()
    return count


def _run(what: str, folder: Path) -> tuple[float, float, int]:
    """(seconds, MB, bytes that were written)."""
    command = [sys.executable, "-m", "tests.bench.looking", what, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    took_s, most_mb, size = json.loads(done.stdout)
    return took_s, most_mb, size


def _measure(what: str, folder: Path) -> tuple[float, float, int]:
    from provisioning import registry

    registry.setup(folder / "registry.db", extra_apps=("host_tools.ingest", "host_tools.rollout"))
    from host_tools.ingest import export
    from host_tools.ingest.readings import Filter, Readings
    from host_tools.ingest.store import Payloads
    from host_tools.plot import picture, scene, sheet
    from provisioning.registry.vault import Vault
    from sealwire.messages import EVENT, STATUS, TELEMETRY
    from tests.support.registries import MASTER_KEY

    source = Readings(Payloads(Vault(MASTER_KEY)))
    wanted, types = Filter(), (TELEMETRY, EVENT, STATUS)
    begun = time.process_time()
    if what == "export":
        size = sum(len(piece) for piece in export.to_csv(source.in_order(wanted)))
    else:
        span = scene.span_of(wanted, source.extent(wanted, types))
        assert span is not None
        scenes = list(scene.scenes(source.opened(wanted, types), wanted, span, source.vocabulary))
        size = len(picture.render(sheet.draw(scenes, span, source.vocabulary), "svg"))
    took_s = time.process_time() - begun
    return took_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000, size


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], Path(sys.argv[2]))))
