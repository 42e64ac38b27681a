"""Envelopes outside the subset, each signed by two of three keys and wrong in one thing; and the code each meets."""

import hashlib
from collections.abc import Iterator
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from tests.support.envelopes import (
    CLASS,
    IMAGE,
    SIZE,
    URI,
    VENDOR,
    Raw,
    Signature,
    Tree,
    Wrapped,
    encode,
    envelope,
    filled,
    kid,
    manifest,
    point,
    signature,
)

MALFORMED = "MALFORMED"
UNSUPPORTED = "UNSUPPORTED"
URL_MAX = 160

Case = tuple[str, str, bytes]


def refused() -> Iterator[Case]:
    """Name, code, envelope."""
    for cases in (_envelopes, _blocks, _signatures, _manifests, _commons, _parameters, _sequences, _forms):
        yield from cases()


def _envelopes() -> Iterator[Case]:
    tree = manifest()

    def tagged(number: int) -> bytes:
        return envelope(tree, tag=lambda item: cbor2.CBORTag(number, item))

    yield "envelope: nothing", MALFORMED, b""
    yield "envelope: not tagged", MALFORMED, envelope(tree, tag=lambda item: item)
    yield "envelope: tag of a bare manifest", UNSUPPORTED, tagged(1070)
    yield (
        "envelope: tagged twice",
        MALFORMED,
        envelope(tree, tag=lambda item: cbor2.CBORTag(107, cbor2.CBORTag(107, item))),
    )
    yield "envelope: an array", MALFORMED, envelope(tree, tag=lambda item: cbor2.CBORTag(107, list(item.values())))
    yield "envelope: no authentication", UNSUPPORTED, envelope(tree, fields=lambda item: {3: item[3]})
    yield "envelope: no manifest", UNSUPPORTED, envelope(tree, fields=lambda item: {2: item[2]})
    for name, key, value in (
        ("delegation", 1, b"\x80"),
        ("severed fetch", 16, encode([21, 15])),
        ("severed install", 20, encode([20, {21: URI}, 21, 15, 3, 15])),
        ("severed text", 23, encode({"en": {}})),
        ("integrated payload", "#app", b"payload"),
        ("a field that nobody knows", 99, b""),
    ):
        yield (
            f"envelope: {name}",
            UNSUPPORTED,
            envelope(tree, fields=lambda item, k=key, v=value: _sorted({**item, k: v})),
        )
    yield "envelope: manifest not in a byte string", MALFORMED, envelope(tree, fields=lambda item: {**item, 3: tree})
    yield "envelope: manifest as text", MALFORMED, envelope(tree, fields=lambda item: {**item, 3: "x"})
    yield "envelope: manifest null", MALFORMED, envelope(tree, fields=lambda item: {**item, 3: None})
    yield (
        "envelope: authentication not in a byte string",
        MALFORMED,
        envelope(tree, fields=lambda item: {**item, 2: item[2].value}),
    )
    yield "envelope: a byte more than may be", "TOO_LONG", filled(4097)


def _blocks() -> Iterator[Case]:
    tree = manifest()
    data = encode(tree)
    right = hashlib.sha256(cbor2.dumps(data)).digest()

    def digest(item: Any) -> bytes:
        return envelope(tree, digest=lambda _: item if isinstance(item, bytes) else encode(item))

    yield "block: empty", MALFORMED, envelope(tree, block=lambda _: [])
    yield "block: a map", MALFORMED, envelope(tree, block=lambda made: {0: made[0]})
    yield (
        "block: bytes after it",
        MALFORMED,
        envelope(tree, fields=lambda item: {**item, 2: Wrapped(item[2].value, b"\x00")}),
    )
    yield "block: digest not in a byte string", MALFORMED, envelope(tree, block=lambda made: [[-16, right], *made[1:]])
    yield (
        "block: signature not in a byte string",
        MALFORMED,
        envelope(tree, block=lambda made: [*made[:2], Raw(made[2])]),
    )
    yield "block: 17 signatures", UNSUPPORTED, envelope(tree, ("r1", "r2", *["r4"] * 15))
    yield "block: signatures before the digest", MALFORMED, envelope(tree, block=lambda made: [*made[1:], made[0]])
    yield "digest: of the manifest without its head", "MANIFEST_DIGEST", digest([-16, hashlib.sha256(data).digest()])
    yield (
        "digest: of the whole envelope field",
        "MANIFEST_DIGEST",
        digest([-16, hashlib.sha256(b"\x03" + cbor2.dumps(data)).digest()]),
    )
    yield "digest: by SHA-512", UNSUPPORTED, digest([-44, hashlib.sha512(cbor2.dumps(data)).digest()])
    yield "digest: by truncated SHA-256", UNSUPPORTED, digest([-15, right[:8]])
    yield "digest: algorithm as text", MALFORMED, digest(["sha-256", right])
    yield "digest: one byte short", MALFORMED, digest([-16, right[:31]])
    yield "digest: one byte more", MALFORMED, digest([-16, right + b"\x00"])
    yield "digest: as text", MALFORMED, digest([-16, "x" * 32])
    yield "digest: with a parameter", MALFORMED, digest([-16, right, 0])
    yield "digest: algorithm alone", MALFORMED, digest([-16])
    yield "digest: bare", MALFORMED, digest(right)
    yield "digest: a map", MALFORMED, digest({-16: right})
    yield "digest: bytes after it", MALFORMED, digest(encode([-16, right]) + b"\x00")


def _signatures() -> Iterator[Case]:
    # one that is outside the subset beside two that are good
    def beside(bad: Signature) -> bytes:
        return envelope(manifest(), ("r1", "r2", bad))

    def der(signed: bytes) -> bytes:
        return encode_dss_signature(int.from_bytes(signed[:32], "big"), int.from_bytes(signed[32:], "big"))

    for name, bad in (
        ("COSE_Sign", signature("r3", tag=98)),
        ("COSE_Mac0", signature("r3", tag=17)),
        ("not tagged", signature("r3", tag=None)),
        ("payload of its own", signature("r3", attached=True)),
        ("names no key", signature("r3", unprotected={})),
        ("key named by 4 bytes", signature("r3", unprotected={4: kid("r3")[:4]})),
        ("key named by 32 bytes", signature("r3", unprotected={4: hashlib.sha256(b"\x04" + point("r3")).digest()})),
        ("key named by text", signature("r3", unprotected={4: kid("r3").hex()})),
        ("key named in both headers", signature("r3", protected={1: -9, 4: kid("r3")})),
        ("content type", signature("r3", protected={1: -9, 3: 0})),
        ("critical header", signature("r3", protected={1: -9, 2: [4]})),
        ("IV, unprotected", signature("r3", unprotected={4: kid("r3"), 5: b""})),
        ("certificate chain", signature("r3", unprotected={4: kid("r3"), 33: b""})),
        ("ES384", signature("r3", algorithm=-35)),
        ("EdDSA", signature("r3", algorithm=-8)),
        ("HMAC", signature("r3", algorithm=5)),
        ("algorithm as text", signature("r3", algorithm="ES256")),
        ("algorithm not protected", signature("r3", protected={}, unprotected={1: -9, 4: kid("r3")})),
        ("algorithm in both headers", signature("r3", unprotected={1: -9, 4: kid("r3")})),
        ("63 bytes", signature("r3", change=lambda signed: signed[:63])),
        ("65 bytes", signature("r3", change=lambda signed: signed + b"\x00")),
        ("none", signature("r3", change=lambda _: b"")),
        ("in DER", signature("r3", change=der)),
        ("bytes after it", lambda payload: signature("r3")(payload) + b"\x00"),
        ("cut", lambda payload: signature("r3")(payload)[:-1]),
        ("empty", lambda _: b""),
    ):
        yield f"signature: {name}", UNSUPPORTED, beside(bad)
    for name, bad in (
        ("over the digest alone", signature("r2", of=lambda payload: payload[4:])),
        ("over the digest in a byte string", signature("r2", of=cbor2.dumps)),
        ("with data of its own", signature("r2", aad=b"x")),
        ("all zeros", signature("r2", change=lambda _: bytes(64))),
        ("all ones", signature("r2", change=lambda _: b"\xff" * 64)),
        ("r and s exchanged", signature("r2", change=lambda signed: signed[32:] + signed[:32])),
        ("r of zero", signature("r2", change=lambda signed: bytes(32) + signed[32:])),
        ("s of zero", signature("r2", change=lambda signed: signed[:32] + bytes(32))),
    ):
        yield f"signature: {name}", "TOO_FEW_SIGNATURES", envelope(manifest(), ("r1", bad))


def _manifests() -> Iterator[Case]:
    value: Any
    code: str
    tree = manifest()
    for name, label, value in (
        ("key 0", 0, 0),
        ("reference URI", 4, "https://example.com"),
        ("dependency resolution", 15, encode([])),
        ("load", 8, encode([3, 15])),
        ("invoke", 9, encode([23, 15])),
        ("payload fetch", 16, encode([21, 15])),
        ("CoSWID", 14, b"\x80"),
        ("uninstall", 24, encode([])),
        ("key 255", 255, 0),
        ("private key", -256, 0),
        ("text label", "1", 1),
        ("bytes label", b"\x01", 1),
    ):
        yield f"manifest: {name}", UNSUPPORTED, envelope(_sorted({**tree, label: value}))
    for label in tree:
        yield f"manifest: key {label} is missing", UNSUPPORTED, envelope(_without(tree, label))
    yield "manifest: an array", MALFORMED, envelope(list(tree.values()))
    yield "manifest: tagged", MALFORMED, envelope(cbor2.CBORTag(1070, tree))
    yield "manifest: empty", MALFORMED, envelope(b"")
    yield "manifest: bytes after it", MALFORMED, envelope(encode(tree) + b"\x00")
    yield "manifest: a second manifest after it", MALFORMED, envelope(encode(tree) + encode(tree))
    for name, code, value in (
        ("2", UNSUPPORTED, 2),
        ("0", UNSUPPORTED, 0),
        ("-1", UNSUPPORTED, -1),
        ("true", MALFORMED, True),
        ("text", MALFORMED, "1"),
        ("bytes", MALFORMED, b"\x01"),
        ("null", MALFORMED, None),
        ("a list", MALFORMED, [1]),
    ):
        yield f"version: {name}", code, envelope({**tree, 1: value})
    for name, code, value in (
        ("0", UNSUPPORTED, 0),
        ("-1", UNSUPPORTED, -1),
        ("above 32 bits", UNSUPPORTED, 1 << 32),
        ("64 bits", UNSUPPORTED, (1 << 64) - 1),
        ("a big number", MALFORMED, 1 << 64),
        ("true", MALFORMED, True),
        ("text", MALFORMED, "7"),
        ("bytes", MALFORMED, b"\x07"),
        ("null", MALFORMED, None),
        ("a float", MALFORMED, 7.0),
        ("a list", MALFORMED, [7]),
    ):
        yield f"sequence: {name}", code, envelope({**tree, 2: value})
    for name, code, value in (
        ("a number", MALFORMED, 0),
        ("text", MALFORMED, "for people"),
        ("null", MALFORMED, None),
        ("a map", MALFORMED, {"en": {}}),
        ("a digest by SHA-512", UNSUPPORTED, [-44, bytes(64)]),
        ("a digest of 31 bytes", MALFORMED, [-16, IMAGE[:31]]),
        ("an empty array", MALFORMED, []),
    ):
        yield f"text: {name}", code, envelope({**tree, 23: value})


def _commons() -> Iterator[Case]:
    components: Any
    tree = manifest()
    common = tree[3].value

    def made(fields: Tree, raw: bytes = b"") -> bytes:
        return envelope({**tree, 3: Wrapped(fields, raw)})

    yield "common: not in a byte string", MALFORMED, envelope({**tree, 3: common})
    yield "common: an array", MALFORMED, made(list(common.values()))
    yield "common: empty", MALFORMED, envelope({**tree, 3: b""})
    yield "common: bytes after it", MALFORMED, made(common, b"\x00")
    yield "common: no components", UNSUPPORTED, made(_without(common, 2))
    yield "common: no shared sequence", UNSUPPORTED, made(_without(common, 4))
    yield "common: dependencies", UNSUPPORTED, made({1: {}, **common})
    yield "common: a key that nobody knows", UNSUPPORTED, made({**common, 5: 0})
    for name, code, components in (
        ("two", UNSUPPORTED, [[b"app"], [b"fw"]]),
        ("the same twice", UNSUPPORTED, [[b"app"], [b"app"]]),
        ("none", UNSUPPORTED, []),
        ("of two parts", UNSUPPORTED, [[b"app", b"\x00"]]),
        ("of no part", UNSUPPORTED, [[]]),
        ("another", "WRONG_COMPONENT", [[b"bl"]]),
        ("with a zero behind it", "WRONG_COMPONENT", [[b"app\x00"]]),
        ("in capitals", "WRONG_COMPONENT", [[b"APP"]]),
        ("of no byte", "WRONG_COMPONENT", [[b""]]),
        ("as text", MALFORMED, [["app"]]),
        ("a number", MALFORMED, [[0]]),
        ("not in an array", MALFORMED, [b"app"]),
        ("not in arrays", MALFORMED, b"app"),
        ("a map", MALFORMED, {0: [b"app"]}),
        ("null", MALFORMED, None),
    ):
        yield f"components: {name}", code, made({**common, 2: components})


def _parameters() -> Iterator[Case]:
    value: Any
    uri: Any
    size: Any
    code: str
    good = {1: VENDOR.bytes, 2: CLASS.bytes, 3: Wrapped([-16, IMAGE]), 14: SIZE}

    def made(parameters: Tree) -> bytes:
        return _shared([20, parameters, 1, 15, 2, 15])

    for label in good:
        yield f"parameter {label}: missing", UNSUPPORTED, made(_without(good, label))
    for name, label, value in (
        ("0", 0, 0),
        ("component slot", 5, 0),
        ("strict order", 12, True),
        ("soft failure", 13, True),
        ("content", 18, b"x"),
        ("URI, shared", 21, URI),
        ("source component", 22, 0),
        ("invoke arguments", 23, b""),
        ("device", 24, bytes(16)),
        ("private", -257, 0),
    ):
        yield f"parameter more: {name}", UNSUPPORTED, made(_sorted({**good, label: value}))
    for label, name in ((1, "vendor"), (2, "class")):
        for what, value in (
            ("of 15 bytes", bytes(15)),
            ("of 17 bytes", bytes(17)),
            ("of no byte", b""),
            ("as text", "x" * 16),
            ("a number", 1),
            ("null", None),
            ("tagged as a UUID", cbor2.CBORTag(37, bytes(16))),
        ):
            yield f"{name}: {what}", MALFORMED, made({**good, label: value})
    for what, code, value in (
        ("not in a byte string", MALFORMED, [-16, IMAGE]),
        ("bare", MALFORMED, IMAGE),
        ("by SHA-512", UNSUPPORTED, Wrapped([-44, bytes(64)])),
        ("by SHA-1", UNSUPPORTED, Wrapped([-14, bytes(20)])),
        ("of 31 bytes", MALFORMED, Wrapped([-16, IMAGE[:31]])),
        ("of 33 bytes", MALFORMED, Wrapped([-16, IMAGE + b"\x00"])),
        ("as text", MALFORMED, Wrapped([-16, IMAGE.hex()])),
        ("with a parameter", MALFORMED, Wrapped([-16, IMAGE, 0])),
        ("bytes after it", MALFORMED, Wrapped([-16, IMAGE], b"\x00")),
        ("algorithm as text", MALFORMED, Wrapped(["sha-256", IMAGE])),
    ):
        yield f"image digest: {what}", code, made({**good, 3: value})
    for what, code, size in (
        ("0", UNSUPPORTED, 0),
        ("-1", UNSUPPORTED, -1),
        ("above 32 bits", UNSUPPORTED, 1 << 32),
        ("true", MALFORMED, True),
        ("as text", MALFORMED, "102400"),
        ("as bytes", MALFORMED, b"\x01\x90\x00"),
        ("null", MALFORMED, None),
    ):
        yield f"size: {what}", code, made({**good, 14: size})
    for what, code, uri in (
        ("of no character", UNSUPPORTED, ""),
        ("of 161 characters", UNSUPPORTED, "x" * (URL_MAX + 1)),
        ("with a line's end", UNSUPPORTED, "x\r\nHost: y"),
        ("with a space", UNSUPPORTED, "x y"),
        ("with a zero", UNSUPPORTED, "x\x00"),
        ("with a letter outside ASCII", UNSUPPORTED, "ö"),
        ("as bytes", MALFORMED, URI.encode()),
        ("null", MALFORMED, None),
        ("tagged", MALFORMED, cbor2.CBORTag(32, URI)),
    ):
        yield f"URI: {what}", code, envelope(manifest(uri=uri))


def _sequences() -> Iterator[Case]:
    shared: Any
    validate: Any
    tree = manifest()
    given = tree[3].value[4].value[1]
    for name, code, shared in (
        ("no parameters", UNSUPPORTED, [1, 15, 2, 15]),
        ("parameters twice", UNSUPPORTED, [20, given, 20, given, 1, 15, 2, 15]),
        ("parameters last", UNSUPPORTED, [1, 15, 2, 15, 20, given]),
        ("set parameters, as drafts before had them", UNSUPPORTED, [19, given, 1, 15, 2, 15]),
        ("vendor is not compared", UNSUPPORTED, [20, given, 2, 15]),
        ("class is not compared", UNSUPPORTED, [20, given, 1, 15]),
        ("nothing is compared", UNSUPPORTED, [20, given]),
        ("vendor is compared twice", UNSUPPORTED, [20, given, 1, 15, 1, 15]),
        ("class before vendor", UNSUPPORTED, [20, given, 2, 15, 1, 15]),
        ("device is compared too", UNSUPPORTED, [20, given, 1, 15, 2, 15, 24, 15]),
        ("component index", UNSUPPORTED, [12, 0, 20, given, 1, 15, 2, 15]),
        ("try each", UNSUPPORTED, [20, given, 1, 15, 2, 15, 15, [encode([])]]),
        ("run sequence", UNSUPPORTED, [20, given, 1, 15, 2, 15, 32, encode([])]),
        ("abort", UNSUPPORTED, [20, given, 14, 15, 2, 15]),
        ("reports on failure only", UNSUPPORTED, [20, given, 1, 5, 2, 15]),
        ("reports nothing", UNSUPPORTED, [20, given, 1, 15, 2, 0]),
        ("policy above four bits", UNSUPPORTED, [20, given, 1, 15, 2, 31]),
        ("policy as text", MALFORMED, [20, given, 1, 15, 2, "15"]),
        ("policy true", MALFORMED, [20, given, 1, True, 2, 15]),
        ("policy null", MALFORMED, [20, given, 1, 15, 2, None]),
        ("policy left out", UNSUPPORTED, [20, given, 1, 15, 2]),
        ("command true", MALFORMED, [20, given, True, 15, 2, 15]),
        ("command as text", MALFORMED, [20, given, "1", 15, 2, 15]),
        ("parameters in a byte string", MALFORMED, [20, Wrapped(given), 1, 15, 2, 15]),
        ("parameters that are an array", MALFORMED, [20, [1, 2], 1, 15, 2, 15]),
        ("empty", UNSUPPORTED, []),
        ("a map", MALFORMED, {20: given, 1: 15, 2: 15}),
    ):
        yield f"shared: {name}", code, _shared(shared)
    yield (
        "shared: not in a byte string",
        MALFORMED,
        envelope({**tree, 3: Wrapped({2: [[b"app"]], 4: [20, given, 1, 15, 2, 15]})}),
    )
    uri = {21: URI}
    for name, code, install in (
        ("no parameters", UNSUPPORTED, [21, 15, 3, 15]),
        ("no URI", UNSUPPORTED, [20, {}, 21, 15, 3, 15]),
        ("a digest beside the URI", UNSUPPORTED, [20, {3: Wrapped([-16, IMAGE]), **uri}, 21, 15, 3, 15]),
        ("a size beside the URI", UNSUPPORTED, [20, {14: SIZE, **uri}, 21, 15, 3, 15]),
        ("two URIs", UNSUPPORTED, [20, uri, 20, uri, 21, 15, 3, 15]),
        ("image is not compared", UNSUPPORTED, [20, uri, 21, 15]),
        ("image is compared before it is there", UNSUPPORTED, [20, uri, 3, 15, 21, 15]),
        ("nothing is fetched", UNSUPPORTED, [20, uri, 3, 15]),
        ("fetched twice", UNSUPPORTED, [20, uri, 21, 15, 21, 15, 3, 15]),
        ("other parameters after the fetch", UNSUPPORTED, [20, uri, 21, 15, 20, given, 3, 15]),
        ("copied", UNSUPPORTED, [20, uri, 22, 15, 3, 15]),
        ("written", UNSUPPORTED, [20, uri, 18, 15, 3, 15]),
        ("invoked", UNSUPPORTED, [20, uri, 21, 15, 3, 15, 23, 15]),
        ("fetch reports on failure only", UNSUPPORTED, [20, uri, 21, 2, 3, 15]),
        ("empty", UNSUPPORTED, []),
    ):
        yield f"install: {name}", code, envelope({**tree, 20: Wrapped(install)})
    yield "install: taken out, its digest left", MALFORMED, envelope({**tree, 20: [-16, IMAGE]})
    yield "install: bytes after it", MALFORMED, envelope({**tree, 20: Wrapped(tree[20].value, b"\x00")})
    for name, code, validate in (
        ("empty", UNSUPPORTED, []),
        ("another condition", UNSUPPORTED, [6, 15]),
        ("reports nothing", UNSUPPORTED, [3, 0]),
        ("compared twice", UNSUPPORTED, [3, 15, 3, 15]),
        ("parameters", UNSUPPORTED, [20, given, 3, 15]),
        ("invoked", UNSUPPORTED, [3, 15, 23, 15]),
        ("not a command", MALFORMED, [None, 15]),
        ("a number", MALFORMED, 3),
    ):
        yield f"validate: {name}", code, envelope({**tree, 7: Wrapped(validate)})
    yield "validate: bytes after it", MALFORMED, envelope({**tree, 7: Wrapped([3, 15], b"\xf6")})


def _forms() -> Iterator[Case]:
    # CBOR that says the same in another way than the deterministic one, and signed so
    tree = manifest()
    common = tree[3].value
    items = encode(tree)
    forms = {
        "sequence in two bytes": encode({**tree, 2: Raw(b"\x18\x07")}),
        "sequence as a float": encode({**tree, 2: Raw(b"\xf9\x47\x00")}),
        "version as a big number": encode({**tree, 1: Raw(b"\xc2\x41\x01")}),
        "byte string's length in three bytes": encode({**tree, 7: Raw(b"\x59\x00\x04" + encode([3, 15]))}),
        "byte string of indefinite length": encode({**tree, 7: Raw(b"\x5f\x44" + encode([3, 15]) + b"\xff")}),
        "map of indefinite length": b"\xbf" + items[1:] + b"\xff",
        "map's length in two bytes": b"\xb8\x05" + items[1:],
        "array of indefinite length": encode({**tree, 7: Wrapped(Raw(b"\x9f\x03\x0f\xff"))}),
        "keys out of order": encode(dict(reversed(tree.items()))),
        "sequence twice": b"\xa6" + items[1:] + encode(2) + encode(8),
        "key in two bytes": b"\xa5\x18\x01\x01" + items[3:],
        "components twice in common": encode(
            {**tree, 3: Wrapped(Raw(b"\xa3" + encode(common)[1:] + encode(2) + encode([[b"fw"]])))}
        ),
        "URI that is not UTF-8": encode({**tree, 20: Wrapped([20, {21: Raw(b"\x62\xc3\x28")}, 21, 15, 3, 15])}),
        "reserved length": encode({**tree, 2: Raw(b"\x1c\x07")}),
        "undefined": encode({**tree, 2: Raw(b"\xf7")}),
        "break": encode({**tree, 2: Raw(b"\xff")}),
        "length beyond the end": encode({**tree, 20: Raw(b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff")}),
        "nested deep": encode({**tree, 2: Raw(b"\x81" * 200 + b"\x00")}),
        "very many items": encode({**tree, 2: Raw(encode([0] * 1000))}),
    }
    for name, data in forms.items():
        yield f"form: {name}", MALFORMED, envelope(data)


def _shared(sequence: Tree) -> bytes:
    return envelope({**manifest(), 3: Wrapped({2: [[b"app"]], 4: Wrapped(sequence)})})


def _without(tree: dict[Any, Tree], label: Any) -> dict[Any, Tree]:
    return {other: value for other, value in tree.items() if other != label}


def _sorted(tree: dict[Any, Tree]) -> dict[Any, Tree]:
    return dict(sorted(tree.items(), key=lambda item: encode(item[0])))
