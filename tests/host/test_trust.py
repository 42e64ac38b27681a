"""Trust lists: the bytes, what cannot hold, and which list may follow which. Attacks are in tests/attacks."""

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from host_tools.release import trust
from host_tools.release.trust import SignedTrust, TrustError, TrustList
from host_tools.release.trustview import view
from provisioning import signers

NOW = 50_000_000


def make_signers(count: int) -> list[signers.FileSigner]:
    return [signers.FileSigner(ec.generate_private_key(ec.SECP256R1())) for _ in range(count)]


ROOTS = make_signers(3)
RELEASES = make_signers(3)
OTHERS = make_signers(3)


def keys(of: list[signers.FileSigner]) -> tuple[bytes, ...]:
    return tuple(signer.public_key[1:] for signer in of)


FIRST = TrustList(1, 2, keys(RELEASES), 2, keys(ROOTS))


def signed(what: TrustList, by: list[signers.FileSigner], previous: TrustList | None = None) -> bytes:
    data = trust.draft(what)
    for signer in by:
        data = trust.sign(data, signer, previous)
    return data


def test_file_is_what_the_wire_format_says():
    data = signed(TrustList(1, 1, keys(RELEASES[:1]), 1, keys(ROOTS[:1]), 77), ROOTS[:1])
    payload, items = cbor2.loads(data)
    assert cbor2.loads(payload) == {1: 1, 2: 1, 3: [keys(RELEASES)[0]], 4: 1, 5: [keys(ROOTS)[0]], 6: 77}
    (item,) = items
    assert item.tag == 18
    protected, unprotected, detached, signature = item.value
    assert (protected, dict(unprotected), detached) == (
        b"\xa1\x01\x28",
        {4: signers.kid(ROOTS[0].public_key)},
        None,
    )
    # the Sig_structure of RFC 9052 section 4.4, written out
    message = b"\x84\x6aSignature1\x43\xa1\x01\x28\x40" + cbor2.dumps(payload)
    assert signers.verify(ROOTS[0].public_key, message, signature)


def test_list_survives_its_encoding_and_stands_when_enough_roots_signed():
    for expires in (None, 0, 0xFFFFFFFF):
        made = TrustList(1, 2, keys(RELEASES), 2, keys(ROOTS), expires)
        assert trust.decode_payload(trust.encode_payload(made)) == made
    for count in range(4):
        read = trust.decode(signed(FIRST, ROOTS[:count]))
        assert read.trust == FIRST
        if count < 2:
            with pytest.raises(TrustError, match=f"signed by {count} of its root keys, 2 are needed"):
                read.check_own()
        else:
            assert read.check_own() == FIRST


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 0}, "version"),
        ({"version": 1 << 32}, "version"),
        ({"version": True}, "version"),
        ({"threshold": 0}, "release threshold"),
        ({"threshold": 4}, "release threshold"),
        ({"threshold": True}, "release threshold"),
        ({"root_threshold": 4}, "root threshold"),
        ({"root_threshold": 1.0}, "root threshold"),
        ({"release_keys": ()}, "1 to 16 release keys"),
        ({"root_keys": ()}, "1 to 16 root keys"),
        ({"release_keys": keys(RELEASES) + keys(RELEASES)[:1]}, "twice"),
        ({"root_keys": keys(make_signers(17))}, "1 to 16 root keys, not 17"),
        ({"release_keys": (bytes(64), *keys(RELEASES))}, "not a point"),
        ({"release_keys": (bytes(63), *keys(RELEASES))}, "not 64 bytes"),
        ({"release_keys": (1, *keys(RELEASES))}, "not 64 bytes"),
        ({"expires": -1}, "expiry"),
        ({"expires": 1 << 32}, "expiry"),
    ],
)
def test_list_that_cannot_hold_is_neither_made_nor_read(changes: dict[str, object], message: str):
    fields = {**vars(FIRST), **changes}
    with pytest.raises(TrustError, match=message):
        TrustList(**fields)
    names = ["version", "threshold", "release_keys", "root_threshold", "root_keys", "expires"]
    row = {number: fields[name] for number, name in enumerate(names, 1) if fields[name] is not None}
    with pytest.raises(TrustError, match=message):
        trust.decode(cbor2.dumps([cbor2.dumps(row, canonical=True), []], canonical=True))


def test_file_that_is_no_trust_list_is_refused():
    good = cbor2.loads(trust.draft(FIRST))
    row = cbor2.loads(good[0])

    def file(payload: object, items: object = (), **options: bool) -> bytes:
        inner = cbor2.dumps(payload, canonical=True) if isinstance(payload, dict) else payload
        return cbor2.dumps([inner, list(items) if isinstance(items, tuple) else items], canonical=True)

    one = cbor2.CBORTag(18, [b"\xa1\x01\x28", {4: bytes(8)}, None, bytes(64)])
    assert trust.decode(file(row, (one,)))
    cases = [
        b"",
        b"\x00",
        trust.draft(FIRST) + b"\x00",
        trust.draft(FIRST)[:-1],
        cbor2.dumps([good[0]]),
        cbor2.dumps([good[0], [], []]),
        cbor2.dumps(row),
        file({**row, 7: 1}),
        file({**row, 6: None}),
        file({**row, "1": 1}),
        file({label: value for label, value in row.items() if label != 4}),
        file({**row, 3: b"x"}),
        file([1, 2]),
        file(row, {}),
        file(row, (b"x",)),
        file(row, (one,) * 17),
        file(row, (cbor2.CBORTag(17, one.value),)),
        file(row, (cbor2.CBORTag(18, [b"\xa1\x01\x28", {4: bytes(8)}, b"payload", bytes(64)]),)),
        file(row, (cbor2.CBORTag(18, [b"\xa1\x01\x28", {4: bytes(8)}, None, bytes(63)]),)),
        file(row, (cbor2.CBORTag(18, [b"\xa1\x01\x27", {4: bytes(8)}, None, bytes(64)]),)),
        file(row, (cbor2.CBORTag(18, [b"", {4: bytes(8)}, None, bytes(64)]),)),
        file(row, (cbor2.CBORTag(18, [b"\xa1\x01\x28", {4: bytes(8), 5: 1}, None, bytes(64)]),)),
        file(row, (cbor2.CBORTag(18, [b"\xa1\xf5\x28", {4: bytes(8)}, None, bytes(64)]),)),
        file(b"\xa6\x01\x18\x01" + good[0][3:]),
    ]
    for data in cases:
        with pytest.raises(TrustError):
            trust.decode(data)
    with pytest.raises(TrustError, match="longer than 4096"):
        trust.decode(bytes(4097))


def test_successor_needs_the_old_and_the_new_threshold():
    new = trust.successor(FIRST, root_keys=keys(ROOTS[1:] + OTHERS[:1]), release_keys=keys(OTHERS))
    old_roots, new_roots = ROOTS[:2], [ROOTS[2], OTHERS[0]]
    assert trust.check_rotation(FIRST, signed(new, old_roots + new_roots, FIRST)).trust == new
    # one signature by a key of both lists counts for both
    assert trust.check_rotation(FIRST, signed(new, ROOTS[1:], FIRST)).trust == new
    with pytest.raises(TrustError, match="1 root keys of list 1"):
        trust.check_rotation(FIRST, signed(new, new_roots, FIRST))
    with pytest.raises(TrustError, match="1 of its root keys"):
        trust.check_rotation(FIRST, signed(new, old_roots, FIRST))
    raised = trust.successor(FIRST, root_threshold=3)
    with pytest.raises(TrustError, match="2 of its root keys, 3 are needed"):
        trust.check_rotation(FIRST, signed(raised, ROOTS[:2], FIRST))


def test_version_that_does_not_follow_is_refused():
    for version in (1, 3):
        other = TrustList(version, 2, keys(RELEASES), 2, keys(ROOTS))
        with pytest.raises(TrustError, match="does not follow"):
            trust.check_rotation(FIRST, signed(other, ROOTS))
        with pytest.raises(TrustError, match="does not follow"):
            trust.sign(trust.draft(other), ROOTS[0], FIRST)


def test_expired_list_is_refused_where_the_time_is_known():
    new = signed(trust.successor(FIRST, expires=NOW), ROOTS)
    assert trust.check_rotation(FIRST, new, NOW - 1)
    assert trust.check_rotation(FIRST, new)
    with pytest.raises(TrustError, match="has expired"):
        trust.check_rotation(FIRST, new, NOW)


def test_signing_twice_or_by_a_stranger_is_refused_and_by_a_removed_root_is_not():
    once = signed(FIRST, ROOTS[:1])
    with pytest.raises(TrustError, match="has signed trust list 1 already"):
        trust.sign(once, ROOTS[0])
    for stranger in (OTHERS[0], RELEASES[0]):
        with pytest.raises(TrustError, match="neither of trust list 1 nor"):
            trust.sign(once, stranger)
    new = trust.draft(trust.successor(FIRST, root_keys=keys(ROOTS[1:])))
    with pytest.raises(TrustError, match="neither of trust list 2 nor"):
        trust.sign(new, ROOTS[0])
    assert trust.sign(new, ROOTS[0], FIRST)


def test_list_too_long_for_a_device_is_not_made():
    crowd = make_signers(16)
    wide = TrustList(1, 1, keys(make_signers(16)), 16, keys(crowd))
    data = signed(wide, crowd)
    assert len(data) <= 4096
    assert trust.decode(data).check_own()
    before = TrustList(1, 1, wide.release_keys, 1, keys(OTHERS))
    with pytest.raises(TrustError, match="17 signatures"):
        trust.sign(signed(trust.successor(wide), crowd), OTHERS[0], before)


def test_view_says_what_changed_and_what_is_missing():
    new = trust.successor(FIRST, root_keys=keys(ROOTS[1:] + OTHERS[:1]), threshold=1)
    seen = view(trust.decode(signed(new, ROOTS[:2], FIRST)), FIRST, NOW)
    assert not seen.holds
    assert seen.missing == (1, 0)
    assert "missing: 1 of its own root keys" in seen.verdict
    changes = {key.kid: (key.role, key.change, key.signed) for key in seen.keys}
    assert changes[signers.kid(ROOTS[0].public_key).hex()] == ("root", "removed", True)
    assert changes[signers.kid(ROOTS[1].public_key).hex()] == ("root", "", True)
    assert changes[signers.kid(OTHERS[0].public_key).hex()] == ("root", "added", False)
    assert changes[signers.kid(RELEASES[0].public_key).hex()] == ("release", "", None)
    assert any("Fewer release keys are needed than before: 1 instead of 2" in line for line in seen.remarks)
    whole = view(trust.decode(signed(new, ROOTS, FIRST)), FIRST, NOW)
    assert (whole.holds, whole.verdict) == (True, "Valid as the successor of list 1.")
    assert view(trust.decode(signed(new, ROOTS, FIRST)), None, NOW).verdict.endswith("needs that list.")
    assert view(trust.decode(signed(FIRST, ROOTS)), None, NOW).verdict == "Valid as the first list."
    assert not view(trust.decode(signed(FIRST, ROOTS)), FIRST, NOW).holds
    old = TrustList(1, 2, keys(RELEASES), 2, keys(ROOTS), NOW)
    assert "expired" in view(trust.decode(signed(old, ROOTS)), None, NOW).verdict


def test_view_agrees_with_the_rule_on_every_subset_of_signatures():
    new_roots = ROOTS[2:] + OTHERS[:2]
    whole = trust.decode(signed(trust.successor(FIRST, root_keys=keys(new_roots)), ROOTS + OTHERS[:2], FIRST))
    old_kids, new_kids = ({signers.kid(signer.public_key) for signer in of} for of in (ROOTS, new_roots))
    for mask in range(1 << 5):
        chosen = tuple(one for number, one in enumerate(whole.signatures) if mask >> number & 1)
        kids = {one.kid for one in chosen}
        enough = len(kids & old_kids) >= 2 and len(kids & new_kids) >= 2
        assert view(SignedTrust(whole.trust, whole.payload, chosen), FIRST, NOW).holds == enough
