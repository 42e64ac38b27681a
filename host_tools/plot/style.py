"""How pictures look, the same on every computer: colours that the colour-blind tell apart, and a second sign for each.

Colours are those of Okabe and Ito ("Color Universal Design", 2008); every one comes with a hatch, a marker or a name,
so that a picture can be printed in grey. What a user's matplotlibrc says is not asked. Text is drawn as it is: a `$` in
a name is a dollar sign and no formula.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#000000",
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#f0e442",
    "#0072b2",
    "#d55e00",
    "#cc79a7",
)
GREY, PALE, FAINT = "#767676", "#d9d9d9", "#f2f2f2"

# state → colour, hatch
ACTIVITY_LOOKS = {0: ("#e8e8e8", ""), 1: (SKY, "////"), 2: (ORANGE, "xxxx"), 3: ("#ffffff", "....")}
WEAR_LOOKS = {0: ("#ffffff", "\\\\\\\\\\\\"), 1: (GREEN, "")}
OTHER_LOOK = ("#ffffff", "++++")
# event → marker, colour
EVENT_LOOKS = {
    "fall": ("X", VERMILION),
    "sos": ("*", PURPLE),
    "low_battery": ("P", ORANGE),
    "worn": ("^", GREEN),
    "taken_off": ("v", BLUE),
    "tamper": ("D", BLACK),
    "restart": ("|", GREY),
    "consent": ("d", GREY),
}
OTHER_EVENTS = [(marker, colour) for colour in (SKY, YELLOW, BLACK, GREY) for marker in ("o", "s", "p", "<", ">", "h")]
# share of what was wanted, from: grey, name
SHARE_LOOKS = (
    (0.999, "#1a1a1a", "all"),
    (0.9, "#5c5c5c", "90 % or more"),
    (0.5, "#999999", "half or more"),
    (1e-9, "#cfcfcf", "less than half"),
    (-1.0, "#ffffff", "none"),
)

_RC: Any = {
    "text.parse_math": False,
    "text.usetex": False,
    "axes.unicode_minus": True,
    "axes.formatter.use_mathtext": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.6,
    "axes.labelsize": 8,
    "font.family": ["DejaVu Sans"],
    "font.size": 8,
    "hatch.linewidth": 0.4,
    "legend.fontsize": 7,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "path.simplify": True,
    "path.simplify_threshold": 0.1,
    "svg.fonttype": "path",
    # names of clips and markers are hashes of what they are, and not random
    "svg.hashsalt": "sealband",
    "timezone": "UTC",
    "date.epoch": "1970-01-01T00:00:00",
}


@contextmanager
def ours() -> Iterator[None]:
    """matplotlib draws in this style, and in nothing of the user's, inside the block."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def event_looks(names: list[str]) -> dict[str, tuple[str, str]]:
    """(marker, colour) of each; own events take what is left, in order."""
    others = iter(OTHER_EVENTS * (len(names) // len(OTHER_EVENTS) + 1))
    return {name: EVENT_LOOKS.get(name) or next(others) for name in names}


def shown(text: str) -> str:
    """Text without what moves a cursor, ends a line or turns the direction of writing."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
