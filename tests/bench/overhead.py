"""Bytes that a frame adds to its ciphertext, counted on a frame that a second library opens."""

import cbor2
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from sealwire import frame
from tests.bench.figure import Figure


def figures() -> list[Figure]:
    """The frame's overhead, with its 64-bit tag included."""
    key, iv, eui, plaintext = bytes(range(16)), bytes(range(13)), bytes(8), bytes(43)
    head = frame.header(frame.KIND_DATA, 5, b"\x01\x02", 77)
    aad = cbor2.dumps(["Encrypt0", b"\xa1\x01\x0a", head[:1] + eui + bytes([0, 0, 0, 5, 0, 77])])
    nonce = frame.nonce(iv, 77)
    sealed = AESCCM(key, tag_length=8).encrypt(nonce, plaintext, aad)
    whole = head + sealed
    parsed = frame.parse(whole)
    opened = AESCCM(key, tag_length=8).decrypt(nonce, parsed.sealed, aad)
    overhead = len(whole) - len(opened)
    return [Figure("bytes beside the ciphertext", overhead, 13, unit="B", note="64-bit tag included")]
