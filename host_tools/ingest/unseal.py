"""Opens uplinks and seals downlinks with keys that it is given. Pure: no clock, no database, no socket.

Who the candidates of a frame are, whether it is a replay, and which downlink counter is next, is decided by the
caller. Nothing in a frame is to be believed before `open_uplink` returned it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from host_tools.ingest.refusals import Reason, Refused
from provisioning.keys import EpochKeys
from sealwire import frame as wire
from sealwire.frame import Frame


@dataclass(frozen=True)
class Candidate:
    """A device in one epoch, whose frame it may be. Keep it for the next frame: the cipher is made once.

    Attributes:
        eui: 8 bytes.
        epoch: the whole number, not mod 8.
        keys: of that epoch.
    """

    eui: bytes
    epoch: int
    keys: EpochKeys

    @cached_property
    def uplink_cipher(self) -> AESCCM:
        """AES-CCM under the uplink key."""
        return AESCCM(self.keys.ku, tag_length=wire.TAG_LEN)


@dataclass(frozen=True, slots=True)
class Opened:
    """A genuine frame; whether it is new is not known here.

    Attributes:
        candidate: whose it is; the object that was passed in.
        hello: it was a hello.
        ctr: its counter, 0 to 65535.
        plaintext: what the device sealed; still input, to be decoded with care.
    """

    candidate: Candidate
    hello: bool
    ctr: int
    plaintext: bytes


def parse(frame: bytes) -> Frame:
    """Split an uplink without believing it.

    Args:
        frame: as received, any length.

    Raises:
        Refused: MALFORMED, or UNSUPPORTED_KIND for a fragment, which only a group's sender makes.
    """
    try:
        parts: Frame = wire.parse(frame)
    except wire.FrameError as error:
        raise Refused(Reason.MALFORMED, str(error)) from None
    if parts.kind == wire.KIND_FRAGMENT:
        raise Refused(Reason.UNSUPPORTED_KIND, "a group fragment is no uplink")
    return parts


def open_uplink(frame: bytes, candidates: Iterable[Candidate]) -> Opened:
    """Open a frame with the one candidate whose key fits.

    Candidates that the frame does not name (epoch mod 8 and pseudonym; EUI and epoch of a hello) are not tried.

    Args:
        frame: as received.
        candidates: devices and epochs that it may be of; several may share a pseudonym.

    Raises:
        Refused: MALFORMED, UNSUPPORTED_KIND, UNKNOWN_DEVICE if it names none of the candidates, BAD_TAG.
    """
    parts = parse(frame)
    tried = 0
    for candidate in candidates:
        if not _names(parts, candidate):
            continue
        tried += 1
        nonce = wire.nonce(candidate.keys.iu, parts.ctr)
        aad = wire.associated_data(parts.ctl, candidate.eui, candidate.epoch, parts.ctr)
        try:
            plaintext = candidate.uplink_cipher.decrypt(nonce, parts.sealed, aad)
        except InvalidTag:
            continue
        return Opened(candidate, parts.kind == wire.KIND_HELLO, parts.ctr, plaintext)
    if not tried:
        raise Refused(Reason.UNKNOWN_DEVICE, "the frame names no device that is known in such an epoch")
    raise Refused(Reason.BAD_TAG, f"none of {tried} keys opens it")


def seal_downlink(keys: EpochKeys, eui: bytes, epoch: int, ctr: int, plaintext: bytes) -> bytes:
    """Seal a frame to a device.

    Args:
        keys: of the device in that epoch.
        eui: 8 bytes.
        epoch: the whole number.
        ctr: 0 to 65535, never used before in this epoch, and committed as used: twice would lay both plaintexts open.
        plaintext: at most 242 bytes.

    Returns:
        The frame, 13 bytes longer than the plaintext.

    Raises:
        ValueError: the counter or the length is out of range.
    """
    if not 0 <= ctr <= wire.CTR_MAX:
        raise ValueError(f"downlink counter {ctr} is not in 0 to {wire.CTR_MAX}")
    if len(plaintext) > wire.FRAME_MAX - wire.OVERHEAD:
        raise ValueError(f"plaintext of {len(plaintext)} bytes does not fit a frame")
    header: bytes = wire.header(wire.KIND_DATA, epoch, keys.did, ctr)
    aad = wire.associated_data(header[0], eui, epoch, ctr)
    cipher = AESCCM(keys.kd, tag_length=wire.TAG_LEN)
    return header + cipher.encrypt(wire.nonce(keys.id, ctr), plaintext, aad)


def _names(parts: Frame, candidate: Candidate) -> bool:
    if parts.kind == wire.KIND_HELLO:
        return (parts.eui, parts.epoch) == (candidate.eui, candidate.epoch)
    return (parts.epoch_bits, parts.did) == (candidate.epoch & wire.EPOCH_BITS_MASK, candidate.keys.did)
