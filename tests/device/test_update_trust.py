# Trust lists: what a device reads there, which it lets follow, and how it counts signatures.
import json
import os

from sealband.crypto import cbor, cose, p256
from sealband.update import trust
from sealband.update.refused import UpdateRefused
from sealwire import update as codes

with open("tests/vectors/trust-v1.json") as _file:
    V = json.load(_file)
KEYS = {name: bytes.fromhex(key) for name, key in V["keys"].items()}
FIRST = bytes.fromhex(V["lists"]["1"])
SECOND = bytes.fromhex(V["lists"]["2"])


def test_what_is_read():
    first = trust.parse(FIRST)
    assert (first.version, first.threshold, first.root_threshold, first.expires) == (1, 2, 2, None)
    assert first.release_keys == [KEYS["r1"], KEYS["r2"], KEYS["r3"]]
    assert first.root_keys == [KEYS["a"], KEYS["b"], KEYS["c"]]
    second = trust.parse(SECOND)
    assert (second.version, second.expires) == (2, 50000000)
    assert second.release_keys == [KEYS["r2"], KEYS["r3"], KEYS["r4"]]


def test_rotations():
    first = trust.parse(FIRST)
    taken = 0
    for case in V["rotations"]:
        signed = bytes.fromhex(case["signed"])
        try:
            payload = trust.rotate(first, signed, case["now_s"])
        except UpdateRefused as error:
            assert case["code"] and error.code == getattr(codes, case["code"]), case["name"]
        else:
            assert case["code"] is None, case["name"]
            # what is kept is what was signed
            assert payload == cbor.decode(signed)[0] and trust.parse(payload).version == 2
            taken += 1
    assert taken == 5


def test_expiry():
    assert not trust.parse(FIRST).expired(0xFFFFFFFF)
    second = trust.parse(SECOND)
    assert not second.expired(49999999) and second.expired(50000000)


# Else a device that slept through a list's time could never be given another one.
def test_an_expired_list_may_be_followed():
    fields = cbor.decode(FIRST)
    fields[6] = 0
    held = trust.parse(cbor.encode(fields))
    assert held.expired(1)
    signed = bytes.fromhex(V["rotations"][0]["signed"])
    assert trust.rotate(held, signed, 1) == SECOND


def test_load():
    path = "trust-list-for-a-test"
    with open(path, "wb") as file:
        file.write(SECOND)
    try:
        assert trust.load(path).version == 2
        for bad in (b"", SECOND[:-1], SECOND + b"\x00", bytes(5000)):
            with open(path, "wb") as file:
                file.write(bad)
            try:
                trust.load(path)
                raise AssertionError(bad)
            except UpdateRefused as error:
                assert error.code == codes.TRUST_MALFORMED
    finally:
        os.remove(path)
    try:
        trust.load(path)
        raise AssertionError("no file")
    except OSError:
        pass


def test_cut_at_every_length():
    first = trust.parse(FIRST)
    signed = bytes.fromhex(V["rotations"][0]["signed"])
    for length in range(len(signed)):
        try:
            trust.rotate(first, signed[:length])
            raise AssertionError(length)
        except UpdateRefused as error:
            assert error.code == codes.TRUST_MALFORMED
    for length in range(len(FIRST)):
        try:
            trust.parse(FIRST[:length])
            raise AssertionError(length)
        except UpdateRefused as error:
            assert error.code == codes.TRUST_MALFORMED


# As many keys as may be, each of which signs, go into what a device takes.
def test_the_largest_list():
    secrets = [bytes(31) + bytes((i,)) for i in range(1, 33)]
    points = [p256.public_key(secret)[1:] for secret in secrets]
    fields = {1: 1, 2: 16, 3: points[:16], 4: 8, 5: points[16:]}
    held = trust.parse(cbor.encode(fields))
    fields[1] = 2
    payload = cbor.encode(fields)
    signatures = [_sign(secret, payload) for secret in secrets[16:]]
    signed = cbor.encode([payload, signatures])
    assert len(signed) <= codes.TRUST_MAX
    assert trust.rotate(held, signed) == payload


# Stops once it is enough in each group; a key of both is verified once.
def test_signatures_that_are_verified():
    first = trust.parse(FIRST)
    kept = p256.verify
    calls = []
    p256.verify = lambda *what: calls.append(1) or kept(*what)
    try:
        for name, wanted in (
            ("the next list", 3),
            ("keys that are root keys of both count for both", 2),
            ("roots all changed", 4),
            ("signatures of unknown keys among them", 2),
            ("the same root twice", 2),
            ("trust list of an old version", 0),
            ("expired trust list", 0),
            ("signed by release keys", 0),
            ("release keys that call themselves roots", 2),
        ):
            calls.clear()
            case = [case for case in V["rotations"] if case["name"] == name][0]
            try:
                trust.rotate(first, bytes.fromhex(case["signed"]), case["now_s"])
            except UpdateRefused:
                pass
            assert len(calls) == wanted, (name, len(calls))
    finally:
        p256.verify = kept


# Eight bytes of a name can be made to collide: both keys are asked, and each counts for itself.
def test_two_keys_of_one_name():
    class Named:
        payload = None

        def __init__(self, by):
            self.by = by
            self.kid = bytes(8)

        def verify(self, public, payload):
            return public[1:] == self.by

    class Digest:
        def __init__(self, _data):
            pass

        def digest(self):
            return bytes(32)

    a, b = KEYS["a"], KEYS["b"]
    kept = trust.sha256
    trust.sha256 = Digest
    try:
        assert trust.enough([Named(b)], b"", ((1, [a, b]),))
        assert trust.enough([Named(b), Named(a)], b"", ((2, [a, b]),))
        assert not trust.enough([Named(b), Named(b)], b"", ((2, [a, b]),))
        assert not trust.enough([Named(KEYS["c"])], b"", ((1, [a, b]),))
    finally:
        trust.sha256 = kept


def _sign(secret, payload):
    from hashlib import sha256

    kid = sha256(p256.public_key(secret)).digest()[:8]
    return cbor.decode(cose.sign1(secret, payload, unprotected={4: kid}, detached=True))
