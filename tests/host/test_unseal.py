"""Opening uplinks and sealing downlinks: what is accepted, and the one reason for each refusal."""

import random

import cbor2
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from hypothesis import given, settings
from hypothesis import strategies as st

from host_tools.ingest.refusals import Reason, Refused
from host_tools.ingest.unseal import Candidate, open_uplink, parse, seal_downlink
from provisioning import keys
from sealwire import frame as wire
from tests.support.frames import seal_uplink

EUI = bytes.fromhex("70b3d5fffe001234")
OTHER = bytes.fromhex("70b3d5fffe005678")
ROOT = bytes(range(32))


def candidate(eui: bytes = EUI, epoch: int = 0, root: bytes = ROOT) -> Candidate:
    ck = root
    for _ in range(epoch):
        ck = keys.ratchet(ck)
    return Candidate(eui, epoch, keys.epoch_keys(ck, eui))


def uplink(who: Candidate, ctr: int = 5, plaintext: bytes = b"\x00", *, hello: bool = False, kind: int = 0) -> bytes:
    return seal_uplink(who.keys, who.eui, who.epoch, ctr, plaintext, hello=hello, kind=kind)


def reason(frame: bytes, *candidates: Candidate) -> Reason:
    with pytest.raises(Refused) as refused:
        open_uplink(frame, candidates)
    return refused.value.reason


@given(st.binary(max_size=242), st.integers(0, 65535), st.integers(0, 2**32 - 1), st.binary(min_size=8, max_size=8))
@settings(deadline=None)
def test_frame_opens_as_it_was_sealed(plaintext: bytes, ctr: int, epoch: int, eui: bytes) -> None:
    who = Candidate(eui, epoch, keys.epoch_keys(ROOT, eui))
    opened = open_uplink(uplink(who, ctr, plaintext), [who])
    assert (opened.plaintext, opened.ctr, opened.candidate, opened.hello) == (plaintext, ctr, who, False)
    assert opened.candidate is who


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_any_bytes_are_refused_by_name(data: bytes) -> None:
    assert reason(data, candidate()) in (
        Reason.MALFORMED,
        Reason.UNSUPPORTED_KIND,
        Reason.UNKNOWN_DEVICE,
        Reason.BAD_TAG,
    )


def test_overhead_is_thirteen_bytes_with_a_tag_of_eight() -> None:
    assert len(uplink(candidate(), plaintext=b"x" * 43)) == 43 + 13
    assert len(seal_downlink(candidate().keys, EUI, 0, 0, b"x" * 43)) == 43 + 13


def test_hello_opens_for_the_eui_that_it_names() -> None:
    opened = open_uplink(uplink(candidate(epoch=3), 7, b"hi", hello=True), [candidate(OTHER, 3), candidate(epoch=3)])
    assert (opened.hello, opened.plaintext, opened.candidate.eui) == (True, b"hi", EUI)
    assert reason(uplink(candidate(epoch=3), hello=True), candidate(epoch=2)) is Reason.UNKNOWN_DEVICE


def test_devices_that_share_a_pseudonym_are_told_apart_by_the_tag() -> None:
    one, two = candidate(), candidate(OTHER)
    twin = Candidate(OTHER, 0, keys.EpochKeys(two.keys.ku, two.keys.kd, two.keys.iu, two.keys.id, one.keys.did))
    for sender in (one, twin):
        for order in ([one, twin], [twin, one]):
            assert open_uplink(uplink(sender), order).candidate is sender


def test_frame_of_nobody_is_an_unknown_device() -> None:
    assert reason(uplink(candidate())) is Reason.UNKNOWN_DEVICE
    assert reason(uplink(candidate()), candidate(OTHER)) is Reason.UNKNOWN_DEVICE


def test_fragment_and_reserved_kind_are_refused() -> None:
    assert reason(uplink(candidate(), kind=1), candidate()) is Reason.UNSUPPORTED_KIND
    assert reason(uplink(candidate(), kind=3), candidate()) is Reason.MALFORMED


def test_parse_tells_what_is_wrong() -> None:
    with pytest.raises(Refused, match="malformed: frame of 3 bytes is shorter than 13"):
        parse(b"\xe0\x00\x00")


def test_downlink_opens_with_the_downlink_key_and_nothing_else() -> None:
    who = candidate(epoch=9)
    frame = seal_downlink(who.keys, EUI, 9, 258, b"\x10")
    # written from the text of the wire format
    aad = cbor2.dumps(["Encrypt0", b"\xa1\x01\x0a", frame[:1] + EUI + (9).to_bytes(4, "big") + b"\x01\x02"])
    nonce = (int.from_bytes(who.keys.id, "big") ^ 258).to_bytes(13, "big")
    assert frame[:5] == b"\xe1" + who.keys.did + b"\x01\x02"
    assert AESCCM(who.keys.kd, tag_length=8).decrypt(nonce, frame[5:], aad) == b"\x10"


@pytest.mark.parametrize("ctr", [-1, 65536])
def test_downlink_counter_out_of_range_is_refused(ctr: int) -> None:
    with pytest.raises(ValueError, match="counter"):
        seal_downlink(candidate().keys, EUI, 0, ctr, b"")


def test_downlink_that_fits_no_frame_is_refused() -> None:
    assert len(seal_downlink(candidate().keys, EUI, 0, 0, bytes(242))) == wire.FRAME_MAX
    with pytest.raises(ValueError, match="fit"):
        seal_downlink(candidate().keys, EUI, 0, 0, bytes(243))


def test_associated_data_is_the_enc_structure_of_cose() -> None:
    maker = random.Random(1)
    for _ in range(100):
        ctl, eui, epoch, ctr = maker.randrange(256), maker.randbytes(8), maker.randrange(2**32), maker.randrange(65536)
        expected = cbor2.dumps(
            ["Encrypt0", cbor2.dumps({1: 10}), bytes([ctl]) + eui + epoch.to_bytes(4, "big") + ctr.to_bytes(2, "big")]
        )
        assert wire.associated_data(ctl, eui, epoch, ctr) == expected
