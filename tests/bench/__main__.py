"""`make bench`: every figure in one table; exit status 1 when one misses its limit. `--json` for machines."""

import dataclasses
import importlib
import json
import sys

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.bench.figure import Figure

BENCHES = (
    "overhead",
    "crypto",
    "airbytes",
    "energy",
    "ack_rate",
    "heap",
    "agreement",
    "motion",
    "ingest",
    "looking",
    "journal_import",
    "update_verify",
    "update_install",
    "update_patch",
)


def measure(names: tuple[str, ...] = BENCHES) -> list[Figure]:
    """Run the benchmarks of these modules one after the other (side by side they would disturb each other)."""
    figures: list[Figure] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        for name in names:
            progress.add_task(name)
            figures += importlib.import_module(f"tests.bench.{name}").figures()
    return figures


def main() -> int:
    wanted = tuple(argument for argument in sys.argv[1:] if not argument.startswith("-")) or BENCHES
    figures = measure(wanted)
    if "--json" in sys.argv:
        print(json.dumps([{**dataclasses.asdict(figure), "kept": figure.kept} for figure in figures], indent=1))
    else:
        table = Table(title="Measured figures")
        for heading in ("figure", "measured", "limit", "", "how"):
            table.add_column(heading, justify="right" if heading in ("measured", "limit") else "left")
        for figure in figures:
            bound = "-" if figure.limit is None else f"{'≥' if figure.at_least else '≤'} {figure.limit:g}"
            value = f"{figure.value:.4g}" if figure.value < 10000 else f"{figure.value:.0f}"
            table.add_row(
                figure.name, f"{value} {figure.unit}".strip(), bound, "kept" if figure.kept else "MISSED", figure.note
            )
        Console(width=None if sys.stdout.isatty() else 150).print(table)
    return 0 if all(figure.kept for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
