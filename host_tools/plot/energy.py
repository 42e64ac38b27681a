"""A day of a cell as a picture: the current of each part over the day, and what each comes to. Computed by
`host_tools.sim.energy`; needs matplotlib.
"""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from host_tools.plot import style
from host_tools.sim.energy import MINUTES, Estimate
from provisioning import wholefile

FORMATS = ("svg", "png")
COLOURS = {
    "board": (style.GREY, ""),
    "chip": (style.SKY, ""),
    "lora": (style.VERMILION, "///"),
    "wifi": (style.ORANGE, "\\\\\\"),
    "modem": (style.PURPLE, "xxx"),
    "gnss": (style.GREEN, "..."),
    "pulse": (style.YELLOW, ""),
    "motion": (style.BLUE, "|||"),
    "sensors": (style.BLACK, ""),
}
SMOOTH_MIN = 10


def draw(path: Path, estimates: Sequence[Estimate]) -> None:
    """One panel for each estimate, in a PNG or SVG file as its name ends; the same bytes for the same figures.

    Raises:
        OSError: the file cannot be written.
    """
    with style.ours():
        figure = Figure(figsize=(9, 1.0 + 2.4 * len(estimates)), layout="constrained")
        for axes, each in zip(figure.subplots(len(estimates), squeeze=False)[:, 0], estimates, strict=True):
            names = [name for name in COLOURS if name in each.minutes]
            hours = np.arange(0, MINUTES, SMOOTH_MIN) / 60.0
            curves = [np.asarray(each.minutes[name]).reshape(-1, SMOOTH_MIN).mean(axis=1) for name in names]
            labels = [f"{name} {each.mah[name]:.2f} mAh" for name in names]
            stack = axes.stackplot(
                hours, curves, labels=labels, colors=[COLOURS[name][0] for name in names], step="post"
            )
            for area, name in zip(stack, names, strict=True):
                area.set_hatch(COLOURS[name][1])
                area.set_edgecolor("white")
                area.set_linewidth(0.2)
            axes.set_xlim(0, 24)
            axes.set_ylim(bottom=0)
            axes.xaxis.set_major_locator(MultipleLocator(3))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda hour, _: f"{int(hour):02d}:00"))
            axes.set_ylabel("mA of the cell")
            axes.set_title(
                f"{each.board}, {each.link}: {each.total_mah:.1f} mAh a day, {each.life_days:.1f} days "
                f"(computed; means of {SMOOTH_MIN} minutes)",
                fontsize=9,
            )
            axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7, frameon=False)
        buffer = io.BytesIO()
        if path.suffix.lower() == ".png":
            FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": "sealband sim energy"})
        else:
            FigureCanvasSVG(figure).print_svg(buffer, metadata={"Creator": "sealband sim energy", "Date": None})
    wholefile.replace(path, [buffer.getvalue()])
