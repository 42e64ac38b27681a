"""The SUIT envelope on the host: every byte as the subset has it, and nothing else is read."""

import dataclasses
import hashlib
from typing import Any
from uuid import UUID

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_tools.release.manifest import (
    ManifestError,
    Release,
    Text,
    decode,
    encode,
    full_uri,
    identifiers,
    signature_payload,
    with_signature,
)
from sealwire.update import ENVELOPE_MAX, SIGNATURES_MAX

DIGEST = bytes(range(32))
VENDOR, CLASS = identifiers("sealband.example", "t-beam-sx1262")
RELEASE = Release(
    component=b"app",
    vendor=VENDOR,
    class_id=CLASS,
    sequence=7,
    digest=DIGEST,
    size=102400,
    uri=full_uri(DIGEST),
    text=Text("sealband.example", "t-beam-sx1262", "1.2.0"),
)
SIGNATURE = cbor2.dumps(cbor2.CBORTag(18, [b"\xa1\x01\x28", {4: b"12345678"}, None, bytes(64)]))

# RELEASE put together by hand from WIRE and the draft, without any of our code or cbor2
SHARED = f"86 14 a4 0150 {VENDOR.hex} 0250 {CLASS.hex} 03 5824 82 2f 5820 {DIGEST.hex()} 0e1a00019000 010f 020f"
INSTALL = f"86 14 a1 15 784d {full_uri(DIGEST).encode().hex()} 150f 030f"
WORDS = f"026d {b't-beam-sx1262'.hex()} 0370 {b'sealband.example'.hex()} 0665 {b'1.2.0'.hex()}"
TEXT = f"a1 62656e a1 8143617070 a3 {WORDS}"
COMMON = f"a2 02 818143617070 04 5858 {SHARED}"
MANIFEST = f"a6 0101 0207 03 5863 {COMMON} 07 43 82030f 14 5857 {INSTALL} 17 5833 {TEXT}"


def of(manifest: bytes, digest: bytes | None = None, *more: bytes, fields: dict[int, Any] | None = None) -> bytes:
    """An envelope around any manifest, with the digest that is right for it."""
    whole = hashlib.sha256(cbor2.dumps(manifest)).digest() if digest is None else digest
    block = cbor2.dumps([cbor2.dumps([-16, whole]), *more])
    return cbor2.dumps(cbor2.CBORTag(107, {2: block, 3: manifest, **(fields or {})}), canonical=True)


def changed(**fields: Any) -> bytes:
    """RELEASE's manifest with fields replaced by number (`_3=…`), or taken out (None)."""
    items: dict[Any, Any] = dict(cbor2.loads(bytes.fromhex(MANIFEST)))
    for name, value in fields.items():
        number = int(name[1:])
        if value is None:
            del items[number]
        else:
            items[number] = value
    return cbor2.dumps(items, canonical=True)


def common(shared: Any, components: Any = ((b"app",),)) -> bytes:
    return cbor2.dumps({2: components, 4: cbor2.dumps(shared, canonical=True)}, canonical=True)


def shared(extra: tuple[Any, ...] = (), **parameters: Any) -> list[Any]:
    values: dict[int, Any] = {1: VENDOR.bytes, 2: CLASS.bytes, 3: cbor2.dumps([-16, DIGEST]), 14: 102400}
    values.update({int(name[1:]): value for name, value in parameters.items()})
    return [20, values, 1, 15, 2, 15, *extra]


def test_envelope_is_byte_for_byte_what_the_wire_format_says() -> None:
    manifest = bytes.fromhex(MANIFEST)
    digest = hashlib.sha256(b"\x59" + len(manifest).to_bytes(2, "big") + manifest).digest()
    block = b"\x81\x58\x24\x82\x2f\x58\x20" + digest
    expected = b"\xd8\x6b\xa2\x02\x58\x27" + block + b"\x03\x59" + len(manifest).to_bytes(2, "big") + manifest
    assert encode(RELEASE) == expected
    parsed = decode(expected)
    assert parsed.release == RELEASE
    assert parsed.manifest_digest == digest
    assert parsed.signatures == ()
    assert signature_payload(expected) == parsed.payload == b"\x82\x2f\x58\x20" + digest


def test_identifiers_are_those_of_rfc_9562() -> None:
    # RFC 9562 appendix A.4
    assert identifiers("www.example.com", "x")[0] == UUID("2ed6657d-e927-568b-95e1-2665a8aea6a2")


def test_manifest_without_text_is_read() -> None:
    release = dataclasses.replace(RELEASE, text=None, component=b"fw")
    assert decode(encode(release)).release == release


def test_signatures_come_behind_one_another_and_leave_what_is_signed_alone() -> None:
    once = with_signature(encode(RELEASE), SIGNATURE)
    twice = with_signature(once, SIGNATURE)
    assert decode(twice).signatures == (SIGNATURE, SIGNATURE)
    assert signature_payload(twice) == signature_payload(encode(RELEASE))


def test_more_signatures_than_devices_take_are_refused() -> None:
    envelope = encode(RELEASE)
    for _ in range(SIGNATURES_MAX):
        envelope = with_signature(envelope, SIGNATURE)
    with pytest.raises(ManifestError, match="devices take no more"):
        with_signature(envelope, SIGNATURE)


@pytest.mark.parametrize("signature", [b"", b"\xf6", SIGNATURE[1:], SIGNATURE + b"\x00", cbor2.dumps([1, 2])])
def test_signature_that_is_none_is_refused(signature: bytes) -> None:
    with pytest.raises(ManifestError, match="a signature is not"):
        with_signature(encode(RELEASE), signature)


def test_every_flipped_bit_is_refused_or_leaves_another_signature() -> None:
    envelope = with_signature(encode(RELEASE), SIGNATURE)
    kept = 0
    for index in range(len(envelope)):
        for bit in range(8):
            flipped = bytearray(envelope)
            flipped[index] ^= 1 << bit
            try:
                parsed = decode(bytes(flipped))
            except ManifestError:
                continue
            kept += 1
            assert parsed.release == RELEASE and parsed.signatures != (SIGNATURE,)
    assert kept <= 8 * len(SIGNATURE)


@pytest.mark.parametrize(
    ("envelope", "reason"),
    [
        (b"", "not CBOR"),
        (encode(RELEASE) + b"\x00", "one item"),
        (encode(RELEASE)[2:], "no SUIT envelope"),
        (cbor2.dumps(cbor2.CBORTag(108, {2: b"", 3: b""})), "no SUIT envelope"),
        (of(bytes.fromhex(MANIFEST), fields={23: b""}), "does not name: 23"),
        (of(bytes.fromhex(MANIFEST), fields={"#img": b""}), "not a map by number"),
        (of(bytes.fromhex(MANIFEST), fields={3: 1}), "not a byte string"),
        (of(bytes.fromhex(MANIFEST), bytes(32)), "digest is not that of the manifest"),
        (of(bytes.fromhex(MANIFEST), None, b"\x01"), "not a COSE_Sign1"),
        (bytes(ENVELOPE_MAX + 1), "longer than 4096"),
        (of(changed(_1=2)), "version is not 1"),
        (of(changed(_1=True)), "not written as"),
        (of(changed(_2=0)), "sequence is not"),
        (of(changed(_2=1 << 32)), "sequence is not"),
        (of(changed(_2=-1)), "sequence is not"),
        (of(changed(_2=1.0)), "sequence is not"),
        (of(changed(_7=None)), "lacks the field 7"),
        (of(changed(_7=cbor2.dumps([]))), "validate holds other commands"),
        (of(changed(_7=cbor2.dumps([3, 2]))), "validate holds other commands"),
        (of(changed(_4=b"")), "does not name: 4"),
        (of(changed(_20=cbor2.dumps([20, {21: "x"}, 21, 15, 3, 15, 23, 15]))), "install holds other commands"),
        (of(changed(_20=cbor2.dumps([20, {21: "x", 22: 1}, 21, 15, 3, 15]))), "does not name: 22"),
        (of(changed(_20=cbor2.dumps([20, {21: "http://a b"}, 21, 15, 3, 15]))), "no address has"),
        (of(changed(_20=cbor2.dumps([20, {21: "x" * 161}, 21, 15, 3, 15]))), "160 characters"),
        (of(changed(_3=common(shared(), [[b"app"], [b"fw"]]))), "about one component"),
        (of(changed(_3=common(shared(), [[b"app", b"x"]]))), "neither app nor fw"),
        (of(changed(_3=common(shared(), [[b"boot"]]))), "neither app nor fw"),
        (of(changed(_3=common(shared((24, 15))))), "shared sequence holds other commands"),
        (of(changed(_3=common(shared(_5=0)))), "does not name: 5"),
        (of(changed(_3=common(shared(_1=b"short")))), "vendor is not a UUID"),
        (of(changed(_3=common(shared(_1=CLASS.bytes)))), "names another vendor or model"),
        (of(changed(_3=common(shared(_3=cbor2.dumps([-43, DIGEST]))))), "not by SHA-256"),
        (of(changed(_3=common(shared(_3=cbor2.dumps([-16, b"x"]))))), "digest is not 32 bytes"),
        (of(changed(_3=common(shared(_14=0)))), "size is not"),
        (of(changed(_23=[-16, DIGEST])), "text is not in it"),
        (of(changed(_23=cbor2.dumps({"de": {}}))), "language"),
        (of(changed(_23=cbor2.dumps({"en": {(b"fw",): {}}}))), "not about the component"),
        (of(changed(_23=cbor2.dumps({"en": {(b"app",): {2: "m", 3: "v"}}}))), "lacks the field 6"),
        (of(changed(_23=cbor2.dumps({"en": {(b"app",): {2: "m", 3: "v", 6: "\x1b[2J"}}}))), "printable"),
    ],
)
def test_envelope_outside_the_subset_is_refused_by_a_named_reason(envelope: bytes, reason: str) -> None:
    with pytest.raises(ManifestError, match=reason):
        decode(envelope)


def test_map_with_the_same_field_twice_is_refused() -> None:
    manifest = bytes.fromhex("a7 0101" + MANIFEST[2:])
    with pytest.raises(ManifestError, match="deterministic"):
        decode(of(manifest))


def test_longer_head_than_needed_is_refused() -> None:
    manifest = bytes.fromhex(MANIFEST.replace("0207", "021807", 1))
    with pytest.raises(ManifestError, match="deterministic"):
        decode(of(manifest))


@given(st.binary(max_size=300))
def test_any_bytes_are_an_envelope_or_refused(data: bytes) -> None:
    with pytest.raises(ManifestError):
        decode(data)


@given(st.binary(max_size=120))
def test_any_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(ManifestError):
        decode(of(data))


@given(
    component=st.sampled_from([b"app", b"fw"]),
    sequence=st.integers(1, (1 << 32) - 1),
    digest=st.binary(min_size=32, max_size=32),
    size=st.integers(1, (1 << 32) - 1),
    version=st.text("0123456789.abc-", min_size=1, max_size=80),
)
def test_what_is_written_is_read(component: bytes, sequence: int, digest: bytes, size: int, version: str) -> None:
    text = Text("sealband.example", "t-beam-sx1262", version)
    release = Release(component, VENDOR, CLASS, sequence, digest, size, full_uri(digest), text)
    assert decode(encode(release)).release == release
