"""Labels: what a scanner reads is what was meant, and the claim secret is nowhere but on the label."""

import base64
import os
import re
import struct
import zlib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from provisioning import labels
from provisioning.labels import Label, LabelError
from tests.support import qr

EUI = bytes.fromhex("24a160fffe123456")
CLAIM = bytes.fromhex("00112233445566778899")
# RFC 4648 base32 of the claim, by hand: 00000 00000 01000 10010 00100 01100 11010 00100 …
CLAIM_TEXT = "AAISEM2EKVTHPCEZ"
LABEL = Label(EUI, "t-beam-sx1262", CLAIM)
TEXT = f"SEALBAND:1:24A160FFFE123456:T-BEAM-SX1262:{CLAIM_TEXT}"
LONGEST = Label(EUI, "w" * 32, b"\xff" * 10)
SVG = "{http://www.w3.org/2000/svg}"


def png_modules(path: Path) -> list[list[bool]]:
    """The modules in a PNG of one bit a pixel (RFC 2083), with the quiet zone cut off; True is dark."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(kind + body)
        chunks[kind] = chunks.get(kind, b"") + body
        at += 12 + length
    width, height, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert (depth, colour) == (1, 0)  # grey: 0 is black
    stride = (width + 7) // 8 + 1
    raw = zlib.decompress(chunks[b"IDAT"])
    rows, above = [], bytes(stride - 1)
    for row in range(height):
        kind, *line = raw[row * stride : (row + 1) * stride]
        assert kind in (0, 2)  # filters None and Up (section 6)
        above = bytes((byte + up) % 256 for byte, up in zip(line, above, strict=True)) if kind == 2 else bytes(line)
        rows.append(above)
    dark = [[not row[x // 8] >> (7 - x % 8) & 1 for x in range(width)] for row in rows]
    border, scale = labels.QUIET_ZONE, labels.PNG_SCALE
    whole = [[dark[y][x] for x in range(0, width, scale)] for y in range(0, height, scale)]
    assert not any(any(row) for row in whole[:border] + whole[-border:])
    return [row[border:-border] for row in whole[border:-border]]


def svg_modules(path: Path) -> list[list[bool]]:
    """The modules in the label's SVG: dark ones are pieces of horizontal lines, half a module below the row's top."""
    code = ElementTree.parse(path).getroot().find(f"{SVG}svg/{SVG}path")
    assert code is not None
    cells, x, y = set(), 0, 0.0
    for command, numbers in re.findall(r"([Mmh])([-0-9. ]+)", code.attrib["d"]):
        values = [float(number) for number in numbers.split()]
        if command == "M":
            x, y = int(values[0]), values[1]
        elif command == "m":
            x, y = x + int(values[0]), y + values[1]
        else:
            cells |= {(int(y), x + step) for step in range(int(values[0]))}
            x += int(values[0])
    border, end = min(min(cell) for cell in cells), max(max(cell) for cell in cells) + 1
    assert border == labels.QUIET_ZONE
    return [[(row, column) in cells for column in range(border, end)] for row in range(border, end)]


def svg_text(path: Path) -> str:
    return " ".join(element.text or "" for element in ElementTree.parse(path).iter(f"{SVG}text"))


def test_text_is_as_the_format_says():
    assert LABEL.text == TEXT
    assert base64.b32decode(CLAIM_TEXT) == CLAIM
    assert labels.parse(TEXT) == LABEL


@pytest.mark.parametrize("label", [LABEL, LONGEST], ids=["usual", "longest"])
def test_another_reader_reads_the_code_in_png_and_svg(label: Label, tmp_path: Path):
    label.png(tmp_path / "label.png")
    label.svg(tmp_path / "label.svg")
    assert qr.read(png_modules(tmp_path / "label.png")) == label.text
    assert qr.read(svg_modules(tmp_path / "label.svg")) == label.text


def test_the_reader_of_these_tests_sees_one_wrong_module(tmp_path: Path):
    LABEL.png(tmp_path / "label.png")
    modules = png_modules(tmp_path / "label.png")
    modules[12][12] = not modules[12][12]
    with pytest.raises(AssertionError, match="code word is wrong"):
        qr.read(modules)


def test_code_stays_small_enough_for_25_mm():
    # 29 modules and 8 of quiet zone: 0.67 mm each; the longest model makes them 0.6 mm
    for label, size in ((LABEL, 29), (LONGEST, 33)):
        assert label._code().symbol_size(border=0)[0] == size


def test_svg_has_in_readable_text_what_the_code_has(tmp_path: Path):
    LABEL.svg(tmp_path / "label.svg")
    assert svg_text(tmp_path / "label.svg") == "t-beam-sx1262 EUI 24A1 60FF FE12 3456 CLAIM AAIS EM2E KVTH PCEZ"
    LONGEST.svg(tmp_path / "long.svg")
    assert svg_text(tmp_path / "long.svg").startswith("w" * 15 + " " + "w" * 15 + " ww EUI")
    root = ElementTree.parse(tmp_path / "long.svg").getroot()
    assert (root.attrib["width"], root.attrib["height"]) == ("50mm", "25mm")
    for element in root.iter(f"{SVG}text"):
        # 2.4 mm is the height of a line, 0.6 of it the width of a character
        assert 2 < float(element.attrib["y"]) < 25
        assert float(element.attrib["x"]) + 0.6 * 2.4 * len(element.text or "") <= 50


@pytest.mark.parametrize(("dpi", "width", "height"), [(203, 400, 200), (300, 591, 295)])
@pytest.mark.parametrize("label", [LABEL, LONGEST], ids=["usual", "longest"])
def test_zpl_prints_code_and_text_within_the_label(label: Label, dpi: int, width: int, height: int):
    zpl = label.zpl(dpi)
    assert zpl.startswith(f"^XA\n^PW{width}\n^LL{height}\n") and zpl.endswith("^XZ\n")
    fields = re.findall(r"^\^FO(\d+),(\d+)(\^BQN,2,(\d+)|\^A0N,(\d+),(\d+))\^FH_\^FD([^^~]*)\^FS$", zpl, re.MULTILINE)
    assert len(fields) == zpl.count("^FO")
    left, top, _, dots, _, _, data = fields[0]
    assert data == f"MA,{label.text}"
    side = (29 if label is LABEL else 33) * int(dots)
    assert int(left) >= 4 * int(dots) and int(top) >= 4 * int(dots) and int(top) + side + 4 * int(dots) <= height
    assert side / dpi * 25.4 > 15  # mm
    texts = [(int(x), int(y), int(tall), text) for x, y, _, _, tall, _, text in fields[1:]]
    assert (
        " ".join(text for *_, text in texts)
        .replace(" ", "")
        .endswith("EUI24A160FFFE123456CLAIM" + base64.b32encode(label.claim).decode())
    )
    assert all(int(left) + side + 4 * int(dots) <= x < width and y + tall <= height for x, y, tall, _ in texts)


def test_zpl_field_cannot_end_itself_or_begin_a_command():
    assert labels._zpl_field("a^XZ~JA_b\n,é") == "^FH_^FDa_5EXZ_7EJA_5Fb_0A,_C3_A9^FS"


@pytest.mark.parametrize("dpi", [0, 200, 600])
def test_zpl_for_an_unknown_printer_is_refused(dpi: int):
    with pytest.raises(LabelError, match="no label for"):
        LABEL.zpl(dpi)


@pytest.mark.parametrize(
    "text",
    [
        "",
        TEXT.lower(),
        TEXT + "\n",
        " " + TEXT,
        TEXT[:-1],
        TEXT + "A",
        TEXT + "=",
        TEXT.replace("SEALBAND:1:", "SEALBAND:2:"),
        TEXT.replace("SEALBAND:1:", ""),
        TEXT.replace("T-BEAM-SX1262", ""),
        TEXT.replace("T-BEAM-SX1262", "T_BEAM"),
        TEXT.replace("T-BEAM-SX1262", "W" * 33),
        TEXT.replace("T-BEAM-SX1262", "A" * 10_000),
        TEXT.replace("24A160FFFE123456", "24A160FFFE12345"),
        TEXT.replace("24A160FFFE123456", "24A160FFFE12345G"),
        TEXT.replace("24A160FFFE123456", "24A160FFFE12345٣"),
        TEXT.replace(CLAIM_TEXT, "AAISEM2EKVTHPCE1"),
        TEXT.replace(CLAIM_TEXT, "AAISEM2EKVTHPCE0"),
        TEXT.replace(":T-BEAM", ":T-BEAM:X"),
        f"https://example.org/{TEXT}",
    ],
)
def test_text_that_is_not_a_labels_is_refused_without_repeating_it(text: str):
    with pytest.raises(LabelError) as error:
        labels.parse(text)
    assert error.value.remedy
    assert CLAIM_TEXT not in str(error.value) + error.value.remedy


@pytest.mark.parametrize("model", ["", "T-Beam", "t_beam", "t beam", "-t", "t:1", "t^1", "x" * 33, "é", "t-beam\n"])
def test_model_that_a_label_cannot_bear_is_refused(model: str):
    with pytest.raises(LabelError, match="cannot stand on a label"):
        Label(EUI, model, CLAIM)


@pytest.mark.parametrize(
    ("eui", "claim"), [(EUI[:7], CLAIM), (EUI + b"x", CLAIM), (EUI, CLAIM[:9]), (EUI, CLAIM + b"x")]
)
def test_eui_or_claim_of_another_length_is_refused(eui: bytes, claim: bytes):
    with pytest.raises(LabelError) as error:
        Label(eui, "t-beam-sx1262", claim)
    assert claim.hex() not in str(error.value)


def test_claim_is_in_no_representation_and_no_file_name():
    said = repr(LABEL) + str(LABEL) + LABEL.file_stem
    for secret in (CLAIM_TEXT, CLAIM.hex(), repr(CLAIM)[2:-1]):
        assert secret not in said
    assert LABEL.file_stem == "24a160fffe123456"


def test_files_are_for_their_owner_alone_even_over_a_file_that_was_not(tmp_path: Path):
    umask = os.umask(0)
    try:
        for write, name in ((LABEL.png, "label.png"), (LABEL.svg, "label.svg")):
            (tmp_path / name).write_text("old")
            (tmp_path / name).chmod(0o666)
            write(tmp_path / name)
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(umask)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["label.png", "label.svg"]


def test_label_that_cannot_be_written_whole_leaves_the_old_one_and_nothing_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    LABEL.svg(tmp_path / "label.svg")
    before = (tmp_path / "label.svg").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LabelError, match="No space left") as error:
        LONGEST.svg(tmp_path / "label.svg")
    assert error.value.remedy
    assert (tmp_path / "label.svg").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["label.svg"]
    with pytest.raises(LabelError, match="No such file"):
        LABEL.png(tmp_path / "missing" / "label.png")
