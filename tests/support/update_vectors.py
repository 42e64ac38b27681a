"""Check values of manifests and trust lists: what a device takes, and the attacks by name.

`python -m tests.support.update_vectors` writes `update-v1.json`, `trust-v1.json` and `update-longest.suit` into
`tests/vectors`; a host test makes them again, and holds what lies outside the subset (`refused_envelopes.py`,
`bad_lists` here) against the device's code.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cbor2

from tests.support.envelopes import (
    CLASS,
    IMAGE,
    SEQUENCE,
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
    key,
    kid,
    manifest,
    opposite,
    point,
    signature,
    suit_digest,
    trust_list,
    trust_payload,
    wrong,
)

FOLDER = Path(__file__).resolve().parents[1] / "vectors"
KEYS = ("r1", "r2", "r3", "r4", "a", "b", "c", "d", "e")
EXPIRES = 50_000_000
ENVELOPE_MAX = 4096


def taken() -> dict[str, bytes]:
    """Envelopes that a device of trust list 1 takes."""
    tree = manifest()
    return {
        "2 of 3": envelope(tree),
        "the other 2 of 3": envelope(tree, ("r3", "r2")),
        "3 of 3": envelope(tree, ("r1", "r2", "r3")),
        "ES256 as it was called before": envelope(tree, (signature("r1", algorithm=-7), "r2")),
        "key named in the protected header": envelope(
            tree, (signature("r1", protected={1: -9, 4: kid("r1")}, unprotected={}), "r2")
        ),
        "signature of an unknown key among them": envelope(tree, ("r4", "r1", "r2")),
        "16 signatures, the last ones good": envelope(tree, (*["r4"] * 14, "r1", "r2")),
        "signature of a known key that does not verify, then its good one": envelope(
            tree, (signature("r1", change=wrong), "r1", "r2")
        ),
        "with text": envelope({**tree, 23: Wrapped({"en": {2: "virtual-wearable"}})}),
        "with the digest of text": envelope({**tree, 23: [-16, IMAGE]}),
        "firmware": envelope(manifest(component=b"fw", size=1_400_000)),
        "as large as the slot": envelope(manifest(size=131072)),
        "highest sequence": envelope(manifest(sequence=0xFFFFFFFF)),
    }


def attacks() -> dict[str, dict[str, str]]:
    """Envelopes that somebody might try, and the code that they meet: all of them well-formed."""
    tree = manifest()
    shared = tree[3].value[4].value[1]
    other_model = {**manifest(), 3: _common({**shared, 2: bytes(16)})}
    other_vendor = {**manifest(), 3: _common({**shared, 1: bytes(16)})}
    cases: dict[str, tuple[bytes, str]] = {
        "unsigned update": (envelope(tree, ()), "TOO_FEW_SIGNATURES"),
        "one signature too few": (envelope(tree, ("r1",)), "TOO_FEW_SIGNATURES"),
        "the same key twice": (envelope(tree, ("r1", "r1")), "TOO_FEW_SIGNATURES"),
        "the same key twice, its signature written the other way": (
            envelope(tree, ("r1", signature("r1", change=opposite))),
            "TOO_FEW_SIGNATURES",
        ),
        "the same key twice, by both names of the algorithm": (
            envelope(tree, ("r1", signature("r1", algorithm=-7))),
            "TOO_FEW_SIGNATURES",
        ),
        "signed by root keys": (envelope(tree, ("a", "b")), "TOO_FEW_SIGNATURES"),
        "signed by a key that is not in the list": (envelope(tree, ("r1", "r4")), "TOO_FEW_SIGNATURES"),
        "a key that calls itself by another's name": (
            envelope(tree, ("r1", signature("r4", unprotected={4: kid("r2")}))),
            "TOO_FEW_SIGNATURES",
        ),
        "one signature does not verify": (envelope(tree, ("r1", signature("r2", change=wrong))), "TOO_FEW_SIGNATURES"),
        "old release": (envelope(manifest(sequence=SEQUENCE - 2)), "OLD_SEQUENCE"),
        "the release that runs": (envelope(manifest(sequence=SEQUENCE - 1)), "OLD_SEQUENCE"),
        "manifest of another model": (envelope(other_model), "WRONG_CLASS"),
        "manifest of another vendor": (envelope(other_vendor), "WRONG_VENDOR"),
        "image larger than the slot": (envelope(manifest(size=131073)), "TOO_LARGE"),
        "signatures of another manifest": (
            envelope(manifest(sequence=SEQUENCE + 1), _borrowed(tree, "r1", "r2")),
            "TOO_FEW_SIGNATURES",
        ),
        "manifest exchanged below its signatures": (
            envelope(manifest(sequence=SEQUENCE + 1), _borrowed(tree, "r1", "r2"), digest=lambda _: _digest_of(tree)),
            "MANIFEST_DIGEST",
        ),
        "trust list's signature used for a manifest": (
            envelope(tree, (signature("r1", of=lambda _: encode(trust_payload())), "r2")),
            "TOO_FEW_SIGNATURES",
        ),
    }
    return {name: {"code": code, "envelope": data.hex()} for name, (data, code) in cases.items()}


def rotations() -> Iterator[dict[str, Any]]:
    """Trust lists offered to a device that holds version 1 (roots a, b, c, two of them)."""
    second = {"release": ("r2", "r3", "r4"), "roots": ("b", "c", "d")}
    after = trust_payload(2, **second, expires=EXPIRES)
    moved = trust_payload(2, roots=("d", "e"))

    def case(name: str, signed: bytes, code: str | None, now_s: int | None = None) -> dict[str, Any]:
        return {"name": name, "signed": signed.hex(), "now_s": now_s, "code": code}

    yield case("the next list", trust_list(after, ("a", "b", "d")), None)
    yield case("keys that are root keys of both count for both", trust_list(after, ("b", "c")), None)
    yield case("roots all changed", trust_list(moved, ("a", "e", "c", "d")), None)
    yield case("signatures of unknown keys among them", trust_list(after, ("r1", "b", "e", "c")), None)
    yield case("a second before it expires", trust_list(after, ("b", "c")), None, EXPIRES - 1)
    yield case("expired trust list", trust_list(after, ("b", "c")), "TRUST_EXPIRED", EXPIRES)
    yield case("trust list signed by new roots only", trust_list(after, ("b", "d")), "TRUST_SIGNATURES")
    yield case("trust list signed by old roots only", trust_list(after, ("a", "b")), "TRUST_SIGNATURES")
    yield case("all new roots, none of the old", trust_list(moved, ("d", "e")), "TRUST_SIGNATURES")
    yield case("all old roots, none of the new", trust_list(moved, ("a", "b", "c")), "TRUST_SIGNATURES")
    yield case("unsigned trust list", trust_list(after), "TRUST_SIGNATURES")
    yield case("the same root twice", trust_list(after, ("b", "b", "d")), "TRUST_SIGNATURES")
    yield case(
        "the same root twice, its signature written the other way",
        trust_list(after, ("b", signature("b", change=opposite))),
        "TRUST_SIGNATURES",
    )
    yield case("signed by release keys", trust_list(after, ("r2", "r3")), "TRUST_SIGNATURES")
    yield case("release keys that call themselves roots", trust_list(after, _named("b", "c")), "TRUST_SIGNATURES")
    yield case(
        "one signature does not verify", trust_list(after, ("b", signature("c", change=wrong))), "TRUST_SIGNATURES"
    )
    yield case("trust list of the same version", trust_list(trust_payload(1, **second), ("b", "c")), "TRUST_VERSION")
    yield case("trust list of an old version", trust_list(trust_payload(0x7FFFFFFF), ("b", "c")), "TRUST_VERSION")
    yield case("a version is stepped over", trust_list(trust_payload(3, **second), ("b", "c")), "TRUST_VERSION")


def bad_lists() -> Iterator[tuple[str, bytes]]:
    """Signed lists that are none, or cannot hold."""
    for name, payload in _bad_payloads():
        yield name, trust_list(payload, ("b", "c"))
    yield from _bad_files(trust_payload(2))


def _bad_payloads() -> Iterator[tuple[str, Tree]]:
    good = trust_payload(2)
    off = point("r2")[:63] + bytes([point("r2")[63] ^ 1])
    opposite_point = point("r2")[:32] + (
        (2**256 - 2**224 + 2**192 + 2**96 - 1) - int.from_bytes(point("r2")[32:], "big")
    ).to_bytes(32, "big")
    many = [point(f"many {number}") for number in range(17)]
    for label, name in ((3, "release"), (5, "root")):
        for what, keys in (
            ("no key", []),
            ("a key twice", [point("r2"), point("r3"), point("r2")]),
            ("a key and its opposite", [point("r2"), opposite_point, point("r3")]),
            ("a key that is not on the curve", [off, point("r3")]),
            ("a key of zeros", [bytes(64), point("r3"), point("r2")]),
            ("a key of 65 bytes", [b"\x04" + point("r2"), point("r3"), point("r4")]),
            ("a key of 33 bytes", [b"\x02" + point("r2")[:32], point("r3"), point("r4")]),
            ("a key as text", ["x" * 64, point("r3"), point("r2")]),
            ("17 keys", many),
            ("keys not in an array", point("r2")),
        ):
            yield f"{name} keys: {what}", {**good, label: keys}
    for label, name in ((2, "release"), (4, "root")):
        for what, number in (
            ("of 0", 0),
            ("above the number of keys", 4),
            ("below 0", -1),
            ("that is true", True),
            ("that is text", "2"),
            ("that is null", None),
        ):
            yield f"{name} threshold {what}", {**good, label: number}
    for what, number in (("0", 0), ("above 32 bits", 1 << 32), ("as text", "2"), ("as true", True)):
        yield f"version {what}", {**good, 1: number}
    for what, value in (("below 0", -1), ("above 32 bits", 1 << 32), ("null", None), ("true", True)):
        yield f"expiry {what}", {**good, 6: value}
    for label in good:
        yield f"field {label} is missing", {other: value for other, value in good.items() if other != label}
    yield "a field that is not known", {**good, 7: 1}
    yield "a field with a text label", {**good, "1": 1}
    yield "fields out of order", dict(reversed(good.items()))
    yield "a field twice", Raw(b"\xa6" + encode(good)[1:] + encode(5) + encode(good[5]))
    yield "payload that is an array", list(good.values())
    yield "bytes after the payload", Raw(encode(good) + b"\x00")
    yield "number not in its shortest form", Raw(encode({**good, 1: Raw(b"\x18\x02")}))
    yield "map of indefinite length", Raw(b"\xbf" + encode(good)[1:] + b"\xff")


def _bad_files(after: Tree) -> Iterator[tuple[str, bytes]]:
    payload = encode(after)
    made = [Raw(signature(one)(payload)) for one in ("b", "c")]
    yield "not CBOR", b"\xff"
    yield "empty", b""
    yield "payload not in a byte string", encode([after, made])
    yield "payload that is null", encode([None, made])
    yield "no signatures' array", encode([payload])
    yield "three parts", encode([payload, made, 0])
    yield "signatures not in an array", encode([payload, made[0]])
    yield "a map", encode({0: payload, 1: made})
    yield "tagged", encode(cbor2.CBORTag(18, [payload, made]))
    yield "bytes after the list", encode([payload, made]) + b"\x00"
    yield "signatures in byte strings", encode([payload, [one.data for one in made]])
    yield "17 signatures", encode([payload, [Raw(signature("e")(payload))] * 15 + made])
    yield (
        "longer than may be",
        trust_list(
            trust_payload(2, release=[f"m{i}" for i in range(16)], roots=[f"n{i}" for i in range(16)]), ("b", "c") * 12
        ),
    )
    for name, bad in (
        ("attached payload", signature("b", attached=True)),
        ("signature that names no key", signature("b", unprotected={})),
        ("key named by four bytes", signature("b", unprotected={4: kid("b")[:4]})),
        ("untagged signature", signature("b", tag=None)),
        ("signature of another algorithm", signature("b", algorithm=-35)),
        ("signature of 63 bytes", signature("b", change=lambda signed: signed[:63])),
        ("header that is not known", signature("b", unprotected={4: kid("b"), 3: 0})),
    ):
        yield name, trust_list(after, (bad, "b", "c"))


def _common(parameters: Tree) -> Wrapped:
    return Wrapped({2: [[b"app"]], 4: Wrapped([20, parameters, 1, 15, 2, 15])})


def _digest_of(tree: Tree) -> bytes:
    return suit_digest(encode(tree))


def _borrowed(tree: Tree, *signers: str) -> list[Signature]:
    def of(name: str) -> Signature:
        return lambda _: signature(name)(_digest_of(tree))

    return [of(name) for name in signers]


def _named(*names: str) -> list[Callable[[bytes], bytes]]:
    return [signature(signer, unprotected={4: kid(name)}) for signer, name in zip(("r2", "r3"), names, strict=True)]


def vectors() -> dict[str, Any]:
    """What `update-v1.json` holds."""
    return {
        "comment": "Made by tests/support/update_vectors.py with cbor2 and cryptography. The keys are for tests only.",
        "keys": {
            name: {
                "private": key(name).private_numbers().private_value.to_bytes(32, "big").hex(),
                "public": point(name).hex(),
                "kid": kid(name).hex(),
            }
            for name in KEYS
        },
        "identity": {
            "vendor": VENDOR.bytes.hex(),
            "class": CLASS.bytes.hex(),
            "floors": {"app": SEQUENCE - 1, "fw": SEQUENCE - 1},
            "limits": {"app": 131072, "fw": 1572864},
        },
        "manifest": {
            "sequence": SEQUENCE,
            "digest": IMAGE.hex(),
            "size": SIZE,
            "uri": URI,
            "unsigned": envelope(manifest(), ()).hex(),
            "manifest": encode(manifest()).hex(),
            "payload": _digest_of(manifest()).hex(),
        },
        "taken": {name: data.hex() for name, data in taken().items()},
        "attacks": attacks(),
        "trust": encode(trust_payload()).hex(),
    }


def trust_vectors() -> dict[str, Any]:
    """What `trust-v1.json` holds."""
    after = trust_payload(2, ("r2", "r3", "r4"), ("b", "c", "d"), expires=EXPIRES)
    return {
        "comment": "Made by tests/support/update_vectors.py. A device that holds list 1 is offered others.",
        "keys": {name: point(name).hex() for name in KEYS},
        "lists": {"1": encode(trust_payload()).hex(), "2": encode(after).hex()},
        "rotations": list(rotations()),
    }


def written(value: Any) -> str:
    """The text of a file of check values."""
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def files() -> dict[str, bytes]:
    """Name and contents of each file."""
    return {
        "update-v1.json": written(vectors()).encode(),
        "trust-v1.json": written(trust_vectors()).encode(),
        "update-longest.suit": filled(ENVELOPE_MAX),
    }


if __name__ == "__main__":
    for name, contents in files().items():
        (FOLDER / name).write_bytes(contents)
