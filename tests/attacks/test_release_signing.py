"""Attacks on the signing of releases, before both judges: the host's verifier and the device's code on MicroPython.

Neither may accept what the other refuses for a reason that matters to a device. Where the host is stricter (a false or
second signature beside enough good ones), that is said in the case.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import cbor2
import pytest

from host_tools.release import manifest, trust
from host_tools.release.cose import Sign1, sig_structure, sign1
from host_tools.release.trust import TrustError, TrustList
from host_tools.release.verify import verify
from provisioning import cbor, signers
from tests.support.micropython import Micropython, MicropythonError
from tests.support.signed_release import FILES, image, keys, make_signers, release, signed, trust_file

NOW = 60_000_000
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P256_PRIME = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
ROOTS, KEYS, STRANGERS = make_signers(3), make_signers(3), make_signers(3)
TRUST = trust_file(KEYS, ROOTS)
IMAGE = image(FILES)
RELEASE = release(IMAGE)
BARE = manifest.encode(RELEASE)
GOOD = signed(BARE, KEYS[:2])
PAYLOAD = manifest.signature_payload(BARE)


@dataclass
class Device:
    """The device's verifier, with the list that it holds."""

    python: Micropython

    def hold(self, payload: bytes) -> None:
        self.python.run(f"held = trust.parse({payload!r})")

    def accepts(self, envelope: bytes, floor: int = 1, room: int = 1 << 20) -> bool:
        identity = (
            f"Identity({RELEASE.vendor.bytes!r}, {RELEASE.class_id.bytes!r}, {{b'app': {floor}}}, {{b'app': {room}}})"
        )
        try:
            digest = self.python.call(f"verify({envelope!r}, held, {identity}).manifest_digest")
        except MicropythonError as error:
            return self._refusal(error)
        assert digest == manifest.decode(envelope).manifest_digest
        return True

    @staticmethod
    def _refusal(error: MicropythonError) -> bool:
        # any other exception would be a hole of its own
        if error.name != "UpdateRefused":
            raise error
        return False

    def rotates(self, new: bytes, now_s: int | None = None) -> bool:
        try:
            payload = self.python.call(f"trust.rotate(held, {new!r}, {now_s})")
        except MicropythonError as error:
            return self._refusal(error)
        assert payload == trust.decode(new).payload
        return True


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    with Micropython() as python:
        python.run("from sealband.update import trust")
        python.run("from sealband.update.manifest import Identity, verify")
        made = Device(python)
        made.hold(trust.decode(TRUST).payload)
        yield made


def host_accepts(envelope: bytes, listed: bytes = TRUST) -> bool:
    return verify(envelope, listed, vendor=RELEASE.vendor, class_id=RELEASE.class_id, now_s=NOW).ok


def refused_by_both(device: Device, envelope: bytes) -> None:
    assert not device.accepts(envelope)
    assert not host_accepts(envelope)


def block_of(envelope: bytes, change: object) -> bytes:
    fields = cbor2.loads(envelope).value
    block = change(cbor2.loads(fields[2]))  # type: ignore[operator]
    return cbor.dumps(cbor2.CBORTag(107, {2: cbor.dumps(block), 3: fields[3]}))


def opposite(signature: bytes) -> bytes:
    """The second signature that everyone can make of one: (r, n − s)."""
    s = int.from_bytes(signature[32:], "big")
    return signature[:32] + (P256_ORDER - s).to_bytes(32, "big")


def renamed(one: bytes, kid: bytes) -> bytes:
    protected, _, payload, signature = cbor2.loads(one).value
    return cbor.dumps(cbor2.CBORTag(18, [protected, {4: kid}, payload, signature]))


def test_release_signed_by_two_of_three_is_accepted_by_both(device: Device):
    for pair in (KEYS[:2], KEYS[1:], KEYS[::2], KEYS, KEYS[::-1]):
        assert device.accepts(signed(BARE, pair))
        assert host_accepts(signed(BARE, pair))


def test_unsigned_release_is_refused(device: Device):
    refused_by_both(device, BARE)


def test_one_signature_too_few_is_refused(device: Device):
    for signer in KEYS:
        refused_by_both(device, signed(BARE, [signer]))


def test_same_key_twice_does_not_count_twice(device: Device):
    refused_by_both(device, signed(BARE, [KEYS[0], KEYS[0]]))
    once = signed(BARE, KEYS[:1])
    (one,) = manifest.decode(once).signatures
    twin = Sign1.from_bytes(one).signature
    assert Sign1(b"\xa1\x01\x28", b"", opposite(twin)).signed_by(KEYS[0].public_key, PAYLOAD)
    refused_by_both(device, manifest.with_signature(once, one.replace(twin, opposite(twin))))
    refused_by_both(device, manifest.with_signature(once, one))


def test_key_and_its_opposite_are_not_two_signers(device: Device):
    # whoever knows d of (x, y) knows n − d of (x, p − y)
    key = keys(KEYS)[0]
    mirrored = key[:32] + (P256_PRIME - int.from_bytes(key[32:], "big")).to_bytes(32, "big")
    with pytest.raises(TrustError, match="twice"):
        TrustList(1, 2, (key, mirrored), 1, keys(ROOTS))
    fields = cbor2.loads(trust.decode(TRUST).payload)
    payload = cbor.dumps({**fields, 1: 2, 3: [key, mirrored]})
    with pytest.raises(MicropythonError, match="UpdateRefused"):
        device.python.call(f"trust.parse({payload!r})")


def test_signature_of_a_stranger_or_of_a_root_key_does_not_count(device: Device):
    refused_by_both(device, signed(BARE, [KEYS[0], STRANGERS[0]]))
    refused_by_both(device, signed(BARE, STRANGERS))
    refused_by_both(device, signed(BARE, [KEYS[0], ROOTS[0], ROOTS[1]]))


def test_stranger_under_the_name_of_a_release_key_does_not_count(device: Device):
    once = signed(BARE, KEYS[:1])
    one = renamed(sign1(STRANGERS[0], PAYLOAD), signers.kid(KEYS[1].public_key))
    refused_by_both(device, manifest.with_signature(once, one))


def test_signatures_of_another_release_do_not_count(device: Device):
    other = manifest.encode(release(IMAGE, 9))
    moved = manifest.decode(signed(other, KEYS)).signatures
    for envelope in (BARE, signed(BARE, KEYS[:1])):
        for one in moved:
            envelope = manifest.with_signature(envelope, one)
        refused_by_both(device, envelope)


def test_revoked_key_does_not_count_after_the_rotation(device: Device):
    old = trust.decode(TRUST).trust
    listed = trust.draft(trust.successor(old, release_keys=keys(KEYS[1:] + STRANGERS[:1])))
    for root in ROOTS:
        listed = trust.sign(listed, root, old)
    assert device.rotates(listed)
    device.hold(trust.decode(listed).payload)
    try:
        assert not device.accepts(GOOD)
        assert not host_accepts(GOOD, listed)
        for envelope in (signed(BARE, KEYS[1:]), signed(BARE, KEYS)):
            assert device.accepts(envelope)
            assert host_accepts(envelope, listed)
    finally:
        device.hold(trust.decode(TRUST).payload)


def test_signature_over_something_else_does_not_count(device: Device):
    fields = cbor2.loads(GOOD).value
    # over the manifest, over its digest alone, over the payload with other external data, under another context
    protected = b"\xa1\x01\x28"
    messages = [
        cbor.dumps(["Signature1", protected, b"", fields[3]]),
        cbor.dumps(["Signature1", protected, b"", manifest.decode(GOOD).manifest_digest]),
        cbor.dumps(["Signature1", protected, b"x", PAYLOAD]),
        cbor.dumps(["Signature", protected, b"", PAYLOAD]),
        cbor.dumps(["Signature1", b"", b"", PAYLOAD]),
        PAYLOAD,
    ]
    for message in messages:
        envelope = BARE
        for signer in KEYS:
            headers = {4: signers.kid(signer.public_key)}
            one = cbor.dumps(cbor2.CBORTag(18, [protected, headers, None, signer.sign(message)]))
            envelope = manifest.with_signature(envelope, one)
        refused_by_both(device, envelope)


def test_zero_and_out_of_range_signatures_do_not_count(device: Device):
    (one,) = manifest.decode(signed(BARE, KEYS[:1])).signatures
    numbers = [0, 1, P256_ORDER - 1, P256_ORDER, P256_ORDER + 1, P256_PRIME, (1 << 256) - 1]
    for r in numbers:
        for s in numbers[::3]:
            envelope = BARE
            for signer in KEYS[:2]:
                forged = r.to_bytes(32, "big") + s.to_bytes(32, "big")
                named = renamed(one, signers.kid(signer.public_key))
                envelope = manifest.with_signature(envelope, named.replace(Sign1.from_bytes(one).signature, forged))
            refused_by_both(device, envelope)


def test_signature_with_another_algorithm_or_more_headers_is_refused(device: Device):
    kid = signers.kid(KEYS[2].public_key)
    headers = [
        ({1: -8}, {4: kid}),
        ({1: -37}, {4: kid}),
        ({1: 5}, {4: kid}),
        ({}, {1: -9, 4: kid}),
        ({1: -9, 2: [4]}, {4: kid}),
        ({1: -9}, {4: kid, 33: b"certificate"}),
        ({1: -9, 4: kid}, {4: kid}),
        ({1: -9}, {}),
        ({1: -9}, {4: kid[:7]}),
        ({1: -9}, {4: kid + b"x"}),
        ({1: -9}, {4: kid.hex()}),
    ]
    for protected, unprotected in headers:
        # the signature itself is good: only its headers are in the way
        header = cbor.dumps(protected)
        signature = KEYS[2].sign(sig_structure(header, PAYLOAD))
        one = cbor.dumps(cbor2.CBORTag(18, [header, unprotected, None, signature]))
        refused_by_both(device, block_of(GOOD, lambda block, one=one: [*block, one]))
        refused_by_both(device, block_of(GOOD, lambda block, one=one: [block[0], one, *block[1:]]))


def test_manifest_under_the_signatures_of_another_is_refused(device: Device):
    swapped = cbor2.loads(manifest.encode(release(image({"main.py": b"evil"})))).value[3]
    fields = cbor2.loads(GOOD).value
    refused_by_both(device, cbor.dumps(cbor2.CBORTag(107, {2: fields[2], 3: swapped})))


def test_old_release_and_release_too_large_are_refused_by_the_device(device: Device):
    assert device.accepts(GOOD, floor=RELEASE.sequence - 1, room=RELEASE.size)
    assert not device.accepts(GOOD, floor=RELEASE.sequence)
    assert not device.accepts(GOOD, room=RELEASE.size - 1)


def test_manifest_of_another_model_is_refused(device: Device):
    refused_by_both(device, signed(manifest.encode(release(IMAGE, model="other")), KEYS))


def test_false_or_second_signature_beside_enough_good_ones_fails_on_the_host_only(device: Device):
    false = renamed(sign1(STRANGERS[0], PAYLOAD), signers.kid(KEYS[2].public_key))
    for envelope in (manifest.with_signature(GOOD, false), signed(GOOD, KEYS[:1])):
        assert device.accepts(envelope)
        assert not host_accepts(envelope)


def test_every_flipped_bit_of_a_signed_envelope_is_refused_by_the_host():
    # the device's own sweep over each byte is in tests/attacks/device
    assert host_accepts(GOOD)
    for at in range(len(GOOD)):
        for bit in range(8):
            mutated = bytearray(GOOD)
            mutated[at] ^= 1 << bit
            assert not host_accepts(bytes(mutated)), (at, bit)


def mutations(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Flipped, removed, doubled, swapped and replaced runs of bytes, none of which leaves the data as it was."""
    dice = random.Random(seed)
    while count:
        at, length = dice.randrange(len(data)), dice.choice((1, 1, 1, 2, 8, 40))
        kind = dice.randrange(6)
        run = data[at : at + length]
        other = dice.randrange(len(data))
        made = {
            0: data[:at] + bytes(b ^ (1 << dice.randrange(8)) for b in run) + data[at + length :],
            1: data[:at] + data[at + length :],
            2: data[:at] + run + run + data[at + length :],
            3: data[:at] + data[other : other + length] + data[at + length :],
            4: data[:at] + bytes(dice.randrange(256) for _ in run) + data[at + length :],
            5: data[:at],
        }[kind]
        if made != data:
            count -= 1
            yield made


def test_mutated_envelopes_are_accepted_by_neither(device: Device):
    for mutated in mutations(GOOD, 400, seed=20250101):
        refused_by_both(device, mutated)


def test_structured_mutations_are_judged_alike(device: Device):
    """Envelopes put together anew: whole signatures left out, doubled, renamed, of others, in any order."""
    dice = random.Random(7)
    pool = [sign1(signer, PAYLOAD) for signer in (*KEYS, *STRANGERS[:1], *ROOTS[:1])]
    pool += [renamed(pool[3], signers.kid(KEYS[0].public_key)), sign1(KEYS[1], b"\x00"), renamed(pool[2], bytes(8))]
    accepted = 0
    for _ in range(150):
        chosen = [dice.choice(pool) for _ in range(dice.randrange(7))]
        envelope = BARE
        for one in chosen:
            envelope = manifest.with_signature(envelope, one)
        enough = len({pool.index(one) for one in chosen} & {0, 1, 2}) >= 2
        assert device.accepts(envelope) == enough
        # the host may be stricter, never laxer
        assert enough or not host_accepts(envelope)
        accepted += enough
    assert 20 < accepted < 130


# --- the trust list


OLD = trust.decode(TRUST).trust


def next_list(by: list[signers.FileSigner], previous: TrustList | None = OLD, **changes: object) -> bytes:
    data = trust.draft(trust.successor(OLD, **changes))
    for signer in by:
        data = trust.sign(data, signer, previous)
    return data


def host_rotates(new: bytes, now_s: int | None = None) -> bool:
    try:
        trust.check_rotation(OLD, new, now_s)
    except TrustError:
        return False
    return True


def rotation_refused_by_both(device: Device, new: bytes, now_s: int | None = None) -> None:
    assert not device.rotates(new, now_s)
    assert not host_rotates(new, now_s)


def test_list_signed_by_the_old_and_the_new_threshold_is_accepted_by_both(device: Device):
    cases = [
        next_list(ROOTS),
        next_list(ROOTS, release_keys=keys(STRANGERS), threshold=3),
        next_list([*ROOTS, *STRANGERS[:1]], root_keys=keys(ROOTS[1:] + STRANGERS[:1])),
        next_list([*ROOTS, *STRANGERS], root_keys=keys(STRANGERS)),
        next_list(ROOTS, root_threshold=1),
        next_list(ROOTS, expires=NOW),
    ]
    for new in cases:
        assert device.rotates(new)
        assert host_rotates(new)


def test_list_as_large_as_can_be_is_accepted_by_both(device: Device):
    crowd = make_signers(13)
    data = next_list(
        [*ROOTS, *crowd], root_keys=keys(crowd), root_threshold=13, release_keys=keys(make_signers(16)), threshold=16
    )
    assert host_rotates(data)
    assert device.rotates(data)


def test_rotation_with_one_signature_too_few_of_either_list_is_refused(device: Device):
    for signer in ROOTS:
        rotation_refused_by_both(device, next_list([one for one in ROOTS if one is not signer]))
    moved = {"root_keys": keys(STRANGERS)}
    rotation_refused_by_both(device, next_list(STRANGERS, **moved))
    rotation_refused_by_both(device, next_list(ROOTS, **moved))
    rotation_refused_by_both(device, next_list([*ROOTS, *STRANGERS[:2]], **moved))
    rotation_refused_by_both(device, next_list([*ROOTS[:2], *STRANGERS], **moved))


def test_rotation_signed_twice_by_one_root_key_is_refused(device: Device):
    payload, items = cbor2.loads(next_list(ROOTS[:2]))
    protected, headers, none, signature = items[0].value
    again = [items[0], cbor2.CBORTag(18, [protected, headers, none, opposite(signature)])]
    for one in again:
        rotation_refused_by_both(device, cbor.dumps([payload, [*items, one]]))


def test_rotation_by_release_keys_is_refused(device: Device):
    payload = trust.decode(next_list([])).payload
    items = [cbor2.loads(sign1(signer, payload)) for signer in KEYS]
    rotation_refused_by_both(device, cbor.dumps([payload, items]))


def test_replayed_skipped_or_expired_list_is_refused(device: Device):
    rotation_refused_by_both(device, TRUST)
    for version in (1, 3, 4):
        rotation_refused_by_both(device, trust_file(KEYS, ROOTS, version=version))
    new = next_list(ROOTS, expires=NOW)
    for now_s, holds in ((NOW - 1, True), (NOW, False), (NOW + 1, False)):
        assert device.rotates(new, now_s) == host_rotates(new, now_s) == holds


def test_signatures_of_a_manifest_do_not_make_a_list(device: Device):
    """And the other way round: a root key's signature under a payload that is a list's, asked for as a manifest's."""
    payload = trust.decode(next_list([])).payload
    items = [cbor2.loads(sign1(signer, PAYLOAD)) for signer in ROOTS]
    rotation_refused_by_both(device, cbor.dumps([payload, items]))


def test_list_that_cannot_hold_is_refused_by_both(device: Device):
    fields = cbor2.loads(trust.decode(next_list([])).payload)
    one = keys(STRANGERS)[0]
    changes: list[dict[object, object]] = [
        {2: 0},
        {2: 4},
        {2: True},
        {4: 0},
        {4: 4},
        {4: -1},
        {3: []},
        {3: [one, one]},
        {3: [bytes(64)]},
        {3: [one[:63]]},
        {3: [one + b"x"]},
        {3: one},
        {5: []},
        {6: -1},
        {6: None},
        {6: 1 << 32},
        {7: 1},
        {"1": 2},
        {1: 2.0},
        {3: keys(make_signers(17))},
    ]
    for change in changes:
        payload = cbor.dumps({**fields, **change})
        items = [cbor2.loads(sign1(signer, payload)) for signer in ROOTS]
        rotation_refused_by_both(device, cbor.dumps([payload, items]))
    for label in (1, 2, 3, 4, 5):
        payload = cbor.dumps({key: value for key, value in fields.items() if key != label})
        items = [cbor2.loads(sign1(signer, payload)) for signer in ROOTS]
        rotation_refused_by_both(device, cbor.dumps([payload, items]))


def test_list_with_a_malformed_signature_beside_enough_good_ones_is_refused_by_both(device: Device):
    payload, items = cbor2.loads(next_list(ROOTS))
    good = items[0].value
    for item in (
        b"x",
        cbor2.CBORTag(17, good),
        cbor2.CBORTag(18, [*good[:3], bytes(63)]),
        cbor2.CBORTag(18, [good[0], {}, None, good[3]]),
        cbor2.CBORTag(18, [good[0], {4: bytes(7)}, None, good[3]]),
        cbor2.CBORTag(18, [good[0], good[1], payload, good[3]]),
        cbor2.CBORTag(18, [b"\xa1\x01\x27", good[1], None, good[3]]),
    ):
        rotation_refused_by_both(device, cbor.dumps([payload, [*items, item]]))
    rotation_refused_by_both(device, cbor.dumps([payload, [items[0]] * 17]))


def test_mutated_lists_are_accepted_by_neither(device: Device):
    good = next_list(ROOTS, expires=NOW)
    for mutated in mutations(good, 300, seed=20250102):
        rotation_refused_by_both(device, mutated)
