"""How commands show results: a table for people, JSON for machines. Decides nothing about what is shown.

Results go to standard output, progress and remarks to standard error. `NO_COLOR` is respected by rich itself.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import rich_click as click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from provisioning import wholefile

_Command = TypeVar("_Command", bound=Callable[..., Any])


def json_option(command: _Command) -> _Command:
    """Adds `--json`, which arrives as the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")(command)


def print_json(value: object) -> None:
    """One JSON document on standard output; bytes as hex, anything else that JSON lacks as its text."""
    print(json.dumps(value, default=_plain, indent=2, ensure_ascii=False))


def print_json_line(value: object) -> None:
    """One JSON value on one line, at once: for commands that report as things happen."""
    print(json.dumps(value, default=_plain, ensure_ascii=False), flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """A table on standard output; cells are shown as text and never read as rich's markup."""
    table = Table(title=title)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(_text(cell) for cell in row))
    Console().print(table, markup=False)


def remark(text: str) -> None:
    """One line for people on standard error; what would move their cursor is taken out."""
    Console(stderr=True).print(shown(text), markup=False, highlight=False, soft_wrap=True)


def shown(text: str, keep: str = "\n\t") -> str:
    """Text without control characters, by which a stranger's would move the cursor of whoever looks at it."""
    return "".join(c if c.isprintable() or c in keep else "\ufffd" for c in text)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, while there is somebody to see it; gives what is told (done, of how many)."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def write_private(path: Path, pieces: Iterable[str]) -> None:
    """Put text where `--output` says, whole or not at all; readable by its owner only.

    Raises:
        OSError: the disk refuses.
    """
    wholefile.replace(path, (piece.encode() for piece in pieces))


def _plain(value: object) -> object:
    return value.hex() if isinstance(value, bytes | bytearray | memoryview) else str(value)


def _text(cell: object) -> Text:
    text = str(_plain(cell)) if cell is not None else ""
    return Text(shown(text, keep=""))
