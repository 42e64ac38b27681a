"""Attacks on the server through uplinks, by name. That a stored frame is not stored again is ingest's own test."""

import pytest

from host_tools.ingest.refusals import Reason, Refused
from host_tools.ingest.unseal import Candidate, open_uplink, seal_downlink
from provisioning import keys
from sealwire.frame import FRAME_MAX
from tests.support.frames import seal_uplink, vectors

EUI = bytes.fromhex("70b3d5fffe001234")
OTHER = bytes.fromhex("70b3d5fffe005678")
ROOT = bytes.fromhex(vectors()["ck0"])


def at(epoch: int, eui: bytes = EUI, root: bytes = ROOT) -> Candidate:
    for _ in range(epoch):
        root = keys.ratchet(root)
    return Candidate(eui, epoch, keys.epoch_keys(root, eui))


WINDOW = [at(epoch) for epoch in range(4)]


def uplink(who: Candidate, ctr: int = 300, plaintext: bytes = b"a reading", *, hello: bool = False) -> bytes:
    return seal_uplink(who.keys, who.eui, who.epoch, ctr, plaintext, hello=hello)


def refusal(frame: bytes, candidates: list[Candidate]) -> Reason:
    with pytest.raises(Refused) as refused:
        open_uplink(frame, candidates)
    return refused.value.reason


def under(pseudonym: Candidate, frame: bytes) -> bytes:
    """The same frame with another device's name on it."""
    return bytes([frame[0] & 0xF8 | pseudonym.epoch % 8]) + pseudonym.keys.did + frame[3:]


@pytest.mark.parametrize("epoch", range(4))
def test_reflected_frame_is_refused(epoch: int) -> None:
    # what the server sent to the device comes back as if the device had sent it
    who = WINDOW[epoch]
    for ctr in (0, 1, 300, 65535):
        assert refusal(seal_downlink(who.keys, EUI, epoch, ctr, b"\x10"), WINDOW) is Reason.BAD_TAG


def test_frame_of_another_device_is_refused() -> None:
    foreign = uplink(at(0, OTHER))
    assert refusal(foreign, WINDOW) is Reason.UNKNOWN_DEVICE
    assert refusal(under(WINDOW[0], foreign), WINDOW) is Reason.BAD_TAG


def test_hello_under_the_eui_of_another_device_is_refused() -> None:
    hello = uplink(at(0, OTHER), hello=True)
    assert refusal(hello[:1] + EUI + hello[9:], WINDOW) is Reason.BAD_TAG


def test_frame_of_a_board_enrolled_under_the_same_eui_is_refused() -> None:
    clone = at(0, EUI, bytes(32))
    assert refusal(under(WINDOW[0], uplink(clone)), WINDOW) is Reason.BAD_TAG


def test_frame_of_an_old_epoch_is_refused() -> None:
    window = [at(epoch) for epoch in range(5, 9)]
    frame = uplink(at(3))
    assert refusal(frame, window) is Reason.UNKNOWN_DEVICE
    assert refusal(under(window[0], frame), window) is Reason.BAD_TAG


def test_frame_eight_epochs_old_is_refused() -> None:
    frame = uplink(at(0))
    later = at(8)
    assert frame[0] & 7 == later.epoch & 7
    assert refusal(frame[:1] + later.keys.did + frame[3:], [later]) is Reason.BAD_TAG


def test_hello_that_claims_another_epoch_is_refused() -> None:
    hello = uplink(at(1), hello=True)
    claimed = bytes([hello[0] & 0xF8 | 2]) + hello[1:9] + (2).to_bytes(4, "big") + hello[13:]
    assert refusal(claimed, WINDOW) is Reason.BAD_TAG
    assert refusal(hello[:9] + (2).to_bytes(4, "big") + hello[13:], WINDOW) is Reason.MALFORMED


@pytest.mark.parametrize("hello", [False, True])
def test_truncated_tag_is_refused(hello: bool) -> None:
    frame = uplink(WINDOW[0], hello=hello)
    for length in range(len(frame)):
        assert refusal(frame[:length], WINDOW) in (Reason.MALFORMED, Reason.BAD_TAG)
    assert open_uplink(frame, WINDOW).plaintext == b"a reading"


def test_lengthened_frame_is_refused() -> None:
    frame = uplink(WINDOW[0])
    for more in (1, 8, FRAME_MAX - len(frame), FRAME_MAX):
        assert refusal(frame + bytes(more), WINDOW) in (Reason.MALFORMED, Reason.BAD_TAG)


@pytest.mark.parametrize("hello", [False, True])
def test_frame_with_any_bit_flipped_is_refused(hello: bool) -> None:
    frame = uplink(WINDOW[0], hello=hello)
    for bit in range(len(frame) * 8):
        bad = bytearray(frame)
        bad[bit // 8] ^= 1 << bit % 8
        assert refusal(bytes(bad), WINDOW) in (
            Reason.MALFORMED,
            Reason.UNSUPPORTED_KIND,
            Reason.UNKNOWN_DEVICE,
            Reason.BAD_TAG,
        )
    assert open_uplink(frame, WINDOW).plaintext == b"a reading"


def test_check_value_with_any_bit_flipped_is_refused() -> None:
    for expected in vectors()["frames"]:
        if expected["direction"] == "up":
            frame = bytes.fromhex(expected["frame"])
            for bit in range(len(frame) * 8):
                bad = bytearray(frame)
                bad[bit // 8] ^= 1 << bit % 8
                refusal(bytes(bad), WINDOW)


def test_ciphertext_under_the_header_of_another_frame_is_refused() -> None:
    one, two = uplink(WINDOW[0], 1), uplink(WINDOW[0], 2)
    assert refusal(one[:5] + two[5:], WINDOW) is Reason.BAD_TAG
    hello = uplink(WINDOW[0], 1, hello=True)
    assert refusal(hello[:15] + one[5:], WINDOW) is Reason.BAD_TAG
    assert refusal(one[:5] + hello[15:], WINDOW) is Reason.BAD_TAG
