# Enrolment on the device: the published vector, the generator's test, one ticket for ever, nothing secret left behind.
import hashlib
import json
import os
import sys

from device.fakes import FakeNetwork, FakeNvs, World

from sealband import enrol, keys, store
from sealband.chain import Chain
from sealband.crypto import cbor, cose, p256
from sealband.enrol import EnrolError
from sealband.errors import StoreError

sys.modules["network"] = FakeNetwork

HEAP = "128wK"  # compiling the sources takes more than running them: e2e runs the compiled ones in 64wK

with open(__file__[: __file__.rfind("/device/")] + "/vectors/wire-v1.json") as file:
    VECTORS = {
        name: bytes.fromhex(value)
        for name, value in json.load(file).items()
        if isinstance(value, str) and name != "comment"
    }
EUI = VECTORS["eui"]
TICKET = VECTORS["ticket_id"]
TICKET_PUB = VECTORS["ticket_pub"]
NONCE = VECTORS["station_nonce"]


def random(n):
    return os.urandom(n)


def run(world, ticket=TICKET, ticket_pub=TICKET_PUB, nonce=NONCE, now_s=1000, source=random, model="virtual-wearable"):
    return enrol.run(ticket, ticket_pub, nonce, now_s, store.Store(world.nvs), EUI, model, source)


def refused(code, function, *arguments, **options):
    try:
        function(*arguments, **options)
    except EnrolError as error:
        assert error.code == code, error.code
        return error
    raise AssertionError("not refused")


def fields(record):
    return cbor.decode(cbor.decode(record).value[2])


# The registry's half: z from the ticket's private key.
def root_of(record):
    row = fields(record)
    z = p256.ecdh(VECTORS["ticket_private"], row[3])
    return keys.root_key(z, keys.transcript(*row[1:7])), row


def test_record_is_signed_and_confirms_the_root_key_that_the_registry_derives():
    world = World()
    record = run(world)
    row = fields(record)
    assert cose.verify1(row[3], record) == cbor.encode(row)
    assert row[:3] == ["sealband/1 record", TICKET, EUI]
    assert row[4:6] == [TICKET_PUB, NONCE]
    assert row[8:] == ["virtual-wearable", 0]
    root, row = root_of(record)
    assert row[7] == keys.confirm(root, keys.transcript(*row[1:7]))
    chain = Chain.load(store.Store(world.nvs))
    assert chain.eui == EUI and chain.epoch == 0
    assert chain.keys() == keys.epoch_keys(root, EUI)


def test_published_vector_gives_its_transcript_and_confirmation():
    drawn = []

    # hashed to the private key: the vector's own is put in place of the hash
    def source(n):
        drawn.append(n)
        return VECTORS["device_nonce"] if n == 16 else os.urandom(n)

    made = enrol._key_pair
    enrol._key_pair = lambda random, eui, nonce: (VECTORS["device_private"], VECTORS["device_pub"])
    try:
        record = run(World(), source=source)
    finally:
        enrol._key_pair = made
    row = fields(record)
    assert keys.transcript(*row[1:7]) == VECTORS["transcript"]
    assert row[7] == VECTORS["confirm"]
    assert 16 in drawn


def test_same_ticket_gives_the_very_same_record_whatever_the_station_says():
    world = World()
    record = run(world)
    for nonce, now_s in ((NONCE, 1000), (bytes(16), 0), (b"x", 9)):
        assert run(world, nonce=nonce, now_s=now_s) == record


def test_record_stays_the_same_when_the_chain_has_moved_on():
    world = World()
    record = run(world)
    chain = Chain.load(store.Store(world.nvs))
    for _ in range(3):
        chain.take_counter()
    chain.acknowledged(2000, 0)
    assert chain.advance(1000 + 86400)
    counters = (chain.epoch, chain.take_counter())
    assert run(world) == record
    chain = Chain.load(store.Store(world.nvs))
    assert chain.epoch == 1 and (chain.epoch, chain.take_counter()) > counters


def test_another_ticket_is_refused():
    world = World()
    record = run(world)
    refused(enrol.OTHER_TICKET, run, world, ticket=bytes(8))
    # the same number with another key: somebody is in the middle
    refused(enrol.OTHER_TICKET, run, world, ticket_pub=p256.public_key(bytes(31) + b"\x07"))
    assert run(world) == record


def test_malformed_ticket_is_refused_and_leaves_nothing():
    world = World()
    off_curve = TICKET_PUB[:-1] + bytes((TICKET_PUB[-1] ^ 1,))
    for options in (
        {"ticket": bytes(7)},
        {"ticket": b""},
        {"ticket_pub": TICKET_PUB[:64]},
        {"ticket_pub": off_curve},
        {"ticket_pub": b"\x02" + TICKET_PUB[1:]},
        {"ticket_pub": bytes(65)},
        {"nonce": bytes(15)},
        {"nonce": bytes(17)},
    ):
        refused(enrol.BAD_TICKET, run, world, **options)
    for model in ("", "x" * 33):
        if model:
            refused(enrol.BOARD, run, world, model=model)
    assert world.nvs.dump() == {}


def test_no_secret_is_left_in_flash_from_which_past_keys_could_be_derived():
    world = World()
    privates = []
    made = enrol._key_pair

    def remember(random, eui, nonce):
        pair = made(random, eui, nonce)
        privates.append(pair[0])
        return pair

    enrol._key_pair = remember
    try:
        record = run(world)
    finally:
        enrol._key_pair = made
    assert len(privates) == 1
    root, _ = root_of(record)
    chain = Chain.load(store.Store(world.nvs))
    chain.acknowledged(2000, 0)
    assert chain.advance(1000 + 86400)
    held = [value for value in world.nvs.dump().values() if isinstance(value, bytes)]
    assert any(record in value for value in held)
    for value in held:
        assert privates[0] not in value and root not in value


def test_private_key_left_by_a_power_cut_goes_at_the_next_start():
    world = World()
    where = store.Store(world.nvs)
    # the identity is written, the chain is not yet
    held = enrol._make(TICKET, TICKET_PUB, NONCE, EUI, "virtual-wearable", random)
    where.save(store.IDENTITY, enrol._pack(*held))
    assert enrol.settle(store.Store(world.nvs), 5)
    assert not enrol.settle(store.Store(world.nvs), 5)
    assert not enrol.settle(store.Store(FakeNvs()))
    assert not any(held[0] in value for value in world.nvs.dump().values())
    assert run(world) == held[1]


def test_board_with_half_an_identity_is_not_enrolled_anew():
    world = World()
    run(world)
    # the chain is gone: it was retired, or flash lost it
    where = store.Store(world.nvs)
    where.erase(store.CHAIN)
    refused(enrol.DAMAGED, run, world)
    # the identity is gone, the chain is in use
    world = World()
    run(world)
    store.Store(world.nvs).erase(store.IDENTITY)
    before = world.nvs.dump()
    refused(enrol.DAMAGED, run, world)
    assert world.nvs.dump() == before


def test_flash_that_does_not_keep_what_it_was_told_gives_no_record():
    world = World()
    world.nvs.space = 200
    try:
        run(world)
        raise AssertionError("not refused")
    except StoreError:
        pass
    world.nvs.space = 10000
    assert run(world)


def test_stuck_biased_and_repeating_generators_are_refused():
    state = bytes(32)

    def counter(n):
        nonlocal state
        out = b""
        while len(out) < n:
            state = hashlib.sha256(state).digest()
            out += state
        return out[:n]

    enrol.check_random(counter)
    for bad in (
        lambda n: bytes(n),
        lambda n: b"\xff" * n,
        lambda n: bytes(i & 255 for i in range(n)),  # the same each time
        lambda n: hashlib.sha256(b"x").digest() * (n // 32),
        lambda n: bytes(b & 0x7F for b in counter(n)),  # one bit is always 0
        lambda n: bytes(b if b > 20 else 0 for b in counter(n)),  # prefers 0
        lambda n: bytes(b & 0x0F for b in counter(n)),  # half the entropy
        lambda n: counter(n)[: n // 2] + bytes(n - n // 2),  # stops
        lambda n: counter(n)[: n - 8],  # too short
    ):
        world = World()
        refused(enrol.RANDOM, run, world, source=bad)
        assert world.nvs.dump() == {}


def test_random_self_test_hardly_ever_refuses_a_good_generator():
    for _ in range(50):
        enrol.check_random()


def test_two_boards_have_nothing_in_common():
    one, two = fields(run(World())), fields(run(World()))
    assert one[3] != two[3] and one[6] != two[6] and one[7] != two[7]


def test_status_tells_how_far_the_board_got():
    world = World()
    where = store.Store(world.nvs)
    assert enrol.status(where, EUI, "m") == {"eui": EUI, "model": "m", "ticket": None, "chain": False}
    run(world)
    assert enrol.status(where, EUI, "m") == {"eui": EUI, "model": "m", "ticket": TICKET, "chain": True}
