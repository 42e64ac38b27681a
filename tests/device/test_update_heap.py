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


def verified(envelope):
    held = trust.parse(bytes.fromhex(given("update-v1.json", "trust")))
    device = identity()
    gc.collect()
    free = gc.mem_free()
    found = manifest.verify(envelope, held, device)
    # with the garbage that big numbers leave, less what was collected on the way
    print("%d bytes: %d free before, %d after" % (len(envelope), free, gc.mem_free()))
    assert found.sequence == 7


def taken(name):
    return bytes.fromhex(given("update-v1.json", name, '"taken"'))


def test_2_of_3():
    verified(taken("2 of 3"))


def test_3_of_3():
    verified(taken("3 of 3"))


def test_16_signatures():
    verified(taken("16 signatures, the last ones good"))


def test_longest():
    with open("tests/vectors/update-longest.suit", "rb") as source:
        verified(source.read())


def test_trust_list():
    held = trust.parse(bytes.fromhex(given("update-v1.json", "trust")))
    signed = bytes.fromhex(given("trust-v1.json", "signed", '"name": "the next list"'))
    gc.collect()
    assert trust.parse(trust.rotate(held, signed)).version == 2
