"""A picture of one or more devices: which panels, in which order and size, with key, figures and caption beside them.

`Sheet.figure` is matplotlib's; `Sheet.told` says for machines what was drawn. Writes no file.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpecFromSubplotSpec, SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from host_tools.ingest.decode import Status
from host_tools.ingest.export import duration
from host_tools.ingest.readings import status_values
from host_tools.ingest.vocabulary import Vocabulary, meaning
from host_tools.plot import chart, panels, style
from host_tools.plot.scene import Happened, Scene
from host_tools.plot.tracks import SAMPLES_MAX, Curve, Span
from sealwire.messages import STATUS_CHARGE, STATUS_CONSENT
from sealwire.recordids import ACTIVITY, WEAR_STATE

WIDTH_IN = 13.5
LANE_IN, BAND_IN, CURVE_IN, DELAY_IN, QUALITY_ROW_IN, GAP_IN = 0.75, 0.24, 0.82, 0.6, 0.17, 0.55
MAP_IN, KEY_IN, LINE_IN = 2.5, 1.75, 0.125
HEAD_IN, CAPTION_IN = 0.55, 0.75
SIDE_LINES_MAX = 7
FEW = 2  # curves that get more room
LOOKS = {ACTIVITY: style.ACTIVITY_LOOKS, WEAR_STATE: style.WEAR_LOOKS}


@dataclass(frozen=True)
class Sheet:
    """A picture that is drawn and not written yet."""

    figure: Figure
    told: list[dict[str, Any]]


@dataclass
class _Ready:
    """A device with everything computed that its panels need."""

    scene: Scene
    curves: list[tuple[int, str, str, Curve]]
    bands: list[tuple[int, str, list[tuple[float, float, int]], float]]
    events: list[Happened]
    offline: list[tuple[float, float]]

    @property
    def heights(self) -> list[float]:
        lanes = [LANE_IN, BAND_IN * (len(self.bands) + 1)]
        curve = CURVE_IN * (2 if len(self.curves) <= FEW else 1)
        quality = [max(0.3, QUALITY_ROW_IN * len(self.curves))] if self.curves else []
        return [*lanes, *[curve] * len(self.curves), *quality, DELAY_IN]


def draw(scenes: Sequence[Scene], span: Span, vocabulary: Vocabulary, zone: tzinfo = UTC) -> Sheet:
    """Draw these devices one below the other, over one axis of time.

    Args:
        scenes: at least one.
        zone: of the times that are written.
    """
    ready = [_ready(scene, vocabulary) for scene in scenes]
    beside = [_figures(one, vocabulary) for one in ready]
    heights = [
        max(sum(one.heights), sum(_side_heights(one, lines))) + GAP_IN for one, lines in zip(ready, beside, strict=True)
    ]
    total = HEAD_IN + sum(heights) + CAPTION_IN
    with style.ours():
        figure = Figure(figsize=(WIDTH_IN, total), dpi=100)
        grid = figure.add_gridspec(
            len(ready),
            2,
            width_ratios=(1, 0.31),
            height_ratios=heights,
            left=0.115,
            right=0.995,
            top=1 - HEAD_IN / total,
            bottom=CAPTION_IN / total,
            wspace=0.025,
            hspace=0.0,
        )
        figure.text(0.01, 1 - 0.16 / total, "Readings", fontsize=12, fontweight="bold", va="top")
        figure.text(0.085, 1 - 0.185 / total, _period(span, zone), fontsize=10, va="top")
        for number, (one, height) in enumerate(zip(ready, heights, strict=True)):
            _device(figure, grid[number, 0], one, height, zone)
            _side(figure, grid[number, 1], one, beside[number], height)
        caption = textwrap.fill(_caption(ready, span), 205)
        figure.text(0.01, 0.1 / total, caption, fontsize=7, color="#333333", va="bottom")
    return Sheet(figure, [_told(one) for one in ready])


def _ready(scene: Scene, vocabulary: Vocabulary) -> _Ready:
    curves, bands = [], []
    for number, track in sorted(scene.tracks.items()):
        name, unit, _ = vocabulary.record(number)
        if track.sums.count:
            curves.append((number, name, unit, track.curve(scene.wanted(number))))
    for number, states in sorted(scene.states.items()):
        runs, bin_s = states.runs()
        bands.append((number, vocabulary.record(number)[0], runs, bin_s))
    changes = [Happened(at, "consent", tuple(sorted(records))) for at, records in scene.consents if _in(scene, at)]
    events = sorted([*scene.events, *scene.restarts(), *changes], key=lambda one: (one.unix_s, one.name, one.values))
    return _Ready(scene, curves, bands, events, scene.offline())


def _in(scene: Scene, at: float) -> bool:
    return scene.span.since <= at < scene.span.until


def _device(figure: Figure, place: SubplotSpec, one: _Ready, height: float, zone: tzinfo) -> None:
    heights, span = one.heights, one.scene.span
    rest = max(height - sum(heights), 0.01)
    grid = GridSpecFromSubplotSpec(len(heights) + 1, 1, place, height_ratios=[*heights, rest], hspace=0.16)
    axes = [figure.add_subplot(grid[number, 0]) for number in range(len(heights))]
    looks = style.event_looks(sorted({event.name for event in one.events}))
    for number, panel in enumerate(axes):
        panels.time_axis(panel, span, zone, labelled=number == len(axes) - 1)
        if number >= 2:
            panels.marks(panel, one.events, looks)
            panels.away(panel, one.offline)
    axes[0].set_title(style.shown(one.scene.device), loc="left", fontsize=10, fontweight="bold", pad=4)
    panels.event_lane(axes[0], span, one.events, looks)
    rows = [(name.replace("_", " "), runs, LOOKS.get(number, {})) for number, name, runs, _ in one.bands]
    panels.band_lane(axes[1], rows, one.scene.arrivals, span, one.offline)
    for panel, (_, name, unit, curve) in zip(axes[2:], one.curves, strict=False):
        panels.curve_panel(panel, curve, unit)
        panels.name(panel, name.replace("_", " "), unit)
    if one.curves:
        panels.quality_panel(axes[-2], [(name.replace("_", " "), curve) for _, name, _, curve in one.curves], span)
        panels.side_name(axes[-2], "samples that came")
    panels.delay_panel(axes[-1], one.scene.delay_low, one.scene.delay_high, span)
    panels.name(axes[-1], "arrived after")


def _side_heights(one: _Ready, lines: Sequence[str]) -> list[float]:
    return [MAP_IN if one.scene.cells else 0.01, KEY_IN, LINE_IN * (len(lines) + 1)]


def _side(figure: Figure, place: SubplotSpec, one: _Ready, lines: Sequence[str], height: float) -> None:
    heights = _side_heights(one, lines)
    rest = max(height - sum(heights), 0.01)
    parts = GridSpecFromSubplotSpec(4, 1, place, height_ratios=[*heights, rest], hspace=0.0)
    if one.scene.cells:
        where = GridSpecFromSubplotSpec(2, 2, parts[0, 0], width_ratios=(0.16, 1), height_ratios=(1, 0.24), wspace=0)
        chart.draw(figure.add_subplot(where[0, 1]), one.scene.cells, one.scene.cell_m)
    for part in (1, 2):
        axes = figure.add_subplot(parts[part, 0])
        axes.set_axis_off()
        if part == 1:
            _key(axes, one)
        else:
            text = "\n".join(lines)
            axes.text(0.02, 1, text, va="top", fontsize=6.2, family="DejaVu Sans Mono", linespacing=1.35)


def _key(axes: Axes, one: _Ready) -> None:
    handles: list[Any] = []
    looks = style.event_looks(sorted({event.name for event in one.events}))
    for name, (marker, colour) in sorted(looks.items()):
        text = style.shown(name.replace("_", " "))
        handles.append(Line2D([], [], marker=marker, color=colour, linestyle="", markersize=6, label=text))
    for number, _, runs, _ in one.bands:
        for state in sorted({run[2] for run in runs}):
            colour, hatch = LOOKS.get(number, {}).get(state, style.OTHER_LOOK)
            handles.append(
                Patch(facecolor=colour, hatch=hatch, edgecolor="#555555", linewidth=0.3, label=meaning(number, state))
            )
    if one.offline:
        handles.append(Patch(facecolor=style.FAINT, hatch="///", edgecolor="#aaaaaa", lw=0, label="no contact"))
    if any(len(curve.nulls) for *_, curve in one.curves):
        handles.append(Line2D([], [], marker="|", color=style.VERMILION, linestyle="", label="tried, no value"))
    if any(curve.bin_s for *_, curve in one.curves):
        handles.append(Patch(facecolor=style.SKY, alpha=0.55, lw=0, label="least to greatest"))
    for _, colour, name in style.SHARE_LOOKS if one.curves else ():
        handles.append(Patch(facecolor=colour, edgecolor="#999999", linewidth=0.2, label=f"came: {name}"))
    axes.legend(handles=handles, loc="upper left", ncols=2, frameon=False, borderaxespad=0, columnspacing=1.0)


def _figures(one: _Ready, vocabulary: Vocabulary) -> list[str]:
    """Each record in figures, exact whatever is drawn; then states, consent and the newest status."""
    lines = [f"{'':18}{'samples':>8}{'came':>6}{'least':>7}{'mean':>7}{'most':>7}"]
    for number, name, _, _ in one.curves:
        sums = one.scene.tracks[number].sums
        share = "" if sums.share is None else f"{math.floor(100 * sums.share)}%"
        cells = "".join(f"{_short(value):>7}" for value in (sums.low, sums.total / sums.count, sums.high))
        lines.append(f"{style.shown(name)[:17]:18}{sums.count:>8}{share:>6}{cells}")
    for number, name, _, _ in one.bands:
        held = one.scene.states[number].seconds()
        lines += [
            f"{style.shown(name)[:17] if not index else '':18} {meaning(number, state):9} {duration(seconds)}"
            for index, (state, seconds) in enumerate(held.items())
        ]
    for _, records in one.scene.consents[-1:]:
        names = [vocabulary.record(number)[0] for number in sorted(records)]
        lines += _wrapped("agreed to", ", ".join(names) or "nothing")
    for at, fields in one.scene.statuses[-1:]:
        told = [f"{datetime.fromtimestamp(at, UTC):%m-%d %H:%MZ}"]
        used = []
        for name, field, value, unit, _ in status_values(Status(0, fields), vocabulary):
            if field == STATUS_CHARGE:
                used.append(f"{name.rpartition('/')[2]} {float(value) / 1000:.3g}")
            elif field != STATUS_CONSENT:
                told.append(f"{_field(name, unit)} {value:f} {unit}".strip())
        lines += _wrapped("newest status", ", ".join(told))
        lines += _wrapped("charge, mAh", ", ".join(used)) if used else []
    return lines


def _field(name: str, unit: str) -> str:
    # battery_mv with its unit behind it is battery
    return name.removeprefix("status/").removesuffix(f"_{unit.lower()}").replace("_", " ")


def _wrapped(name: str, text: str) -> list[str]:
    return [
        f"{name if not index else '':18} {style.shown(line)}"
        for index, line in enumerate(textwrap.wrap(text, 34, max_lines=SIDE_LINES_MAX))
    ]


def _short(value: float) -> str:
    return f"{value:.5g}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 1 else f"{value:.4g}"


def _period(span: Span, zone: tzinfo) -> str:
    since, until = (datetime.fromtimestamp(at, UTC).astimezone(zone) for at in (span.since, span.until))
    return f"{since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M}, {style.shown(str(zone))}"


def _caption(ready: Sequence[_Ready], span: Span) -> str:
    bin_, quality_bin = duration(span.bin_s), duration(span.quality_bin_s)
    text = ["A line breaks where samples are missing."]
    if any(curve.bin_s for one in ready for *_, curve in one.curves):
        text.append(
            f"Of a record with more than {SAMPLES_MAX} samples each point stands for {bin_}: the band is their least "
            "to greatest, the line their mean; gaps shorter than that do not show."
        )
    if any(bin_s for one in ready for *_, bin_s in one.bands):
        text.append(f"States are those that held longest in {bin_}.")
    left_out = sum(one.scene.events_left_out for one in ready)
    if left_out:
        text.append(f"{left_out} more events are not drawn.")
    if any(one.scene.cells_left_out for one in ready):
        text.append("Some positions are not drawn: there are too many places.")
    text.append(
        f"“Came” is the share of what a record's own period asks for, in steps of {quality_bin}; what was not agreed "
        "to is not asked for. “Arrived after” is from measured to arrived. Not a medical device: no figure here is for "
        "diagnosis or treatment."
    )
    return " ".join(text)


def _told(one: _Ready) -> dict[str, Any]:
    """What was drawn, for machines."""
    scene = one.scene
    records = []
    for number, name, unit, curve in one.curves:
        sums = scene.tracks[number].sums
        records.append(
            {
                "record": name,
                "id": number,
                "unit": unit,
                "samples": sums.count,
                "nulls": sums.nulls,
                "missing": sums.missing,
                "share": None if sums.share is None else round(sums.share, 4),
                "least": float(f"{sums.low:.9g}"),
                "mean": float(f"{sums.total / sums.count:.6g}"),
                "greatest": float(f"{sums.high:.9g}"),
                "bin_s": round(curve.bin_s),
                "gaps": [[round(begun), round(ended)] for begun, ended in curve.gaps],
            }
        )
    states = [
        {
            "record": name,
            "id": number,
            "seconds": {meaning(number, s): round(held) for s, held in scene.states[number].seconds().items()},
        }
        for number, name, _, _ in one.bands
    ]
    return {
        "device": scene.device,
        "records": records,
        "states": states,
        "events": [_event(event) for event in one.events],
        "events_left_out": scene.events_left_out,
        "offline": [[round(begun), round(ended)] for begun, ended in one.offline],
        "statuses": len(scene.statuses),
        "places": len(scene.cells),
        "frames": int(scene.arrivals.sum()),
    }


def _event(event: Happened) -> Mapping[str, Any]:
    return {"unix_s": round(event.unix_s), "name": event.name, "values": list(event.values)}
