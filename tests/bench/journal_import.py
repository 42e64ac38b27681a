"""10,000 enrolment records imported from one journal, in a process of its own: time and memory, and every board once.

As a child process: `python -m tests.bench.journal_import FOLDER` imports FOLDER/journal into FOLDER/registry.db and
prints one line of JSON.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.figure import Figure

RECORDS = 10_000
DUPLICATES = 100  # of boards that stand in the journal already, each with a ticket of its own


def figures() -> list[Figure]:
    """Records of soft boards of which the last hundred were there before; imported twice."""
    return measure(RECORDS, DUPLICATES)


def measure(records: int, duplicates: int) -> list[Figure]:
    """The figures for so many records.

    Raises:
        RuntimeError: a board was admitted twice, or one was not.
    """
    with tempfile.TemporaryDirectory(prefix="sealband-bench-") as name:
        folder = Path(name)
        length = _prepare(folder, records, duplicates)
        first, second = (_child(folder) for _ in range(2))
    expected = {"admitted": records - duplicates, "repeated": 0, "refused": duplicates, "devices": records - duplicates}
    again = {**expected, "admitted": 0, "repeated": records - duplicates}
    for told, wanted in ((first, expected), (second, again)):
        if {key: told[key] for key in wanted} != wanted:
            raise RuntimeError(f"{told} in place of {wanted}")
    note = (
        f"{records} records, {length / 1e6:.1f} MB of journal, {duplicates} duplicates found; SQLite, one transaction"
    )
    return [
        Figure("import of a journal, time", first["took_s"], 120, unit="s", note=note),
        Figure("the same again, nothing changes", second["took_s"], unit="s", note="all repeated or refused as before"),
        Figure("import of a journal, memory", first["peak_mb"] - first["before_mb"], 400, unit="MB", note="on top"),
    ]


def _prepare(folder: Path, records: int, duplicates: int) -> int:
    """Tickets, and a journal as a station leaves it, but for the fsync after each line; its length in bytes."""
    from provisioning.station import journal
    from tests.support.registries import TemporaryRegistry
    from tests.support.soft_board import SoftBoard

    registry = TemporaryRegistry(folder)
    tickets = [ticket for _ in range(-(-records // 10_000)) for ticket in registry.issue(min(records, 10_000)).tickets]
    lines, head = [], journal.GENESIS

    def add(kind: str, **body: str) -> None:
        nonlocal head
        number, at = len(lines) + 1, 1_790_000_000
        entry = journal.Entry(number, at, kind, body, journal._digest(head, number, at, kind, body))
        head = entry.digest
        lines.append(entry.to_bytes())

    add(journal.OPENED, format=journal.FORMAT, journal="00" * 16)
    boards: list[SoftBoard] = []
    for number, ticket in enumerate(tickets[:records]):
        board = SoftBoard(boards[number % duplicates].eui if number >= records - duplicates else None)
        boards.append(board)
        names = {"ticket": ticket.ticket_id.hex(), "eui": board.eui.hex()}
        add(journal.RESERVED, **names, station_nonce="00" * 16)
        add(journal.ENROLLED, **names, record=board.enrol(ticket, bytes(16), 0).hex())
    data = b"".join(lines)
    (folder / "journal").write_bytes(data)
    return len(data)


def _child(folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.journal_import", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told: dict[str, float] = json.loads(done.stdout)
    return told


def _import(folder: Path) -> None:
    from provisioning import registry
    from provisioning.registry.vault import Vault

    registry.setup(folder / "registry.db", extra_apps=("host_tools.ingest", "host_tools.rollout"))
    from provisioning.registry import services
    from provisioning.registry.models import Device
    from tests.support.registries import MASTER_KEY

    before_mb = _peak_mb()
    began = time.perf_counter()
    result = services.import_journal(folder / "journal", Vault(MASTER_KEY))
    took_s = time.perf_counter() - began
    told = {
        "admitted": len(result.admitted),
        "repeated": result.repeated,
        "refused": len(result.refused),
        "devices": Device.objects.values("eui").distinct().count(),
        "took_s": took_s,
        "before_mb": before_mb,
        "peak_mb": _peak_mb(),
    }
    print(json.dumps(told))


def _peak_mb() -> float:
    """The most memory that this process ever had; getrusage would tell what its parent had too."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


if __name__ == "__main__":
    _import(Path(sys.argv[1]))
