"""Links under fire: LoRa and LTE, 30 % loss, outages, restarts and power cuts for an hour of virtual time. Not part of
`make bench`, since it takes a quarter of an hour, and mosquitto must be installed:

    python -m tests.bench.soak --boards 20 --minutes 60
"""

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.support.soak import Soak


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boards", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=60.0, help="virtual, with faults")
    parser.add_argument("--calm", type=float, default=12.0, help="virtual minutes after them")
    parser.add_argument("--speed", type=float, default=10.0, help="virtual seconds a real second")
    parser.add_argument("--loss", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="kept; default: a temporary one")
    words = vars(parser.parse_args())
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sealband-soak-") as scratch:
        folder = words.pop("folder") or Path(scratch)
        verdict = Soak(folder, tell=lambda line: print(line, file=sys.stderr, flush=True), **words).run()
    took_s = time.monotonic() - begun
    print(json.dumps({**words, **dataclasses.asdict(verdict), "real_minutes": round(took_s / 60, 1)}, indent=1))
    return 1 if verdict.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
