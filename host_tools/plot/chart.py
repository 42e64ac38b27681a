"""Where a wearer was: cells of the size to which the device makes positions coarse, in metres. No map, no network."""

import math

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from host_tools.plot import style

METRES_A_DEGREE = 111_320.0
POINT_M = 10  # of positions that are told as measured
LEAST_CELLS = 6  # of the picture's side


def draw(axes: Axes, cells: dict[tuple[float, float], int], cell_m: int) -> None:
    """Draw the cells around the one that was visited most; darker is more fixes.

    Args:
        cells: number of fixes by (latitude, longitude) of a cell's middle.
        cell_m: side of a cell in metres; 0: positions are as measured.
    """
    home = max(cells, key=lambda place: (cells[place], place))
    most = cells[home]
    side = cell_m or POINT_M
    narrower = max(math.cos(math.radians(home[0])), 0.01)
    places = []
    for (latitude, longitude), count in sorted(cells.items()):
        east = ((longitude - home[1] + 180) % 360 - 180) * METRES_A_DEGREE * narrower
        places.append((east, (latitude - home[0]) * METRES_A_DEGREE, count))
    reach = max(max(abs(east), abs(north)) for east, north, _ in places) + side
    reach = max(reach, side * LEAST_CELLS / 2)
    unit, name = (1000.0, "km") if reach >= 2000 else (1.0, "m")
    for east, north, count in places:
        depth = 0.25 + 0.75 * math.log1p(count) / math.log1p(most)
        axes.add_patch(
            Rectangle(
                ((east - side / 2) / unit, (north - side / 2) / unit),
                side / unit,
                side / unit,
                facecolor=style.BLUE,
                alpha=depth,
                edgecolor="#333333",
                linewidth=0.3,
            )
        )
    axes.set_xlim(-reach / unit, reach / unit)
    axes.set_ylim(-reach / unit, reach / unit)
    axes.set_aspect("equal")
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.grid(color=style.PALE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_xlabel(f"{name} east", fontsize=7, labelpad=1)
    axes.set_ylabel(f"{name} north", fontsize=7, labelpad=1)
    axes.tick_params(labelsize=6.5, pad=1.5)
    digits = max(0, min(5, round(5 - math.log10(max(side, 1)))))
    around = f"around {abs(home[0]):.{digits}f}° {'S' if home[0] < 0 else 'N'}, "
    around += f"{abs(home[1]):.{digits}f}° {'W' if home[1] < 0 else 'E'}"
    cell = f"cells of {cell_m} m" if cell_m else "as measured"
    axes.set_title(f"position, {cell}\n{around}", fontsize=7.5)
