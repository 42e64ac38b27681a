"""Verifying a release on the device beside the bare signatures that it needs, measured inside one MicroPython process.

A time is the least of many rounds, yardstick and subject in turn, so that a busy machine disturbs neither more. The
yardstick verifies the very two signatures over the very digest, so both do the same multiplications.
"""

import json
from typing import Any

from tests.bench.crypto import CCM
from tests.bench.figure import Figure
from tests.support.micropython import ROOT, Micropython

# how the rounds are timed is the crypto benchmark's
LEAST = "import gc, time\n\n" + CCM[CCM.index("def least(") :]
VERIFY = """
from hashlib import sha256
from sealband.crypto import p256
from sealband.crypto.cose import sig_structure
from sealband.update import manifest, trust

envelope = bytes.fromhex(%r)
held = trust.parse(bytes.fromhex(%r))
device = manifest.Identity(bytes.fromhex(%r), bytes.fromhex(%r), {b"app": 6}, {b"app": 131072})
digest, data, signatures = manifest.authenticate(envelope)
payload = manifest.payload(digest)
bare = []
for i in range(2):
    message = sha256(sig_structure(signatures[i].protected, payload)).digest()
    bare.append((b"\\x04" + held.release_keys[i], message, signatures[i].signature))

def two():
    for one in bare:
        assert p256.verify(*one)

def verify():
    manifest.verify(envelope, held, device)

def check():
    manifest._read(manifest.authenticate(envelope)[1], digest)
"""


def figures() -> list[Figure]:
    """A 2-of-3 manifest over two bare verifications."""
    given: Any = json.loads((ROOT / "tests" / "vectors" / "update-v1.json").read_text())
    envelope = given["taken"]["2 of 3"]
    identity = given["identity"]
    with Micropython() as device:
        device.run(LEAST)
        device.run(VERIFY % (envelope, given["trust"], identity["vendor"], identity["class"]))
        two, verify, check = device.call("least((two, verify, check), 40, 4)", timeout_s=240)
    return [
        Figure(
            "Verify a manifest signed by 2 of 3 ÷ two bare P-256 verifies",
            verify / two,
            1.1,
            note=f"{verify / 1000:.2f} ms; {len(envelope) // 2} bytes; all but the signatures {check / 1000:.2f} ms",
        )
    ]
