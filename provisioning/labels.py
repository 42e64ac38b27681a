"""The label of one board: its EUI, its model and the claim secret, as a QR code and as text that people can type.

The QR code holds `SEALBAND:1:<EUI>:<MODEL>:<claim>`, nothing but what QR's alphanumeric mode has (ISO/IEC 18004 table
5), which keeps the symbol small. Whoever can read a label can claim its board, so files are mode 600 and their names
and this module's messages hold the EUI at most. Prints nothing: what is printed, and where, is up to the caller.
"""

import base64
import io
import re
from dataclasses import dataclass, field
from pathlib import Path

import segno

from provisioning import wholefile
from sealwire.enrolment import CLAIM_LEN, MODEL_MAX
from sealwire.frame import EUI_LEN

PREFIX = "SEALBAND:1"
TEXT_MAX = 256  # characters; a longer text is no label's
# of the label; a QR code of 25 mm has modules of half a millimetre and more, which any phone reads
WIDTH_MM, HEIGHT_MM = 50, 25
PRINTER_DPI = (203, 300)
ERROR_CORRECTION = "M"  # 15 % of the code words may be scratched
QUIET_ZONE = 4  # modules (ISO/IEC 18004 section 6.3.8)
PNG_SCALE = 10  # pixels a module
LINE_LEN = 15  # characters of text that fit beside the code
HEADING_LEN = 6  # of them

# as the model stands in a board's definition; a label has no lower case, so a model must not depend on it
_MODEL = re.compile(r"[a-z0-9][a-z0-9.-]*")
_TEXT = re.compile(r"SEALBAND:1:([0-9A-F]{16}):([A-Z0-9][A-Z0-9.-]*):([A-Z2-7]{16})")
_ZPL_PLAIN = re.compile(r"[A-Za-z0-9 .:,/-]")


class LabelError(Exception):
    """A label cannot be made, or a text is none; the message never holds the claim secret."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True)
class Label:
    """What is on the label of one board.

    Attributes:
        eui: EUI-64, 8 bytes.
        model: as in the board's definition: lower-case letters, digits, dots and hyphens, at most 32.
        claim: the claim secret, 10 bytes.

    Raises:
        LabelError: a length is wrong, or the model has another character.
    """

    eui: bytes
    model: str
    claim: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.eui) != EUI_LEN or len(self.claim) != CLAIM_LEN:
            raise LabelError(
                f"a label has an EUI of {EUI_LEN} bytes and a claim of {CLAIM_LEN}, not {len(self.eui)} and "
                f"{len(self.claim)}",
                "ask the board for both again",
            )
        if not _MODEL.fullmatch(self.model) or len(self.model) > MODEL_MAX:
            raise LabelError(
                f"the model {self.model!r} cannot stand on a label",
                f"a model is 1 to {MODEL_MAX} lower-case letters, digits, dots and hyphens, as in its board.toml",
            )

    @property
    def text(self) -> str:
        """What the QR code holds."""
        return f"{PREFIX}:{self.eui.hex().upper()}:{self.model.upper()}:{_base32(self.claim)}"

    @property
    def file_stem(self) -> str:
        """The name for its files, without an ending: the EUI alone."""
        return self.eui.hex()

    @property
    def lines(self) -> tuple[tuple[str, str], ...]:
        """The readable half, at most seven lines of a heading and a text: model, EUI and claim in groups of four."""
        model = [self.model[at : at + LINE_LEN] for at in range(0, len(self.model), LINE_LEN)]
        eui, claim = _groups(self.eui.hex().upper()), _groups(_base32(self.claim))
        return (
            *((part, "") for part in model),
            ("EUI", f"{eui[0]} {eui[1]}"),
            ("", f"{eui[2]} {eui[3]}"),
            ("CLAIM", f"{claim[0]} {claim[1]}"),
            ("", f"{claim[2]} {claim[3]}"),
        )

    def png(self, path: Path) -> None:
        """Write the QR code as PNG: the code alone, without the readable half. Replaces a file that is there.

        Raises:
            LabelError: the file cannot be written.
        """
        picture = io.BytesIO()
        self._code().save(picture, kind="png", scale=PNG_SCALE, border=QUIET_ZONE)
        _write(path, picture.getvalue())

    def svg(self, path: Path) -> None:
        """Write the whole label as SVG of 50 by 25 mm: the QR code and the readable half beside it. Replaces a file
        that is there.

        Raises:
            LabelError: the file cannot be written.
        """
        code = self._code()
        drawn = io.BytesIO()
        scale = HEIGHT_MM / code.symbol_size(border=QUIET_ZONE)[0]
        code.save(drawn, kind="svg", scale=scale, border=QUIET_ZONE, xmldecl=False, svgclass=None, lineclass=None)
        size, step = 2.4, 2.9  # mm; a character is 0.6 times as wide, so that LINE_LEN are 21.6 mm
        first = (HEIGHT_MM - step * (len(self.lines) - 1) + size * 0.7) / 2
        # none of its characters means anything to XML
        text = "".join(
            f'<text x="{at:.2f}" y="{first + row * step:.2f}">{part}</text>'
            for row, line in enumerate(self.lines)
            for at, part in zip((26, 26 + HEADING_LEN * 0.6 * size), line, strict=True)
            if part
        )
        picture = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH_MM}mm" height="{HEIGHT_MM}mm" '
            f'viewBox="0 0 {WIDTH_MM} {HEIGHT_MM}"><rect width="100%" height="100%" fill="#fff"/>'
            f'{drawn.getvalue().decode().strip()}<g font-family="monospace" font-size="{size}">{text}</g></svg>\n'
        )
        _write(path, picture.encode())

    def zpl(self, dpi: int = PRINTER_DPI[0]) -> str:
        """The whole label in ZPL II, for a label of 50 by 25 mm; the printer draws the QR code itself (^BQ).

        Args:
            dpi: the printer's, 203 or 300.

        Raises:
            LabelError: another resolution.
        """
        if dpi not in PRINTER_DPI:
            raise LabelError(f"no label for {dpi} dpi", f"printers have {' or '.join(map(str, PRINTER_DPI))}")
        width, height = round(WIDTH_MM / 25.4 * dpi), round(HEIGHT_MM / 25.4 * dpi)
        modules = self._code().symbol_size(border=0)[0]
        dots = min(10, height // (modules + 2 * QUIET_ZONE))  # ^BQ magnifies by 1 to 10
        left, top = QUIET_ZONE * dots, (height - modules * dots) // 2
        beside = (modules + 2 * QUIET_ZONE) * dots
        step = height // 8
        # font 0 is as wide as it is told on average; its widest letter takes 1.2 times the column
        column = (width - beside) // (LINE_LEN + 1)
        font = f"^A0N,{step * 4 // 5},{column * 3 // 2}"
        first = (height - step * len(self.lines)) // 2
        fields = [f"^FO{left},{top}^BQN,2,{dots}{_zpl_field(f'{ERROR_CORRECTION}A,{self.text}')}"]
        for row, line in enumerate(self.lines):
            for at, part in zip((beside, beside + HEADING_LEN * column), line, strict=True):
                if part:
                    fields.append(f"^FO{at},{first + row * step}{font}{_zpl_field(part)}")
        return "\n".join(("^XA", f"^PW{width}", f"^LL{height}", "^LH0,0", "^CI28", *fields, "^XZ", ""))

    def _code(self) -> segno.QRCode:
        # not boosted, so that the printer's own code has the same size
        return segno.make_qr(self.text, error=ERROR_CORRECTION, mode="alphanumeric", boost_error=False)


def parse(text: str) -> Label:
    """Read what a scanner made of a label's QR code.

    Raises:
        LabelError: it is not the text of a label, letter by letter.
    """
    match = _TEXT.fullmatch(text) if len(text) <= TEXT_MAX else None
    if not match:
        raise LabelError("this is not the text of a Sealband label", "scan the QR code on the board's label again")
    return Label(bytes.fromhex(match[1]), match[2].lower(), base64.b32decode(match[3]))


def _base32(claim: bytes) -> str:
    return base64.b32encode(claim).decode()


def _groups(text: str) -> list[str]:
    return [text[at : at + 4] for at in range(0, len(text), 4)]


def _zpl_field(text: str) -> str:
    """A data field whose text cannot end it or begin a command: ^FH lets any byte be written as _ and two digits."""
    data = "".join(
        letter if _ZPL_PLAIN.fullmatch(letter) else "".join(f"_{byte:02X}" for byte in letter.encode())
        for letter in text
    )
    return f"^FH_^FD{data}^FS"


def _write(path: Path, content: bytes) -> None:
    """Put a file there whole, mode 600, or leave what is there."""
    try:
        wholefile.replace(path, content)
    except OSError as error:
        raise LabelError(
            f"the label {path} cannot be written: {error.strerror}", "check the folder and the space left"
        ) from None
