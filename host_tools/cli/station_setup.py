"""What `sealband station run` is told, kept beside its journal so that `station resume` needs no words: no secret is
in it. Makes of it what provisioning.station works with."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boards
from host_tools.cli import CommandFailed
from host_tools.release import files
from provisioning import signers
from provisioning.station import firmware, image, ports
from provisioning.station.firmware import Cache
from provisioning.station.flash import BAUD
from provisioning.station.journal import Content
from provisioning.station.ledger import read_known
from provisioning.station.steps import LABEL_FORMATS, Setup
from provisioning.tickets import FILE_MAX, TicketFile, check_public_key

FILE_SYSTEM = "vfs"
SETTINGS_MAX = 64 << 10


@dataclass(frozen=True)
class Settings:
    """The words of a run, as they were given."""

    tickets: str
    tree: str
    ports: tuple[str, ...] = ()
    port_filter: str = ""
    all_ports: bool = False
    registry_key: str = ""
    board: str = ""
    firmware: str = "firmware"
    keep_firmware: bool = False
    labels: str = "labels"
    label_formats: tuple[str, ...] = ("png", "zpl")
    issuing_key: str = ""
    known: tuple[str, ...] = ()
    leave_open: bool = False
    baud: int = BAUD

    def save(self, journal: Path) -> None:
        """Keep them beside the journal."""
        files.replace(_beside(journal), (json.dumps(dataclasses.asdict(self), indent=1) + "\n").encode())

    @classmethod
    def load(cls, journal: Path) -> "Settings":
        """Those that the journal's last run had.

        Raises:
            CommandFailed: there are none, or they are not what was written.
        """
        path = _beside(journal)
        try:
            row: Any = json.loads(files.read(path, SETTINGS_MAX))
            words: Any = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
            return cls(**words)
        except FileNotFoundError:
            raise CommandFailed(f"{path} is not there", "begin with: sealband station run") from None
        except (ValueError, TypeError, AttributeError):
            raise CommandFailed(f"{path} was changed", "give the words again: sealband station run") from None


def _beside(journal: Path) -> Path:
    return journal.with_name(f"{journal.name}.run")


def read_tickets(path: Path, trusted: bytes | None) -> TicketFile:
    """The registry's ticket file, checked."""
    with open(path, "rb") as file:
        return TicketFile.from_bytes(file.read(FILE_MAX + 1), trusted)


def lanes(settings: Settings) -> list[str]:
    """The ports to work on."""
    return ports.choose(settings.ports, settings.port_filter, every=settings.all_ports)


def known(settings: Settings) -> dict[str, Content]:
    """Further journals by their names."""
    return {path: read_known(Path(path)) for path in settings.known}


def setup(settings: Settings) -> Setup:
    """Everything that the steps need, read and checked before the first board is touched."""
    trusted = check_public_key(bytes.fromhex(settings.registry_key)) if settings.registry_key else None
    file = read_tickets(Path(settings.tickets), trusted)
    board = _board(settings.board, file.model)
    tree = Path(settings.tree)
    if not (tree / "manifest").is_file() or not (tree / "slots" / "0").is_file():
        raise CommandFailed(f"{tree} is not what a station puts onto boards", "make it: sealband release tree")
    layout = {row.name: row for row in board.flash_layout()}
    files = image.filesystem(tree, layout[FILE_SYSTEM])
    parts = {layout[FILE_SYSTEM].offset: files}
    if not settings.keep_firmware:
        data = Cache(Path(settings.firmware)).read(board)
        assert board.firmware_image is not None
        parts = firmware.parts(data, board.firmware_image.offset, board.flash_layout(), files)
    return Setup(
        tickets=file,
        chip=board.chip,
        flash_size=board.flash_size,
        radio=board.radio is not None,
        parts=parts,
        labels=Path(settings.labels),
        formats=_formats(settings.label_formats),
        issuer=_issuer(settings.issuing_key, file),
        close=not settings.leave_open,
        baud=settings.baud,
    )


def _board(name: str, model: str) -> boards.Board:
    if name:
        board = boards.load(name)
        if board.model != model:
            raise CommandFailed(
                f"{name} is a {board.model}; the tickets are for {model}", "name the board of the batch"
            )
        return board
    found = [board for board in map(boards.load, boards.names()) if board.model == model]
    if len(found) != 1:
        raise CommandFailed(
            f"{len(found)} board definitions are a {model}", f"name one: --board {' or '.join(b.name for b in found)}"
        )
    return found[0]


def _formats(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in LABEL_FORMATS if name in names)


def _issuer(uri: str, file: TicketFile) -> signers.Signer | None:
    if not uri:
        if file.issuer:
            raise CommandFailed(
                f"batch {file.batch} has an issuing certificate, and its key is not named", "name it: --issuing-key URI"
            )
        return None
    if not file.issuer:
        raise CommandFailed(
            f"batch {file.batch} has no issuing certificate", "leave --issuing-key out, or have a batch issued with one"
        )
    return signers.open_signer(uri)
