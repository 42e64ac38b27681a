"""A registry in a temporary folder, with tickets and stations: for host tests."""

import shutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import cbor2

from provisioning import registry, signers
from provisioning.registry.vault import Vault
from provisioning.station import bench
from provisioning.station.journal import ENROLLED, Journal
from provisioning.tickets import TicketFile
from tests.support.soft_board import SoftBoard

MASTER_KEY = bytes(range(32))
MODEL = "virtual-wearable"
APPS = ("host_tools.ingest", "host_tools.rollout")  # as the commands do


@cache
def _template() -> TemporaryDirectory[str]:
    """A new registry to copy: migrations are most of what making one costs."""
    folder = TemporaryDirectory(prefix="sealband-template-")
    registry.setup(Path(folder.name, "registry.db"), extra_apps=APPS)
    from django.db import connections

    from provisioning.registry import services

    services.init_registry(Vault(MASTER_KEY))
    connections.close_all()
    return folder


class TemporaryRegistry:
    """An initialised registry on SQLite; the connection of this process is switched to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "registry.db"
        self.vault = Vault(MASTER_KEY)
        for file in Path(_template().name).iterdir():
            shutil.copy(file, folder / file.name)
        registry.setup(self.database, extra_apps=APPS)
        from provisioning.registry import services

        self.services = services
        self.signer = signers.create_file_key(folder / "batches.pem")

    def issue(self, count: int, model: str = MODEL) -> TicketFile:
        return self.services.issue_batch(self.vault, self.signer, model, count)

    def station(self, name: str, file: TicketFile, boards: Iterable[bench.Board]) -> Path:
        """Enrol the boards at a station of that name; returns its journal's path."""
        path = self.folder / f"{name}.journal"
        with Journal.open(path) as journal:
            for board in boards:
                bench.enrol(board, file, journal)
        return path

    def take(self, path: Path):
        return self.services.import_journal(path, self.vault)

    def dump(self) -> bytes:
        """Every byte that the database has on disk."""
        return b"".join(path.read_bytes() for path in sorted(self.folder.glob("registry.db*")))


def add_record(path: Path, board: SoftBoard, record: bytes) -> None:
    """What a dishonest station can do: write any record into its journal."""
    with Journal.open(path) as journal:
        parts = cbor2.loads(cbor2.loads(record).value[2])
        journal.append(ENROLLED, eui=board.eui.hex(), ticket=parts[1].hex(), record=record.hex())
