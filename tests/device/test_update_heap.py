# A manifest is verified and a trust list taken in the heap of a chip. The check values are read line by line: here they
# would not fit beside the code.
import gc

from sealband.update import manifest, trust

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
    # nothing is collected on the way, so what is used in between is at most this
    found = manifest.verify(envelope, held, device)
    print("%s: %d bytes free before, %d after" % (name, free, gc.mem_free()))
    assert found.sequence == 7


def test_2_of_3():
    verified("2 of 3")


def test_3_of_3():
    verified("3 of 3")


def test_16_signatures():
    verified("16 signatures, the last ones good")


def test_trust_list():
    held = trust.parse(bytes.fromhex(given("update-v1.json", "trust")))
    signed = bytes.fromhex(given("trust-v1.json", "signed", '"name": "the next list"'))
    gc.collect()
    assert trust.parse(trust.rotate(held, signed)).version == 2
