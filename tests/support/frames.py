"""What a device puts on the air, made on the host with `cryptography`, and the check values. For tests only.

The project itself never seals an uplink on the host; this stands for a device where starting one would be slow, and
takes nothing from the device's code.
"""

import json
from functools import cache
from typing import Any

import cbor2
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from provisioning.keys import EpochKeys
from tests.support.micropython import ROOT


@cache
def vectors() -> dict[str, Any]:
    """The check values of the wire format."""
    loaded: dict[str, Any] = json.loads((ROOT / "tests" / "vectors" / "wire-v1.json").read_text())
    return loaded


def seal_uplink(
    keys: EpochKeys, eui: bytes, epoch: int, ctr: int, plaintext: bytes, *, hello: bool = False, kind: int = 0
) -> bytes:
    """A frame from this device, written from the text of the wire format and not with `sealwire`."""
    ctl = 0b11100000 | (2 if hello else kind) << 3 | epoch % 8
    counter = ctr.to_bytes(2, "big")
    head = bytes([ctl]) + (eui + epoch.to_bytes(4, "big") if hello else keys.did) + counter
    aad = cbor2.dumps(["Encrypt0", bytes.fromhex("a1010a"), bytes([ctl]) + eui + epoch.to_bytes(4, "big") + counter])
    nonce = (int.from_bytes(keys.iu, "big") ^ ctr).to_bytes(13, "big")
    return head + AESCCM(keys.ku, tag_length=8).encrypt(nonce, plaintext, aad)
