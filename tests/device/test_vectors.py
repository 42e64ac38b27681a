# Every value of tests/vectors/wire-v1.json on the device; tests/host/test_vectors.py does the same on the host.
import json

from device.fakes import FakeNvs

from sealband import keys, seal
from sealband.chain import Chain
from sealband.crypto import p256
from sealband.store import Store

with open("tests/vectors/wire-v1.json") as _file:
    V = json.load(_file)
CHECKED = {"comment"}


def given(name):
    CHECKED.add(name)
    return bytes.fromhex(V[name])


# A chain that stands where a check value needs it.
def chain_at(epoch, counter=0):
    chain = Chain.create(Store(FakeNvs()), given("eui"), given("ck0"), 0)
    while chain.epoch < epoch:
        chain.acknowledged(0, chain.epoch)
        chain._began_s = 0
        assert chain.advance(86400)
    chain._next = chain._high = counter
    return chain


def test_public_keys_and_secret():
    assert p256.public_key(given("device_private")) == given("device_pub")
    assert p256.public_key(given("ticket_private")) == given("ticket_pub")
    assert p256.ecdh(given("device_private"), given("ticket_pub")) == given("z")


def test_transcript_root_and_confirmation():
    agreed = keys.transcript(
        given("ticket_id"),
        given("eui"),
        given("device_pub"),
        given("ticket_pub"),
        given("station_nonce"),
        given("device_nonce"),
    )
    assert agreed == given("transcript")
    assert keys.root_key(given("z"), agreed) == given("ck0")
    assert keys.confirm(given("ck0"), agreed) == given("confirm")


def test_epochs():
    CHECKED.add("epochs")
    ck = given("ck0")
    for number, expected in enumerate(V["epochs"]):
        ku, kd, iu, iv, did = keys.epoch_keys(ck, given("eui"))
        found = {"epoch": number, "ck": ck, "ku": ku, "kd": kd, "iu": iu, "id": iv, "did": did}
        assert len(found) == len(expected)
        for name in expected:
            value = found[name]
            assert (value if name == "epoch" else value.hex()) == expected[name], name
        assert chain_at(number)._ck == ck
        ck = keys.ratchet(ck)


def test_rekey():
    CHECKED.add("rekey")
    command = V["rekey"]
    ck = bytes.fromhex(V["epochs"][command["from_epoch"]]["ck"])
    assert keys.rekey(ck, bytes.fromhex(command["r"])).hex() == command["ck"]


def test_frames():
    CHECKED.add("frames")
    for expected in V["frames"]:
        chain = chain_at(expected["epoch"], expected["ctr"])
        plaintext = bytes.fromhex(expected["plaintext"])
        wanted = bytes.fromhex(expected["frame"])
        if expected["direction"] == "down":
            assert seal.open_downlink(chain, wanted) == (expected["epoch"], expected["ctr"], plaintext)
            continue
        make = seal.hello if expected["hello"] else seal.seal
        assert make(chain, plaintext) == (expected["ctr"], wanted)


def test_no_value_is_left_out():
    for check in (
        test_public_keys_and_secret,
        test_transcript_root_and_confirmation,
        test_epochs,
        test_rekey,
        test_frames,
    ):
        check()
    assert set(V) == CHECKED
