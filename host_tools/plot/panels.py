"""The panels of a device, each drawn into axes that it is given: events, bands, curves, quality, delay."""

import textwrap
from collections.abc import Sequence
from datetime import tzinfo
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from host_tools.ingest.export import duration
from host_tools.plot import style
from host_tools.plot.scene import Happened
from host_tools.plot.tracks import Curve, Floats, Span

DAY_S = 86400.0
LABEL_ROWS = 3
LABEL_CHARACTERS = 190  # of an event's label, in the width of a panel
DELAYS = ((1, "1 s"), (60, "1 min"), (3600, "1 h"), (86400, "1 d"), (604800, "7 d"))
LABEL_LEN = 17  # characters beside a panel
MARKED_MAX = 60  # samples or events that are few enough to be seen one by one


def days(unix_s: float) -> float:
    """A time as matplotlib counts it."""
    return unix_s / DAY_S


def time_axis(axes: Axes, span: Span, zone: tzinfo, *, labelled: bool) -> None:
    """One axis of time for all panels."""
    axes.set_xlim(days(span.since), days(span.until))
    locator = AutoDateLocator(tz=zone, minticks=4, maxticks=13)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=zone, show_offset=False))
    axes.tick_params(axis="x", labelbottom=labelled, length=3 if labelled else 0)
    axes.grid(axis="x", color=style.PALE, linewidth=0.5)
    axes.set_axisbelow(True)


def name(axes: Axes, text: str, unit: str = "") -> None:
    """What a panel shows, beside it."""
    lines = [*textwrap.wrap(style.shown(text), LABEL_LEN), style.shown(unit)]
    axes.set_ylabel("\n".join(lines).rstrip(), rotation=0, ha="right", va="center", labelpad=6)


def away(axes: Axes, spans: Sequence[tuple[float, float]]) -> None:
    """Shade the times without contact."""
    for begun, ended in spans:
        axes.axvspan(days(begun), days(ended), facecolor=style.FAINT, edgecolor=style.PALE, hatch="///", lw=0, zorder=0)


def marks(axes: Axes, events: Sequence[Happened], looks: dict[str, tuple[str, str]]) -> None:
    """A thin line for each event through a panel; of very many none, for they would hide the curve."""
    if len(events) <= MARKED_MAX:
        colours = [looks[one.name][1] for one in events]
        x = [days(one.unix_s) for one in events]
        through = axes.get_xaxis_transform()
        axes.vlines(x, 0, 1, transform=through, colors=colours, linewidth=0.7, linestyle=(0, (3, 2)), zorder=1)


def event_lane(axes: Axes, span: Span, events: Sequence[Happened], looks: dict[str, tuple[str, str]]) -> None:
    """Markers with names, in rows so that none lies on another; a name that has no room is left to the key."""
    axes.set_ylim(-LABEL_ROWS, 0.9)
    axes.yaxis.set_major_locator(NullLocator())
    axes.spines[["left", "bottom"]].set_visible(False)
    character = (span.until - span.since) / LABEL_CHARACTERS
    ends = [span.since - 1.0] * LABEL_ROWS
    for kind, (marker, colour) in sorted(looks.items()):
        x = [days(one.unix_s) for one in events if one.name == kind]
        axes.plot(x, [0.3] * len(x), marker=marker, color=colour, markersize=6, linestyle="", clip_on=False, zorder=3)
    for one in events:
        text = style.shown(one.name.replace("_", " "))
        width = (len(text) + 1) * character
        leftwards = one.unix_s + width > span.until
        begun = one.unix_s - (width if leftwards else -character / 2)
        for row in range(LABEL_ROWS):
            if ends[row] < begun:
                ends[row] = begun + width
                where = days(one.unix_s) - (1 if leftwards else -1) * days(character / 2)
                side = "right" if leftwards else "left"
                axes.text(where, -0.75 - row, text, ha=side, va="center", fontsize=7, color="#222222", zorder=3)
                break
    name(axes, "events")


def band_lane(
    axes: Axes,
    rows: Sequence[tuple[str, Sequence[tuple[float, float, int]], dict[int, tuple[str, str]]]],
    contact: Floats,
    span: Span,
    offline: Sequence[tuple[float, float]],
) -> None:
    """States as bands, one row a record; below them when frames arrived."""
    names = [row[0] for row in rows]
    for number, (_, runs, looks) in enumerate(rows):
        by_state: dict[int, list[tuple[float, float]]] = {}
        for begun, ended, state in runs:
            by_state.setdefault(state, []).append((days(begun), days(ended - begun)))
        for state, pieces in sorted(by_state.items()):
            colour, hatch = looks.get(state, style.OTHER_LOOK)
            axes.broken_barh(
                pieces, (-number - 0.38, 0.76), facecolor=colour, hatch=hatch, edgecolor="#555555", linewidth=0.3
            )
    row = -len(rows)
    heard = [
        (days(span.since + first * span.quality_bin_s), days((last - first) * span.quality_bin_s))
        for first, last, came in stretches(contact > 0)
        if came
    ]
    axes.broken_barh(heard, (row - 0.25, 0.5), facecolor="#333333", linewidth=0)
    for begun, ended in offline:
        middle, text = days((begun + ended) / 2), f"no contact {duration(ended - begun)}"
        if (ended - begun) / (span.until - span.since) * LABEL_CHARACTERS > len(text) + 2:
            axes.text(middle, row, text, ha="center", va="center", fontsize=6.5, color="#333333")
    axes.set_ylim(row - 0.55, 0.55)
    axes.yaxis.set_major_locator(FixedLocator([-number for number in range(len(rows) + 1)]))
    axes.set_yticklabels([style.shown(text) for text in [*names, "frames arrived"]])
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.spines[["left", "bottom"]].set_visible(False)


def curve_panel(axes: Axes, curve: Curve, unit: str) -> None:
    """A record over time. Of bins: their range as a band and their mean as a line."""
    x = curve.x / DAY_S
    counted = unit == "count"
    there = np.isfinite(curve.mean)
    if counted:
        axes.plot(*_strokes(x[there], curve.high[there]), color=style.BLUE, linewidth=0.9)
    else:
        if curve.bin_s:
            axes.fill_between(x, curve.low, curve.high, color=style.SKY, alpha=0.55, linewidth=0)
        axes.plot(x, curve.mean, color=style.BLUE, linewidth=0.9, zorder=2)
        alone = there & ~np.roll(there, 1) & ~np.roll(there, -1) if len(there) > 2 else there
        dots = there if there.sum() <= MARKED_MAX else alone
        axes.plot(x[dots], curve.mean[dots], color=style.BLUE, marker="o", markersize=2, linestyle="", zorder=2)
    low, high = (float(np.nanmin(curve.low)), float(np.nanmax(curve.high))) if there.any() else (0.0, 1.0)
    low, high = (min(low, 0.0), max(high, 1.0)) if counted else (low, high)
    room = (high - low or max(1.0, abs(high)) * 0.02) * 0.12
    axes.set_ylim(low - (0 if counted else 1.6 * room), high + room)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=counted, min_n_ticks=2))
    axes.ticklabel_format(axis="y", useOffset=False, style="plain")
    axes.grid(axis="y", color=style.FAINT, linewidth=0.5)
    if len(curve.nulls):
        ticks = _strokes(curve.nulls / DAY_S, np.full(len(curve.nulls), 0.09))
        axes.plot(*ticks, transform=axes.get_xaxis_transform(), color=style.VERMILION, linewidth=0.5)


def quality_panel(axes: Axes, rows: Sequence[tuple[str, Curve]], span: Span) -> None:
    """How much of what each record's period asks for came, darker is more; blank where nothing was wanted."""
    for number, (_, curve) in enumerate(rows):
        levels = np.full(len(curve.share), -1)
        for level, (least, _, _) in reversed(list(enumerate(style.SHARE_LOOKS))):
            levels[curve.share >= least] = level
        pieces: dict[int, list[tuple[float, float]]] = {}
        for first, last, found in stretches(levels):
            at, width = span.since + first * span.quality_bin_s, (last - first) * span.quality_bin_s
            pieces.setdefault(int(found), []).append((days(at), days(width)))
        for level, places in sorted(pieces.items()):
            if level >= 0:
                colour, place = style.SHARE_LOOKS[level][1], (-number - 0.36, 0.72)
                axes.broken_barh(places, place, facecolor=colour, edgecolor="#999999", linewidth=0.2)
    axes.set_ylim(0.6 - len(rows), 0.6)
    axes.yaxis.set_major_locator(FixedLocator([-number for number in range(len(rows))]))
    axes.set_yticklabels([style.shown(text) for text, _ in rows])
    axes.tick_params(axis="y", length=0, labelsize=6.5)
    axes.spines[["left"]].set_visible(False)


def delay_panel(axes: Axes, low: Floats, high: Floats, span: Span) -> None:
    """How long after it was measured a value arrived."""
    edges = span.edges(span.quality_bin_s)
    x = (edges[:-1] + edges[1:]) / 2 / DAY_S
    axes.fill_between(
        x, np.maximum(low, 1), np.maximum(high, 1), color=style.ORANGE, alpha=0.45, linewidth=0, step="mid"
    )
    axes.plot(x, np.maximum(high, 1), color=style.VERMILION, linewidth=0.8, drawstyle="steps-mid")
    axes.set_yscale("log")
    longest = float(np.nanmax(high)) if np.isfinite(high).any() else 1.0
    axes.set_ylim(1, max(3700.0, longest * 1.5))
    axes.yaxis.set_major_locator(FixedLocator([seconds for seconds, _ in DELAYS]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: dict(DELAYS).get(round(value), "")))
    axes.grid(axis="y", color=style.FAINT, linewidth=0.5)


def _strokes(x: Floats, tops: Floats) -> tuple[Floats, Floats]:
    """Upright strokes from 0 as one line with breaks, which takes a tenth of the file that a line each would."""
    blank = np.full(len(x), np.nan)
    return np.stack([x, x, blank], axis=1).ravel(), np.stack([np.zeros(len(x)), tops, blank], axis=1).ravel()


def stretches(values: NDArray[Any]) -> list[tuple[int, int, float]]:
    """(first, one after the last, value) of each stretch of equal values."""
    changes = [0, *(np.flatnonzero(np.diff(values.astype(float))) + 1).tolist(), len(values)]
    return [(first, last, float(values[first])) for first, last in pairwise(changes)]


def side_name(axes: Axes, text: str) -> None:
    """What a panel whose rows have names of their own shows: on its other side."""
    axes.yaxis.set_label_position("right")
    axes.set_ylabel(text, rotation=270, fontsize=6.5, labelpad=9, color="#333333")
