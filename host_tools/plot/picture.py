"""A sheet as a file: PNG or SVG, the same bytes for the same data, mode 600. Text in an SVG is drawn as outlines.

A picture is of somebody's health. So nobody else can read it, and it replaces no file but one that was made here.
"""

import io
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG

from host_tools.plot import style
from provisioning import wholefile

if TYPE_CHECKING:
    from host_tools.plot.sheet import Sheet

FORMATS = ("svg", "png")
MAKER = "sealband readings plot"
HEAD_LEN = 4096
_PATH = re.compile(r' d="[^"]*"', re.DOTALL)
_LONG = re.compile(r"\d+\.\d{3,}")


class PictureRefused(Exception):
    """A picture cannot be written where it was asked for."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


def render(sheet: "Sheet", format_: str) -> bytes:
    """The file's bytes.

    Args:
        format_: one of `FORMATS`.
    """
    buffer = io.BytesIO()
    with style.ours(), warnings.catch_warnings():
        # a character that the font lacks is a box in the picture, and no line on somebody's terminal
        warnings.simplefilter("ignore")
        if format_ == "png":
            FigureCanvasAgg(sheet.figure).print_png(buffer, metadata={"Software": MAKER})
            return buffer.getvalue()
        FigureCanvasSVG(sheet.figure).print_svg(buffer, metadata={"Creator": MAKER, "Date": None})
    # hundredths of a point are finer than any screen; the rest is a third of the file
    text = _PATH.sub(
        lambda found: _LONG.sub(lambda number: f"{float(number[0]):.2f}", found[0]), buffer.getvalue().decode()
    )
    return text.encode()


def refuse_others(path: Path, *, force: bool) -> None:
    """Raise PictureRefused where a file of somebody else's would be replaced."""
    if path.is_dir():
        raise PictureRefused(
            f"{path} is a folder", "name a file, or the folder with --out FOLDER/ for one file a device"
        )
    if path.exists() and not path.is_file():
        raise PictureRefused(f"{path} is no file", "name another one")
    if not force and path.exists():
        with path.open("rb") as file:
            if MAKER.encode() not in file.read(HEAD_LEN):
                raise PictureRefused(f"{path} is there already and no picture of readings", "--force replaces it")


def write(path: Path, content: bytes) -> None:
    """Put the picture there, whole or not at all, for its owner only.

    Raises:
        OSError: the disk refuses.
    """
    wholefile.replace(path, content)
