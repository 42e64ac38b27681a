"""Manifests and trust lists made with `cbor2` and `cryptography`, against the device's code on MicroPython.

What is refused is refused for one change each, signed like the rest; the code is part of the case. Then at random: any
item of a manifest replaced, removed or added to, signed again, is never taken and never raises anything else.
"""

import hashlib
import json
import random
from collections.abc import Iterator
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from sealwire import update as codes
from tests.support.envelopes import Raw, Tree, Wrapped, encode, envelope, filled, manifest, trust_list, trust_payload
from tests.support.micropython import ROOT, Micropython
from tests.support.refused_envelopes import refused
from tests.support.update_vectors import bad_lists, files

VECTORS = ROOT / "tests" / "vectors"
NAMES = [
    "MALFORMED",
    "UNSUPPORTED",
    "WRONG_COMPONENT",
    "TOO_LARGE",
    "MANIFEST_DIGEST",
    "TOO_FEW_SIGNATURES",
    "OLD_SEQUENCE",
    "TOO_LONG",
]
CODES = {getattr(codes, name): name for name in NAMES}
DEVICE = """
from sealband.update import manifest, trust
from sealband.update.refused import UpdateRefused
held = trust.parse(bytes.fromhex(%r))
floors, limits = {b"app": 6, b"fw": 6}, {b"app": 131072, b"fw": 1572864}
device = manifest.Identity(bytes.fromhex(%r), bytes.fromhex(%r), floors, limits)
def verify(envelope):
    try:
        found = manifest.verify(envelope, held, device)
    except UpdateRefused as error:
        return error.code
    return found.component, found.sequence, found.digest, found.size, found.uri, found.manifest_digest
def rotate(signed):
    try:
        return trust.rotate(held, signed)
    except UpdateRefused as error:
        return error.code
def parse(payload):
    try:
        return trust.parse(payload).version
    except UpdateRefused as error:
        return error.code
"""

REFUSED = list(refused())
LISTS = list(bad_lists())


@pytest.fixture(scope="module")
def device() -> Iterator[Micropython]:
    given = json.loads((VECTORS / "update-v1.json").read_text())
    with Micropython() as process:
        process.run(DEVICE % (given["trust"], given["identity"]["vendor"], given["identity"]["class"]))
        yield process


@pytest.mark.parametrize("name", files())
def test_check_values_are_made_again(name: str) -> None:
    assert (VECTORS / name).read_bytes() == files()[name]


def test_check_values_by_other_means() -> None:
    """The digest over the manifest with its head, and each signature over the encoded SUIT_Digest."""
    given = json.loads((VECTORS / "update-v1.json").read_text())
    item = cbor2.loads(bytes.fromhex(given["taken"]["3 of 3"]))
    assert item.tag == 107 and item.value[3].hex() == given["manifest"]["manifest"]
    block = cbor2.loads(item.value[2])
    head = b"\x58" if len(item.value[3]) < 256 else b"\x59"
    length = len(item.value[3]).to_bytes(1 if head == b"\x58" else 2, "big")
    assert cbor2.loads(block[0]) == [-16, hashlib.sha256(head + length + item.value[3]).digest()]
    for name, data in zip(("r1", "r2", "r3"), block[1:], strict=True):
        protected, unprotected, payload, signed = cbor2.loads(data).value
        assert protected == b"\xa1\x01\x28" and payload is None
        public = bytes.fromhex(given["keys"][name]["public"])
        assert unprotected == {4: hashlib.sha256(b"\x04" + public).digest()[:8]}
        der = encode_dss_signature(int.from_bytes(signed[:32], "big"), int.from_bytes(signed[32:], "big"))
        message = b"\x84\x6aSignature1\x43" + protected + b"\x40" + cbor2.dumps(block[0])
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + public).verify(
            der, message, ec.ECDSA(hashes.SHA256())
        )


def test_names_of_cases_are_their_own() -> None:
    assert len({name for name, _, _ in REFUSED}) == len(REFUSED) > 250
    assert len({name for name, _ in LISTS}) == len(LISTS) > 60


@pytest.mark.parametrize("case", REFUSED, ids=[name for name, _, _ in REFUSED])
def test_outside_the_subset_is_refused(case: tuple[str, str, bytes], device: Micropython) -> None:
    _, code, data = case
    found = device.call(f"verify({data!r})")
    assert CODES.get(found, found) == code


@pytest.mark.parametrize("case", LISTS, ids=[name for name, _ in LISTS])
def test_trust_list_that_cannot_hold_is_refused(case: tuple[str, bytes], device: Micropython) -> None:
    assert device.call(f"rotate({case[1]!r})") == codes.TRUST_MALFORMED


def test_what_the_cases_are_made_from_is_taken(device: Micropython) -> None:
    """Otherwise they might be refused for something else."""
    assert device.call(f"verify({envelope(manifest())!r})")[1] == 7
    data = encode(trust_payload(2))
    assert device.call(f"rotate({trust_list(data, ('b', 'c'))!r})") == data


def test_longest_envelope(device: Micropython) -> None:
    assert device.call(f"verify({filled(codes.ENVELOPE_MAX)!r})")[0] == b"app"
    assert device.call(f"verify({filled(codes.ENVELOPE_MAX + 1)!r})") == codes.TOO_LONG


def test_values_within_the_subset(device: Micropython) -> None:
    """Any sequence, size and address come out as they went in."""
    chance = random.Random(3)
    for _ in range(20):
        sequence, size = chance.randint(7, 0xFFFFFFFF), chance.randint(1, 131072)
        uri = "".join(chance.choices([chr(code) for code in range(0x21, 0x7F)], k=chance.randint(1, 160)))
        tree = manifest(sequence=sequence, size=size, uri=uri)
        found = device.call(f"verify({envelope(tree)!r})")
        digest = hashlib.sha256(cbor2.dumps(encode(tree))).digest()
        assert found == (b"app", sequence, tree[3].value[4].value[1][3].value[1], size, uri, digest)


def _places(tree: Tree) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in a manifest's tree."""
    if isinstance(tree, Wrapped):
        yield tree, None
        yield from _places(tree.value)
    elif isinstance(tree, dict):
        for label in tree:
            yield tree, label
            yield from _places(tree[label])
    elif isinstance(tree, list):
        for index, item in enumerate(tree):
            yield tree, index
            yield from _places(item)


def _noise(chance: random.Random) -> Tree:
    return chance.choice(
        [
            chance.randint(-300, 300),
            chance.randint(0, 1 << 64),
            True,
            None,
            1.5,
            "",
            "app",
            b"",
            chance.randbytes(chance.choice([1, 16, 32])),
            [],
            [3, 15],
            {},
            {21: "x"},
            [-16, bytes(32)],
            Wrapped([-16, bytes(32)]),
            Wrapped({}),
            Wrapped(3, b"\x00"),
            cbor2.CBORTag(18, []),
            Raw(b"\x9f\xff"),
            Raw(chance.randbytes(4)),
        ]
    )


def _changed(chance: random.Random) -> Tree:
    tree = manifest()
    container, place = chance.choice(list(_places(tree)))
    how = chance.randrange(4)
    if isinstance(container, Wrapped):
        if how == 0:
            container.raw = chance.randbytes(chance.randint(1, 3))
        else:
            container.value = _noise(chance)
    elif how == 0:
        del container[place]
    elif how == 1 and isinstance(container, list):
        container.insert(place, _noise(chance))
    elif how == 1:
        container[chance.choice([0, 4, 5, 9, 30, "x"])] = _noise(chance)
    else:
        container[place] = _noise(chance)
    return tree


def test_manifests_changed_at_random_and_signed_again(device: Micropython) -> None:
    """Only a change that leaves it in the subset may be taken: another number or address where one belongs."""
    chance = random.Random(20250101)
    met: dict[Any, int] = {}
    for _ in range(700):
        tree = _changed(chance)
        found = device.call(f"verify({envelope(tree)!r})")
        if isinstance(found, tuple):
            again = manifest(found[0], found[1], found[3], found[4])
            again[3].value[4].value[1][3] = Wrapped([-16, found[2]])
            assert encode(again) == encode(tree)
            met["taken"] = met.get("taken", 0) + 1
        else:
            met[CODES[found]] = met.get(CODES[found], 0) + 1
    print(met)
    assert met["MALFORMED"] > 200 and met["UNSUPPORTED"] > 60 and met.get("taken", 0) < 30


def test_trust_payloads_changed_at_random(device: Micropython) -> None:
    chance = random.Random(20250102)
    for _ in range(300):
        tree: Tree = trust_payload(2)
        container, place = chance.choice(list(_places(tree)))
        if chance.randrange(3):
            container[place] = _noise(chance)
        else:
            del container[place]
        found = device.call(f"parse({encode(tree)!r})")
        if found != codes.TRUST_MALFORMED:
            # a key less, or another number where one belongs
            assert cbor2.loads(encode(tree))[1] == found
            assert (
                all(type(tree[label]) is int for label in (1, 2, 4)) and 1 < len(tree[3]) < 4 and 1 < len(tree[5]) < 4
            )
