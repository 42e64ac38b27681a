"""Reads a QR code from its modules, by ISO/IEC 18004 and with Reed-Solomon from another library than its maker's.

Knows what labels have: versions 1 to 4, error correction M, one segment in alphanumeric mode.
"""

import reedsolo

ALPHANUMERIC = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"  # table 5
# table 9, error correction M: data code words of each block, error correction code words of each block
BLOCKS = {1: ([16], 10), 2: ([28], 16), 3: ([44], 26), 4: ([32, 32], 18)}
MASKS = {  # table 10
    0: lambda i, j: (i + j) % 2 == 0,
    1: lambda i, j: i % 2 == 0,
    2: lambda i, j: j % 3 == 0,
    3: lambda i, j: (i + j) % 3 == 0,
    4: lambda i, j: (i // 2 + j // 3) % 2 == 0,
    5: lambda i, j: i * j % 2 + i * j % 3 == 0,
    6: lambda i, j: (i * j % 2 + i * j % 3) % 2 == 0,
    7: lambda i, j: ((i + j) % 2 + i * j % 3) % 2 == 0,
}
FINDER = ["1111111", "1000001", "1011101", "1011101", "1011101", "1000001", "1111111"]


def read(modules: list[list[bool]]) -> str:
    """The text of a QR code; an assertion fails where it is not one, or a code word is wrong.

    Args:
        modules: rows from the top, without the quiet zone; True is dark.
    """
    size = len(modules)
    version = (size - 17) // 4
    assert size == 17 + 4 * version and all(len(row) == size for row in modules)
    for top, left in ((0, 0), (0, size - 7), (size - 7, 0)):
        found = ["".join("01"[dark] for dark in row[left : left + 7]) for row in modules[top : top + 7]]
        assert found == FINDER
    words = _code_words(modules, version, _mask(modules))
    data = _data(words, *BLOCKS[version])
    bits = "".join(f"{byte:08b}" for byte in data)
    assert bits[:4] == "0010", "not in alphanumeric mode"
    length, at, text = int(bits[4:13], 2), 13, ""
    for _ in range(length // 2):
        pair, at = int(bits[at : at + 11], 2), at + 11
        text += ALPHANUMERIC[pair // 45] + ALPHANUMERIC[pair % 45]
    if length % 2:
        text += ALPHANUMERIC[int(bits[at : at + 6], 2)]
        at += 6
    assert set(bits[at : at + 4]) <= {"0"}, "no terminator"
    return text


def _mask(modules: list[list[bool]]) -> int:
    # format information (figure 25), its first copy around the upper left finder
    places = [(8, j) for j in (0, 1, 2, 3, 4, 5, 7, 8)] + [(i, 8) for i in (7, 5, 4, 3, 2, 1, 0)]
    value = int("".join("01"[modules[i][j]] for i, j in places), 2) ^ 0b101010000010010
    remainder = value
    for shift in range(4, -1, -1):
        if remainder >> (shift + 10) & 1:
            remainder ^= 0b10100110111 << shift
    assert remainder == 0, "the format information is damaged"
    assert value >> 13 == 0b00, "not error correction M"
    return value >> 10 & 7


def _code_words(modules: list[list[bool]], version: int, mask: int) -> list[int]:
    size, bits, upward = len(modules), "", True
    for right in (*range(size - 1, 6, -2), 5, 3, 1):
        for step in range(size):
            i = size - 1 - step if upward else step
            for j in (right, right - 1):
                if not _function(i, j, size, version):
                    bits += "01"[modules[i][j] != MASKS[mask](i, j)]
        upward = not upward
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits) // 8 * 8, 8)]


def _function(i: int, j: int, size: int, version: int) -> bool:
    """Whether a module is none of the data's: finders with format information, timing, alignment (section 6.3)."""
    if (i < 9 and j < 9) or (i < 9 and j >= size - 8) or (i >= size - 8 and j < 9) or i == 6 or j == 6:
        return True
    centre = size - 7
    return version > 1 and abs(i - centre) <= 2 and abs(j - centre) <= 2


def _data(words: list[int], lengths: list[int], correction: int) -> bytes:
    blocks = len(lengths)
    assert len(words) == sum(lengths) + blocks * correction
    assert len(set(lengths)) == 1
    split = sum(lengths)
    data = b""
    for block in range(blocks):
        whole = bytes(words[block:split:blocks] + words[split + block :: blocks])
        code = reedsolo.RSCodec(correction, prim=0x11D, fcr=0, generator=2)
        corrected, _, errors = code.decode(whole)
        assert not errors, "a code word is wrong"
        data += bytes(corrected)
    return data
