"""The sync: what the server tells a device about the frames it has stored. Pure.

A sync speaks of one epoch, that of the key it is sealed under. It names the newest counter stored there and which of
the 32 before it are stored too. If the frame that is being answered lies further back than that, the statement is
anchored at its counter instead: still true, and the device can let go of the frame.

Over LoRa it also says by how much the frame that it answers was above what can still be demodulated: by that the device
chooses its data rate.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import cbor2

from sealwire.messages import EPOCH_2025, SYNC, SYNC_BITMAP_LEN

MARGIN_MIN, MARGIN_MAX = -64, 63
# SX1261/2 datasheet table 6-1: the least signal to noise ratio that is still demodulated, by spreading factor
DEMODULATION_FLOOR_DB = {5: -2.5, 6: -5.0, 7: -7.5, 8: -10.0, 9: -12.5, 10: -15.0, 11: -17.5, 12: -20.0}


@dataclass(frozen=True, slots=True)
class Sync:
    """A statement about stored frames.

    Attributes:
        t: seconds since 2025-01-01 UTC, at the moment the device hears it.
        anchor: a stored counter, as a rule the newest.
        bitmap: bit i (least significant first) says that anchor - 1 - i is stored.
        release: newest release sequence for the device's model; 0 when there is none.
        margin: dB above the demodulation floor; None where no gateway heard the frame.
    """

    t: int
    anchor: int
    bitmap: int
    release: int
    margin: int | None = None

    def to_bytes(self) -> bytes:
        """The plaintext of the downlink: a CBOR sequence."""
        items = [SYNC, self.t, self.anchor, self.bitmap, self.release]
        if self.margin is not None:
            items.append(self.margin)
        return b"".join(cbor2.dumps(item, canonical=True) for item in items)


def anchor(answered: int, newest: int) -> int:
    """The counter that a sync names: the newest, unless the answered frame is out of the bitmap's reach."""
    return newest if newest - answered <= SYNC_BITMAP_LEN else answered


def bitmap(anchored: int, stored: Iterable[int]) -> int:
    """Mark the stored counters among the 32 before `anchored`; others are ignored."""
    bits = 0
    for ctr in stored:
        index = anchored - 1 - ctr
        if 0 <= index < SYNC_BITMAP_LEN:
            bits |= 1 << index
    return bits


def margin(snr: float, spreading_factor: int) -> int:
    """By how many whole dB a reception was above the demodulation floor of its spreading factor (5 to 12)."""
    above = math.floor(snr - DEMODULATION_FLOOR_DB[spreading_factor])
    return min(max(above, MARGIN_MIN), MARGIN_MAX)


def seconds(unix_s: float) -> int:
    """Unix time as message time; a server whose clock stands before 2025 says 0."""
    return max(0, int(unix_s) - EPOCH_2025)
