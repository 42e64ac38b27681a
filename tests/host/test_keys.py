"""The host's key chain against the check values, RFC 5869, and what must be refused."""

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from provisioning import keys
from tests.support.frames import vectors


def given(name: str) -> bytes:
    return bytes.fromhex(vectors()[name])


def private(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int(vectors()[name], 16), ec.SECP256R1())


def hkdf_expand(prk: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 section 2.3 on the standard library alone."""
    block, out, number = b"", b"", 1
    while len(out) < length:
        block = hmac.new(prk, block + info + bytes([number]), hashlib.sha256).digest()
        out, number = out + block, number + 1
    return out[:length]


@pytest.mark.parametrize(("mine", "theirs"), [("device", "ticket"), ("ticket", "device")])
def test_both_sides_reach_the_same_secret(mine: str, theirs: str) -> None:
    assert keys.shared_secret(private(f"{mine}_private"), given(f"{theirs}_pub")) == given("z")


@pytest.mark.parametrize("length", [0, 1, 33, 64, 66])
def test_public_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="65 bytes"):
        keys.shared_secret(private("device_private"), bytes(length))


def test_compressed_and_off_curve_public_keys_are_refused() -> None:
    point = bytearray(given("ticket_pub"))
    point[0] = 2
    with pytest.raises(ValueError, match="65 bytes"):
        keys.shared_secret(private("device_private"), bytes(point))
    point[0] = 4
    point[-1] ^= 1
    with pytest.raises(ValueError):  # noqa: PT011 - the library's own
        keys.shared_secret(private("device_private"), bytes(point))


def test_key_is_the_same_as_from_the_rfc_text() -> None:
    root, eui = given("ck0"), given("eui")
    assert keys.ratchet(root) == hkdf_expand(root, b"sealband/1 ratchet", 32)
    assert keys.rekey(root, bytes(16)) == hkdf_expand(root, b"sealband/1 rekey" + bytes(16), 32)
    block = hkdf_expand(root, b"sealband/1 keys" + eui, 60)
    assert keys.epoch_keys(root, eui) == keys.EpochKeys(
        block[:16], block[16:32], block[32:45], block[45:58], block[58:]
    )


def test_no_two_labels_or_devices_give_the_same_key() -> None:
    root = given("ck0")
    derived = [keys.ratchet(root), keys.rekey(root, bytes(16)), keys.rekey(root, b"\x01" * 16), root]
    assert len(set(derived)) == 4
    assert keys.epoch_keys(root, bytes(8)) != keys.epoch_keys(root, b"\x01" * 8)


@pytest.mark.parametrize("field", range(6))
def test_transcript_field_of_another_length_is_refused(field: int) -> None:
    fields = [bytes(8), bytes(8), bytes(65), bytes(65), bytes(16), bytes(16)]
    assert len(keys.transcript(*fields)) > 0
    for wrong in (fields[field] + b"\x00", fields[field][1:]):
        with pytest.raises(ValueError, match="expected"):
            keys.transcript(*fields[:field], wrong, *fields[field + 1 :])


def test_chain_key_secret_and_rekey_bytes_of_another_length_are_refused() -> None:
    for call in (
        lambda: keys.ratchet(bytes(31)),
        lambda: keys.rekey(bytes(32), bytes(15)),
        lambda: keys.root_key(bytes(31), b""),
        lambda: keys.epoch_keys(bytes(32), bytes(7)),
        lambda: keys.confirm(bytes(16), b""),
    ):
        with pytest.raises(ValueError, match="expected"):
            call()


def test_secret_keys_do_not_show_in_a_log() -> None:
    shown = repr(keys.epoch_keys(given("ck0"), given("eui")))
    assert vectors()["epochs"][0]["ku"] not in shown and "8f\\xda" not in shown
    assert shown == "EpochKeys(did=b'@\\xa4')"
