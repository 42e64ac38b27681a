"""Every value of tests/vectors/wire-v1.json on the host; tests/device/test_vectors.py does the same on MicroPython."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from host_tools.ingest.unseal import Candidate, open_uplink, seal_downlink
from provisioning import keys
from tests.support.frames import seal_uplink, vectors

V = vectors()
CHECKED: set[str] = {"comment"}


def given(name: str) -> bytes:
    CHECKED.add(name)
    return bytes.fromhex(V[name])


def private(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(given(name), "big"), ec.SECP256R1())


def epoch_keys(epoch: int) -> keys.EpochKeys:
    return keys.epoch_keys(bytes.fromhex(V["epochs"][epoch]["ck"]), bytes.fromhex(V["eui"]))


@pytest.mark.parametrize("side", ["device", "ticket"])
def test_public_keys(side: str) -> None:
    public = private(f"{side}_private").public_key()
    assert public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint) == given(f"{side}_pub")


def test_secret_transcript_root_and_confirmation() -> None:
    z = keys.shared_secret(private("ticket_private"), given("device_pub"))
    assert z == given("z")
    agreed = keys.transcript(
        given("ticket_id"),
        given("eui"),
        given("device_pub"),
        given("ticket_pub"),
        given("station_nonce"),
        given("device_nonce"),
    )
    assert agreed == given("transcript")
    assert keys.root_key(z, agreed) == given("ck0")
    assert keys.confirm(given("ck0"), agreed) == given("confirm")


def test_epochs() -> None:
    CHECKED.add("epochs")
    ck = given("ck0")
    for number, expected in enumerate(V["epochs"]):
        derived = keys.epoch_keys(ck, given("eui"))
        found = {"epoch": number, "ck": ck.hex()}
        found |= {name: getattr(derived, name).hex() for name in ("ku", "kd", "iu", "id", "did")}
        assert found == expected
        ck = keys.ratchet(ck)


def test_rekey() -> None:
    CHECKED.add("rekey")
    command = V["rekey"]
    assert command.keys() == {"from_epoch", "r", "ck"}
    ck = bytes.fromhex(V["epochs"][command["from_epoch"]]["ck"])
    assert keys.rekey(ck, bytes.fromhex(command["r"])).hex() == command["ck"]


@pytest.mark.parametrize("expected", V["frames"], ids=lambda frame: frame["frame"][:10])
def test_frames(expected: dict[str, Any]) -> None:
    CHECKED.add("frames")
    epoch, ctr, eui = expected["epoch"], expected["ctr"], given("eui")
    frame, plaintext = bytes.fromhex(expected["frame"]), bytes.fromhex(expected["plaintext"])
    assert expected.keys() == {"epoch", "ctr", "direction", "hello", "plaintext", "frame"}
    if expected["direction"] == "down":
        assert seal_downlink(epoch_keys(epoch), eui, epoch, ctr, plaintext) == frame
        return
    candidates = [Candidate(eui, each, epoch_keys(each)) for each in range(4)]
    opened = open_uplink(frame, candidates)
    assert (opened.candidate.epoch, opened.ctr, opened.plaintext) == (epoch, ctr, plaintext)
    assert opened.hello == expected["hello"]
    # what the other tests use as a device
    assert seal_uplink(epoch_keys(epoch), eui, epoch, ctr, plaintext, hello=expected["hello"]) == frame


def test_no_value_is_left_out() -> None:
    test_public_keys("device")
    test_public_keys("ticket")
    test_secret_transcript_root_and_confirmation()
    test_epochs()
    test_rekey()
    for frame in V["frames"]:
        test_frames(frame)
    assert V.keys() == CHECKED
