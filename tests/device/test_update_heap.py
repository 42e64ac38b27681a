# A manifest is verified and a trust list taken in the heap of a chip. The check values are read line by line: here they
# would not fit beside the code.
import gc
from hashlib import sha256

from sealband.crypto import cbor, cose, p256
from sealband.update import manifest, trust
from sealwire import update as codes

HEAP = "64wK"


# The text of a field that stands on a line of its own, after the line that ends so.
def given(file, name, after=""):
    with open("tests/vectors/" + file) as source:
        waiting = after
        for line in source:
            line = line.strip()
            if waiting:
                if line.startswith(waiting):
                    waiting = ""
            elif line.startswith('"%s": "' % name):
                line = line.split('": "')[1]
                return line[: line.find('"')]
    raise KeyError(name)


def identity():
    vendor = bytes.fromhex(given("update-v1.json", "vendor"))
    class_id = bytes.fromhex(given("update-v1.json", "class"))
    return manifest.Identity(vendor, class_id, {b"app": 6, b"fw": 6}, {b"app": 131072, b"fw": 1572864})


def verified(name):
    envelope = bytes.fromhex(given("update-v1.json", name, '"taken"'))
    held = trust.parse(bytes.fromhex(given("update-v1.json", "trust")))
    device = identity()
    gc.collect()
    free = gc.mem_free()
    found = manifest.verify(envelope, held, device)
    # with the garbage that big numbers leave, less what was collected on the way
    print("%s: %d bytes free before, %d after" % (name, free, gc.mem_free()))
    assert found.sequence == 7


def test_2_of_3():
    verified("2 of 3")


def test_3_of_3():
    verified("3 of 3")


def test_16_signatures():
    verified("16 signatures, the last ones good")


# As long as an envelope may be; signed here, since the check value would take half the heap as text.
def test_longest():
    data = bytes.fromhex(given("update-v1.json", "manifest", '"uri"'))
    secrets = [bytes.fromhex(given("update-v1.json", "private", '"%s": {' % name)) for name in ("r1", "r2")]
    held = trust.parse(bytes.fromhex(given("update-v1.json", "trust")))
    device = identity()
    envelope = bytes()
    filler = codes.ENVELOPE_MAX - 500
    while len(envelope) != codes.ENVELOPE_MAX:
        filler += codes.ENVELOPE_MAX - len(envelope) if envelope else 0
        envelope = signed(data, bytes(filler), secrets)
        gc.collect()
    assert manifest.verify(envelope, held, device).sequence == 7


def signed(data, text, secrets):
    fields = cbor.decode(data)
    fields[23] = text
    data = cbor.encode(fields)
    payload = manifest.payload(sha256(cbor.encode(data)).digest())
    block = [payload]
    for secret in secrets:
        kid = sha256(p256.public_key(secret)).digest()[:8]
        block.append(cose.sign1(secret, payload, unprotected={4: kid}, detached=True))
    return cbor.encode(cbor.Tag(107, {2: cbor.encode(block), 3: data}))


def test_trust_list():
    held = trust.parse(bytes.fromhex(given("update-v1.json", "trust")))
    signed = bytes.fromhex(given("trust-v1.json", "signed", '"name": "the next list"'))
    gc.collect()
    assert trust.parse(trust.rotate(held, signed)).version == 2
