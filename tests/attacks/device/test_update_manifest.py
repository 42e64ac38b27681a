# What somebody may try who owns the server, the network, or too few keys. Envelopes and lists are made by
# tests/support/update_vectors.py with other libraries; each is well-formed but for what its name says.
import json
import os

from sealband.update import manifest, trust
from sealband.update.refused import UpdateRefused
from sealwire import update as codes

TIMEOUT_S = 300


with open("tests/vectors/update-v1.json") as _file:
    V = json.load(_file)
with open("tests/vectors/trust-v1.json") as _file:
    OFFERS = {case["name"]: case for case in json.load(_file)["rotations"]}
ATTACKS = V["attacks"]
TRUST = bytes.fromhex(V["trust"])
GOOD = bytes.fromhex(V["taken"]["2 of 3"])
FLOOR = 6


def identity(floor=FLOOR):
    given = V["identity"]
    floors = {b"app": floor, b"fw": floor}
    limits = {name.encode(): value for name, value in given["limits"].items()}
    return manifest.Identity(bytes.fromhex(given["vendor"]), bytes.fromhex(given["class"]), floors, limits)


IDENTITY = identity()


# The code that an envelope meets, None if it is taken.
def code(envelope, held=None, device=None):
    try:
        manifest.verify(envelope, held or trust.parse(TRUST), device or IDENTITY)
    except UpdateRefused as error:
        return error.code
    return None


def refused(*names):
    for name in names:
        case = ATTACKS[name]
        assert code(bytes.fromhex(case["envelope"])) == getattr(codes, case["code"]), name


# The trust list that a device holding list 1 has after it was offered this one, or the code.
def offered(name, held=None):
    case = OFFERS[name]
    try:
        return trust.parse(trust.rotate(held or trust.parse(TRUST), bytes.fromhex(case["signed"]), case["now_s"]))
    except UpdateRefused as error:
        return error.code


def test_the_good_one_is_taken():
    assert code(GOOD) is None


def test_unsigned_update():
    refused("unsigned update")


def test_one_signature_too_few():
    refused("one signature too few", "one signature does not verify", "signed by a key that is not in the list")


def test_the_same_key_twice():
    refused(
        "the same key twice",
        "the same key twice, its signature written the other way",
        "the same key twice, by both names of the algorithm",
    )


def test_keys_that_may_not_sign_releases():
    refused("signed by root keys", "a key that calls itself by another's name")


def test_signatures_from_elsewhere():
    refused(
        "signatures of another manifest",
        "manifest exchanged below its signatures",
        "trust list's signature used for a manifest",
    )


def test_revoked_key():
    held = offered("the next list")
    assert held.version == 2
    assert code(GOOD) is None and code(GOOD, held) == codes.TOO_FEW_SIGNATURES
    # the keys that stayed go on
    others = bytes.fromhex(V["taken"]["the other 2 of 3"])
    assert code(others, held) is None


def test_old_release():
    refused("old release", "the release that runs")


# The server keeps back release 8, which was ordered, and serves release 7, validly signed: it is not what was ordered
# (the updater compares digest and sequence), and once 8 is confirmed, 7 is old.
def test_withheld_release():
    served = manifest.verify(GOOD, trust.parse(TRUST), IDENTITY)
    ordered = bytes.fromhex(ATTACKS["signatures of another manifest"]["envelope"])
    assert served.sequence == 7 and served.manifest_digest != manifest.authenticate(ordered)[0]
    assert served.manifest_digest == manifest.authenticate(GOOD)[0]
    assert code(GOOD, device=identity(8)) == code(GOOD, device=identity(7)) == codes.OLD_SEQUENCE


def test_manifest_of_another_model():
    refused("manifest of another model")


def test_manifest_of_another_vendor():
    refused("manifest of another vendor")


def test_image_larger_than_the_slot():
    refused("image larger than the slot")


# Firmware has a floor and a room of its own.
def test_component_that_this_device_has_no_place_for():
    device = identity()
    firmware = bytes.fromhex(V["taken"]["firmware"])
    assert code(firmware, device=device) is None
    device.limits[b"fw"] = 0
    assert code(firmware, device=device) == codes.TOO_LARGE
    del device.limits[b"fw"]
    assert code(firmware, device=device) == codes.WRONG_COMPONENT


def test_every_attack_of_the_table():
    refused(*ATTACKS)


def test_trust_list_of_an_old_version():
    assert offered("trust list of the same version") == codes.TRUST_VERSION
    assert offered("trust list of an old version") == codes.TRUST_VERSION
    second = offered("the next list")
    assert offered("the next list", second) == codes.TRUST_VERSION
    assert offered("a version is stepped over") == codes.TRUST_VERSION


def test_trust_list_signed_by_new_roots_only():
    assert offered("trust list signed by new roots only") == codes.TRUST_SIGNATURES
    assert offered("all new roots, none of the old") == codes.TRUST_SIGNATURES


def test_trust_list_signed_by_old_roots_only():
    assert offered("trust list signed by old roots only") == codes.TRUST_SIGNATURES
    assert offered("all old roots, none of the new") == codes.TRUST_SIGNATURES


def test_trust_list_signed_by_the_same_root_twice():
    assert offered("the same root twice") == codes.TRUST_SIGNATURES
    assert offered("the same root twice, its signature written the other way") == codes.TRUST_SIGNATURES


def test_trust_list_signed_by_release_keys():
    assert offered("signed by release keys") == codes.TRUST_SIGNATURES
    assert offered("release keys that call themselves roots") == codes.TRUST_SIGNATURES


def test_expired_trust_list():
    assert offered("expired trust list") == codes.TRUST_EXPIRED
    held = offered("the next list")
    assert not held.expired(held.expires - 1) and held.expired(held.expires) and held.expired(held.expires + 1)


# Every bit of every byte, and all bits of it at once: how many of the envelopes were taken, and how many were tried.
def flipped(patterns):
    held = trust.parse(TRUST)
    envelope = bytearray(GOOD)
    taken = tried = 0
    for at in range(len(envelope)):
        for pattern in patterns:
            envelope[at] ^= pattern
            taken += code(bytes(envelope), held) is None
            tried += 1
            envelope[at] ^= pattern
    assert envelope == GOOD
    return taken, tried


def test_every_byte_flipped():
    taken, tried = flipped((1, 2, 4, 8, 16, 32, 64, 128, 255))
    print("%d changed envelopes" % tried)
    assert not taken


# So the sweep sees it when a safeguard is missing: without the signatures, whoever changes them is not found out.
def test_every_byte_flipped_without_the_signatures_is_caught():
    kept = manifest.enough
    manifest.enough = lambda *_: True
    try:
        assert flipped((1,))[0] >= 128
    finally:
        manifest.enough = kept


def test_cut_at_every_length_and_with_bytes_behind():
    held = trust.parse(TRUST)
    for length in range(len(GOOD)):
        assert code(GOOD[:length], held) is not None, length
    for more in (b"\x00", b"\xf6", b"\xff", b"\xa0", os.urandom(16), GOOD):
        assert code(GOOD + more, held) == codes.MALFORMED
        assert code(more + GOOD, held) is not None


def test_trust_list_with_every_byte_flipped():
    signed = bytearray(bytes.fromhex(OFFERS["keys that are root keys of both count for both"]["signed"]))
    held = trust.parse(TRUST)
    assert trust.rotate(held, bytes(signed))
    for at in range(len(signed)):
        for pattern in (1, 128, 255):
            signed[at] ^= pattern
            try:
                trust.rotate(held, bytes(signed))
                raise AssertionError("byte %d was changed by %d and nobody saw it" % (at, pattern))
            except UpdateRefused as error:
                assert codes.TRUST_MALFORMED <= error.code <= codes.TRUST_SIGNATURES
            signed[at] ^= pattern


# Noise: nothing but UpdateRefused ever comes out.
def test_noise():
    held = trust.parse(TRUST)
    for length in range(0, 300, 3):
        noise = os.urandom(length)
        assert code(noise, held) is not None
        assert code(b"\xd8\x6b\xa2\x02" + noise, held) is not None
        try:
            trust.rotate(held, noise)
            raise AssertionError
        except UpdateRefused as error:
            assert error.code == codes.TRUST_MALFORMED
