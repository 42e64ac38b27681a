"""A station under fire: virtual boards in lanes, unplugged, badly flashed, of the wrong model and copied, while the
station is killed with SIGKILL again and again. Not part of `make bench`, since it takes half an hour:

    python -m tests.bench.station_run --boards 200 --lanes 8 --kills 50
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tests.support import station_fleet as fleet


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boards", type=int, default=200)
    parser.add_argument("--lanes", type=int, default=8)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds")
    parser.add_argument("--folder", type=Path, help="kept; default: a temporary one")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sealband-floor-") as scratch:
        folder = words.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        share = max(1, words.boards // 10)
        faults = {fleet.UNPLUGGED: 2 * share, fleet.BAD_FLASH: share, fleet.WRONG_MODEL: share, fleet.COPY: share}
        fleet.make_tree(folder)
        office = fleet.open_office(folder, words.boards)
        floor = fleet.Floor(folder, words.boards, words.lanes, words.seed, faults, office.words)
        took_s = floor.run(words.kills, words.limit)
        begun = time.monotonic()
        verdict = fleet.judge(folder, office, words.boards)
        import_s = time.monotonic() - begun
    wrong = floor.trouble + verdict.wrong
    if floor.station.kills < words.kills:
        wrong.append(f"{floor.station.kills} kills of {words.kills}")
    print(
        json.dumps(
            {
                "boards": words.boards,
                "lanes": words.lanes,
                "kills": floor.station.kills,
                "killed_at": dict(floor.killed_at),
                "done": len(floor.done),
                "results": dict(floor.results),
                "failures": dict(floor.failures),
                "minutes": round(took_s / 60, 1),
                "seconds_a_board": {
                    "median": round(median(floor.seconds or [0]), 1),
                    "longest": round(max(floor.seconds, default=0), 1),
                },
                "import_seconds": round(import_s, 1),
                **{name: value for name, value in vars(verdict).items() if name != "wrong"},
                "wrong": wrong,
            },
            indent=1,
        )
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
