# What a device takes, what it reads there, and the SUIT working group's own examples through the same code.
import json

from sealband.crypto import cbor, p256
from sealband.update import manifest, trust
from sealband.update.refused import UpdateRefused
from sealwire import update as codes

with open("tests/vectors/update-v1.json") as _file:
    V = json.load(_file)
with open("tests/vectors/suit/examples.json") as _file:
    SUIT = json.load(_file)
TAKEN = {name: bytes.fromhex(data) for name, data in V["taken"].items()}
TRUST = trust.parse(bytes.fromhex(V["trust"]))


def identity(**others):
    given = V["identity"]
    floors = {name.encode(): value for name, value in given["floors"].items()}
    limits = {name.encode(): value for name, value in given["limits"].items()}
    vendor = others.get("vendor", bytes.fromhex(given["vendor"]))
    return manifest.Identity(vendor, others.get("class_id", bytes.fromhex(given["class"])), floors, limits)


# How many signatures are verified on the way.
class Count:
    def __enter__(self):
        self.calls = 0
        self.kept = p256.verify
        p256.verify = self.verify
        return self

    def verify(self, *what):
        self.calls += 1
        return self.kept(*what)

    def __exit__(self, *_):
        p256.verify = self.kept


def refused(code, envelope, held=TRUST, device=None):
    try:
        manifest.verify(envelope, held, device or identity())
    except UpdateRefused as error:
        assert error.code == code, error.code
    else:
        raise AssertionError("taken")


def test_what_is_read():
    given = V["manifest"]
    found = manifest.verify(TAKEN["2 of 3"], TRUST, identity())
    assert found.component == b"app"
    assert found.sequence == given["sequence"]
    assert found.digest.hex() == given["digest"]
    assert found.size == given["size"]
    assert found.uri == given["uri"]
    assert manifest.payload(found.manifest_digest).hex() == given["payload"]


def test_what_is_taken():
    for name in TAKEN:
        found = manifest.verify(TAKEN[name], TRUST, identity())
        assert found.component == (b"fw" if name == "firmware" else b"app"), name
    assert manifest.verify(TAKEN["highest sequence"], TRUST, identity()).sequence == 0xFFFFFFFF


def test_authentication_by_itself():
    given = V["manifest"]
    digest, data, signatures = manifest.authenticate(bytes.fromhex(given["unsigned"]))
    assert data.hex() == given["manifest"] and not signatures
    assert manifest.payload(digest).hex() == given["payload"]
    digest, data, signatures = manifest.authenticate(TAKEN["3 of 3"])
    assert [one.kid.hex() for one in signatures] == [V["keys"][name]["kid"] for name in ("r1", "r2", "r3")]
    for one, name in zip(signatures, ("r1", "r2", "r3")):
        assert one.verify(b"\x04" + bytes.fromhex(V["keys"][name]["public"]), manifest.payload(digest))
        assert not one.verify(b"\x04" + bytes.fromhex(V["keys"]["r4"]["public"]), manifest.payload(digest))


# The cheap before the costly: what anything else refuses costs no point multiplication, and enough is enough.
def test_signatures_that_are_verified():
    for name, calls in (
        ("2 of 3", 2),
        ("3 of 3", 2),
        ("16 signatures, the last ones good", 2),
        ("signature of an unknown key among them", 2),
        ("signature of a known key that does not verify, then its good one", 3),
    ):
        with Count() as count:
            manifest.verify(TAKEN[name], TRUST, identity())
        assert count.calls == calls, name
    for name in V["attacks"]:
        if V["attacks"][name]["code"] != "TOO_FEW_SIGNATURES":
            with Count() as count:
                refused(getattr(codes, V["attacks"][name]["code"]), bytes.fromhex(V["attacks"][name]["envelope"]))
            assert not count.calls, name


# A key that has signed already is not asked again, whatever bears its name.
def test_signatures_of_a_key_that_signed_are_not_verified_again():
    with Count() as count:
        refused(codes.TOO_FEW_SIGNATURES, bytes.fromhex(V["attacks"]["the same key twice"]["envelope"]))
    assert count.calls == 1


def test_threshold_is_the_trust_lists():
    fields = cbor.decode(bytes.fromhex(V["trust"]))
    for threshold, name, code in (
        (1, "2 of 3", None),
        (3, "2 of 3", codes.TOO_FEW_SIGNATURES),
        (3, "3 of 3", None),
    ):
        fields[2] = threshold
        held = trust.parse(cbor.encode(fields))
        if code:
            refused(code, TAKEN[name], held)
        else:
            assert manifest.verify(TAKEN[name], held, identity())


def test_floor_and_room_are_the_components_own():
    device = identity()
    device.floors[b"app"] = 0xFFFFFFFF
    device.limits[b"app"] = 0
    assert manifest.verify(TAKEN["firmware"], TRUST, device).component == b"fw"
    refused(codes.OLD_SEQUENCE, TAKEN["2 of 3"], TRUST, device)
    device.floors[b"app"] = 6
    refused(codes.TOO_LARGE, TAKEN["2 of 3"], TRUST, device)


# What the host writes on the air comes as bytes; the others that a caller could have.
def test_other_buffers():
    assert manifest.verify(bytearray(TAKEN["2 of 3"]), TRUST, identity()).sequence == 7
    assert manifest.verify(memoryview(TAKEN["2 of 3"]), TRUST, identity()).sequence == 7


# The working group's examples: they parse, their digests and signatures hold by the code that ours go through.
def test_suit_examples_authenticate():
    public = bytes.fromhex(SUIT["public_key"])
    assert len(SUIT["examples"]) == 7
    for name, example in SUIT["examples"].items():
        digest, data, signatures = manifest.authenticate(bytes.fromhex(example["envelope"]), severed=True)
        assert digest.hex() == example["digest"], name
        assert cbor.decode(data)[1] == 1
        assert len(signatures) == 1 and signatures[0].verify(public, manifest.payload(digest)), name
        assert not signatures[0].verify(public, manifest.payload(bytes(32)))


def test_suit_examples_changed_do_not_authenticate():
    for name, example in SUIT["examples"].items():
        envelope = bytes.fromhex(example["envelope"])
        # a byte of what the manifest says of the image's size
        at = envelope.find(b"\x0e\x19\x87\xd0") + 3
        assert at > 3, name
        envelope = envelope[:at] + b"\xd1" + envelope[at + 1 :]
        try:
            manifest.authenticate(envelope, severed=True)
            raise AssertionError(name)
        except UpdateRefused as error:
            assert error.code == codes.MANIFEST_DIGEST


# Each uses what the subset excludes, and is refused for it, even by a device of that vendor and class whose trust list
# has the working group's key.
def test_suit_examples_are_refused_by_name():
    device = identity(
        vendor=bytes.fromhex("fa6b4a53d5ad5fdfbe9de663e4d41ffe"),
        class_id=bytes.fromhex("1492af1425695e48bf429b2d51f2ab45"),
    )
    device.floors[b"app"] = 0
    fields = cbor.decode(bytes.fromhex(V["trust"]))
    fields[2] = 1
    fields[3] = [bytes.fromhex(SUIT["public_key"])[1:]]
    held = trust.parse(cbor.encode(fields))
    for example in SUIT["examples"].values():
        refused(getattr(codes, example["refused"]), bytes.fromhex(example["envelope"]), held, device)
