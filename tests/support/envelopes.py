"""Signed envelopes and trust lists, made with `cbor2` and `cryptography` from the text of WIRE; good ones and bad ones.

Takes nothing from the device's code nor from `host_tools.release`. A manifest is a tree of Python values in which
`Wrapped` stands for `bstr .cbor`; whatever is changed in it is encoded and signed like the rest, so that what is
refused is refused for that change. `python -m tests.support.update_vectors` writes the check values in `tests/vectors`.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import NAMESPACE_DNS, uuid5

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
VENDOR = uuid5(NAMESPACE_DNS, "sealband.example")
CLASS = uuid5(VENDOR, "virtual-wearable")
IMAGE = hashlib.sha256(b"the image of an update, for tests").digest()
SIZE = 102400
SEQUENCE = 7
URI = f"{IMAGE.hex()}/full.deflate"

Tree = Any
Signature = Callable[[bytes], bytes]


@dataclass
class Wrapped:
    """`bstr .cbor value`; `raw` are bytes that follow inside the byte string."""

    value: Tree
    raw: bytes = b""


@dataclass
class Raw:
    """Bytes that stand for themselves as an encoded item, well-formed or not."""

    data: bytes


def encode(tree: Tree) -> bytes:
    """The encoding of a tree, in the order in which its maps were written down."""
    if isinstance(tree, Raw):
        return tree.data
    if isinstance(tree, Wrapped):
        return cbor2.dumps(encode(tree.value) + tree.raw)
    if isinstance(tree, cbor2.CBORTag):
        return _head(6, tree.tag) + encode(tree.value)
    if isinstance(tree, dict):
        return _head(5, len(tree)) + b"".join(encode(key) + encode(value) for key, value in tree.items())
    if isinstance(tree, list):
        return _head(4, len(tree)) + b"".join(encode(item) for item in tree)
    return cbor2.dumps(tree)


@cache
def key(name: str) -> ec.EllipticCurvePrivateKey:
    """A private key that everybody knows."""
    secret = int.from_bytes(hashlib.sha256(b"sealband test key " + name.encode()).digest(), "big")
    return ec.derive_private_key(secret % (ORDER - 1) + 1, ec.SECP256R1())


def point(name: str) -> bytes:
    """Its public key, x and y."""
    numbers = key(name).public_key().public_numbers()
    return numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


def kid(name: str) -> bytes:
    """The short name of its public key."""
    return hashlib.sha256(b"\x04" + point(name)).digest()[:8]


def suit_digest(data: bytes) -> bytes:
    """An encoded SUIT_Digest of a manifest, head included."""
    return encode([-16, hashlib.sha256(cbor2.dumps(data)).digest()])


def manifest(component: bytes = b"app", sequence: Any = SEQUENCE, size: Any = SIZE, uri: Any = URI) -> dict[Any, Tree]:
    """The tree of a manifest that a device of this vendor and class takes."""
    parameters = {1: VENDOR.bytes, 2: CLASS.bytes, 3: Wrapped([-16, IMAGE]), 14: size}
    return {
        1: 1,
        2: sequence,
        3: Wrapped({2: [[component]], 4: Wrapped([20, parameters, 1, 15, 2, 15])}),
        7: Wrapped([3, 15]),
        20: Wrapped([20, {21: uri}, 21, 15, 3, 15]),
    }


def signature(
    signer: str,
    *,
    algorithm: Any = -9,
    protected: dict[Any, Tree] | None = None,
    unprotected: dict[Any, Tree] | None = None,
    attached: bool = False,
    aad: bytes = b"",
    tag: int | None = 18,
    of: Callable[[bytes], bytes] = lambda payload: payload,
    change: Callable[[bytes], bytes] = lambda signed: signed,
) -> Signature:
    """What makes a COSE_Sign1 (RFC 9052 section 4.2) of a payload; by default one that counts."""

    def sign(payload: bytes) -> bytes:
        header = encode({1: algorithm} if protected is None else protected)
        signed = raw_signature(signer, encode(["Signature1", header, aad, of(payload)]))
        parts = [
            header,
            {4: kid(signer)} if unprotected is None else unprotected,
            payload if attached else None,
            change(signed),
        ]
        return encode(parts if tag is None else cbor2.CBORTag(tag, parts))

    return sign


def raw_signature(signer: str, message: bytes) -> bytes:
    """r and s, 32 bytes each, with the nonce of RFC 6979."""
    der = key(signer).sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    r, s = decode_dss_signature(der)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def opposite(signed: bytes) -> bytes:
    """The other signature that is as good: (r, n − s)."""
    return signed[:32] + (ORDER - int.from_bytes(signed[32:], "big")).to_bytes(32, "big")


def wrong(signed: bytes) -> bytes:
    """One bit of s is another."""
    return signed[:-1] + bytes([signed[-1] ^ 1])


def envelope(tree: Tree, signers: Iterable[str | Signature] = ("r1", "r2"), **others: Tree) -> bytes:
    """A signed envelope of a manifest (a tree, or its bytes); signers by key name or by `signature(…)`.

    Args:
        tree: the manifest.
        signers: in the order in which their signatures stand.
        others: `digest`, `block`, `fields`, `tag`: to stand in place of what would be right; callables get that.
    """
    data = tree if isinstance(tree, bytes) else encode(tree)
    digest = others.get("digest", suit_digest)(data)
    made = [(signature(one) if isinstance(one, str) else one)(digest) for one in signers]
    block = others.get("block", list)([digest, *made])
    fields = others.get("fields", dict)({2: Wrapped(block), 3: data})
    return encode(others.get("tag", lambda item: cbor2.CBORTag(107, item))(fields))


def filled(length: int) -> bytes:
    """A signed envelope of just this length; what fills it is the text."""
    text = length - 800
    while True:
        made = envelope({**manifest(), 23: Wrapped({"en": "x" * text})})
        if len(made) == length:
            return made
        text += length - len(made)


def trust_payload(
    version: Any = 1,
    release: Sequence[str] = ("r1", "r2", "r3"),
    roots: Sequence[str] = ("a", "b", "c"),
    threshold: Any = 2,
    root_threshold: Any = 2,
    expires: Any = None,
) -> dict[Any, Tree]:
    """The tree of a trust list's payload; keys by name."""
    fields: dict[Any, Tree] = {
        1: version,
        2: threshold,
        3: [point(name) for name in release],
        4: root_threshold,
        5: [point(name) for name in roots],
    }
    return fields if expires is None else {**fields, 6: expires}


def trust_list(payload: Tree, signers: Iterable[str | Signature] = ()) -> bytes:
    """A trust list's file: the payload and its signatures."""
    data = payload if isinstance(payload, bytes) else encode(payload)
    made = [(signature(one) if isinstance(one, str) else one)(data) for one in signers]
    return encode([data, [Raw(one) for one in made]])


def _head(major: int, argument: int) -> bytes:
    # what cbor2 writes for an unsigned number, with another major type
    number = cbor2.dumps(argument)
    return bytes([number[0] | major << 5]) + number[1:]
