"""What a journal tells: counts, times, failures by cause. Pure: entries in, figures and texts out.

Times between entries are whole seconds, as journals have them; how long a board took as a whole is measured to the
millisecond. A board that was begun again counts from its last beginning.
"""

import csv
import html
import io
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from provisioning.cells import safe_cell
from provisioning.station import journal as kinds
from provisioning.station.journal import Entry

# from which entry of a board to which, and what lies between
SPANS = (
    (kinds.RESERVED, kinds.ENROLLED, "enrol"),
    (kinds.ENROLLED, kinds.CERTIFIED, "certify"),
    (kinds.CERTIFIED, kinds.SEALED, "seal"),
    (kinds.SEALED, kinds.LABELLED, "label"),
    (kinds.LABELLED, kinds.DONE, "close"),
)
_BARS_MAX = 24
_STYLE = (
    "body{font:15px/1.4 system-ui,sans-serif;margin:2em;max-width:60em}table{border-collapse:collapse}"
    "td,th{border:1px solid #ccc;padding:.2em .6em;text-align:left}td{font-variant-numeric:tabular-nums}"
    "rect{fill:#2a6f97}.bad rect{fill:#b3402e}text{font:12px system-ui,sans-serif}"
)


@dataclass(frozen=True)
class Times:
    """How long something took, over all boards: seconds.

    Attributes:
        count: how many boards.
        median_s, max_s: over them.
    """

    count: int
    median_s: float
    max_s: float


@dataclass(frozen=True)
class Board:
    """One board with a ticket.

    Attributes:
        eui, ticket: hex.
        state: the kind of its last entry that is no failure: reserved, enrolled, certified, sealed, labelled or done.
        at: when that was, Unix seconds.
        ms: how long it took; 0 if it is not done.
        failures: how often it failed.
    """

    eui: str
    ticket: str
    state: str
    at: int
    ms: int
    failures: int


@dataclass(frozen=True)
class Report:
    """One journal.

    Attributes:
        journal: its random name, hex.
        entries: how many.
        head: the last entry's digest, hex: who has noted it can see later that nothing was cut off.
        begins, ends: Unix seconds of the first and last entry.
        begun: how often a board came to a lane.
        boards: those with a ticket, the first one first.
        failures: (step, reason) → how often.
        total: how long boards took that are done.
        steps: step → how long.
        per_hour: boards done in each hour: (Unix seconds of its beginning, how many), from first to last.
    """

    journal: str
    entries: int
    head: str
    begins: int
    ends: int
    begun: int
    boards: tuple[Board, ...]
    failures: dict[tuple[str, str], int]
    total: Times
    steps: dict[str, Times]
    per_hour: tuple[tuple[int, int], ...]

    @property
    def done(self) -> int:
        """How many boards are done."""
        return sum(board.state == kinds.DONE for board in self.boards)

    @property
    def open(self) -> int:
        """How many have a ticket and are not done: to be begun again."""
        return len(self.boards) - self.done

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "journal": self.journal,
            "entries": self.entries,
            "head": self.head,
            "begins": self.begins,
            "ends": self.ends,
            "begun": self.begun,
            "done": self.done,
            "open": self.open,
            "failed": sum(self.failures.values()),
            "failures": [
                {"step": step, "reason": reason, "count": count} for (step, reason), count in self.failures.items()
            ],
            "seconds": {name: vars(times) for name, times in {"total": self.total, **self.steps}.items()},
            "per_hour": [{"begins": at, "done": count} for at, count in self.per_hour],
            "boards": [vars(board) for board in self.boards],
        }


def make(entries: Sequence[Entry]) -> Report:
    """The report of a journal's entries, of which there is at least the first."""
    found: dict[str, dict[str, Entry]] = {}
    last: dict[str, Entry] = {}
    failed: Counter[str] = Counter()
    causes: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        eui = entry.body.get("eui", "")
        if entry.kind == kinds.FAILED:
            causes[entry.body.get("step", "") or "enrol", entry.body["reason"]] += 1
            failed[eui] += 1
        elif eui:
            found.setdefault(eui, {}).setdefault(entry.kind, entry)
            last[eui] = entry
    boards = tuple(
        Board(eui, last[eui].body["ticket"], last[eui].kind, last[eui].at, _ms_of(steps), failed[eui])
        for eui, steps in found.items()
    )
    done = [board for board in boards if board.state == kinds.DONE]
    return Report(
        journal=entries[0].body.get("journal", ""),
        entries=len(entries),
        head=entries[-1].digest.hex(),
        begins=entries[0].at,
        ends=entries[-1].at,
        begun=sum(entry.kind == kinds.BEGUN for entry in entries),
        boards=boards,
        failures=dict(sorted(causes.items(), key=lambda item: (-item[1], item[0]))),
        total=_times([board.ms / 1000 for board in done]),
        steps={
            name: _times(
                [steps[end].at - steps[start].at for steps in found.values() if start in steps and end in steps]
            )
            for start, end, name in SPANS
        },
        per_hour=_per_hour([board.at for board in done]),
    )


def to_csv(report: Report) -> str:
    """One board a line. A cell that a spreadsheet would take for a formula gets an apostrophe in front."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(("eui", "ticket", "state", "at", "ms", "failures"))
    for board in report.boards:
        row = (board.eui, board.ticket, board.state, _utc(board.at), board.ms, board.failures)
        writer.writerow([safe_cell(value) if isinstance(value, str) else value for value in row])
    return out.getvalue()


def to_html(report: Report) -> str:
    """One page with a chart, which loads nothing from anywhere."""
    facts = (
        ("Journal", report.journal),
        ("From", f"{_utc(report.begins)} UTC"),
        ("To", f"{_utc(report.ends)} UTC"),
        ("Boards done", report.done),
        ("To be begun again", report.open),
        ("Failures", sum(report.failures.values())),
        ("Seconds a board, median", f"{report.total.median_s:.1f}"),
        ("Entries, all linked", report.entries),
        ("Last entry", report.head),
    )
    hours = [(_utc(at)[5:13] + " h", count) for at, count in report.per_hour[-_BARS_MAX:]]
    causes = [(f"{step}: {reason}", count) for (step, reason), count in report.failures.items()][:_BARS_MAX]
    steps = [(name, f"{t.count}", f"{t.median_s:.0f}", f"{t.max_s:.0f}") for name, t in report.steps.items()]
    boards = [(b.eui, b.ticket, b.state, _utc(b.at), f"{b.ms / 1000:.1f}", b.failures) for b in report.boards]
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8"><title>Station report</title>',
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<style>{_STYLE}</style></head><body>",
            "<h1>Station report</h1>",
            _table((), facts),
            "<h2>Boards done in each hour</h2>",
            _bars(hours, "boards"),
            "<h2>Failures by cause</h2>",
            f'<div class="bad">{_bars(causes, "failures")}</div>',
            "<h2>Seconds a step</h2>",
            _table(("step", "boards", "median", "longest"), steps),
            "<h2>Boards</h2>",
            _table(("EUI", "ticket", "state", "since (UTC)", "seconds", "failures"), boards),
            "</body></html>",
            "",
        )
    )


def _bars(rows: Sequence[tuple[str, int]], unit: str) -> str:
    if not rows:
        return "<p>none</p>"
    most = max(count for _, count in rows)
    parts = [f'<svg viewBox="0 0 720 {22 * len(rows)}" width="720" height="{22 * len(rows)}" role="img">']
    for number, (name, count) in enumerate(rows):
        top = 22 * number
        parts.append(f"<title>{html.escape(unit)}</title>" if not number else "")
        parts.append(f'<text x="210" y="{top + 15}" text-anchor="end">{html.escape(name)}</text>')
        parts.append(f'<rect x="220" y="{top + 3}" width="{420 * count / most:.1f}" height="16"></rect>')
        parts.append(f'<text x="{226 + 420 * count / most:.1f}" y="{top + 15}">{count}</text>')
    return "".join((*parts, "</svg>"))


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    first = "<tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in head) + "</tr>" if head else ""
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>{first}{body}</table>"


def _ms_of(steps: dict[str, Entry]) -> int:
    text = steps[kinds.DONE].body["ms"] if kinds.DONE in steps else ""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 12 else 0


def _times(seconds: Sequence[float]) -> Times:
    return Times(len(seconds), median(seconds), max(seconds)) if seconds else Times(0, 0.0, 0.0)


def _per_hour(at: Sequence[int]) -> tuple[tuple[int, int], ...]:
    counts = Counter(second - second % 3600 for second in at)
    if not counts:
        return ()
    first, last = min(counts), max(counts)
    if (last - first) // 3600 >= 24 * 366:
        return tuple(sorted(counts.items()))  # a clock that was set wrong must not make a page of years
    return tuple((hour, counts[hour]) for hour in range(first, last + 1, 3600))


def _utc(at: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))
    except (OverflowError, OSError, ValueError):
        return str(at)
