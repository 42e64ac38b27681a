"""PPP's frames on a serial line: HDLC-like framing with octet stuffing and a 16-bit FCS (RFC 1662).

Bytes to frames and back; any bytes may be fed, and what is no frame is counted and dropped. What frames mean is in
`host_tools.sim.ppp`.
"""

import binascii
import re
from collections.abc import Iterator

FLAG = 0x7E
ESCAPE = 0x7D
GOOD_FCS = 0xF0B8  # RFC 1662 appendix C.2: what the FCS over a frame and its FCS comes to
ALL_CONTROLS = 0xFFFFFFFF  # the map before LCP has agreed on another
FRAME_MAX = 4096  # nobody sends longer ones: our MRU is 1500

# binascii's CRC has the same polynomial, most significant bit first
_MIRROR = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_ESCAPED = re.compile(rb"\x7d(.)", re.DOTALL)


def fcs16(data: bytes) -> int:
    """The FCS register after these bytes, before its complement (RFC 1662 appendix C.2)."""
    crc = binascii.crc_hqx(data.translate(_MIRROR), 0xFFFF)
    return _MIRROR[crc >> 8] | _MIRROR[crc & 0xFF] << 8


def encode(frame: bytes, control_map: int = ALL_CONTROLS) -> bytes:
    """A frame as it goes onto the line.

    Args:
        frame: address, control, protocol and information; the FCS is added here.
        control_map: bit n set: the control character n is escaped, as the receiver has asked (its ACCM).
    """
    whole = frame + (fcs16(frame) ^ 0xFFFF).to_bytes(2, "little")
    out = whole.replace(b"\x7d", b"\x7d\x5d").replace(b"\x7e", b"\x7d\x5e")
    if control_map:
        for code in range(32):
            if control_map >> code & 1:
                out = out.replace(bytes((code,)), bytes((ESCAPE, code ^ 0x20)))
    return b"\x7e" + out + b"\x7e"


class Deframer:
    """Frames out of what a line brings.

    Attributes:
        control_map: control characters that the sender escapes: unescaped ones were put in on the way and are dropped.
        damaged: how many frames had a wrong FCS, were aborted, too short or too long.
    """

    def __init__(self) -> None:
        self.control_map = ALL_CONTROLS
        self.damaged = 0
        self._begun = bytearray()
        self._overlong = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes; gives the frames that they complete, without their FCS, to be taken to the last one.

        One after the other: a frame of LCP can change how the next one in the same bytes is to be read.
        """
        *ended, rest = data.split(b"\x7e")
        for piece in ended:
            self._add(piece)
            frame = self._end()
            if frame is not None:
                yield frame
        self._add(rest)

    def _add(self, piece: bytes) -> None:
        if len(self._begun) + len(piece) > 2 * FRAME_MAX:
            self._overlong = True
        if self._overlong:
            self._begun.clear()
        else:
            self._begun += piece

    def _end(self) -> bytes | None:
        raw, overlong = bytes(self._begun), self._overlong
        self._begun.clear()
        self._overlong = False
        if overlong:
            self.damaged += 1
            return None
        if not raw:
            return None  # two flags in a row
        if self.control_map:
            raw = raw.translate(None, bytes(code for code in range(32) if self.control_map >> code & 1))
        if raw.endswith(b"\x7d"):
            self.damaged += 1  # the sender has aborted it
            return None
        whole = _ESCAPED.sub(lambda found: bytes((found[1][0] ^ 0x20,)), raw)
        if len(whole) < 4 or fcs16(whole) != GOOD_FCS:
            self.damaged += 1
            return None
        return whole[:-2]
