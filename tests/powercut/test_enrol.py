# Power cut at every write of enrolment, and again at every write of the run that follows: the same ticket ends in one
# consistent identity, and the record that a station may have journaled already is the one that stays.
import hashlib
import sys

from device.fakes import FakeNetwork, World, sweep

from sealband import enrol, keys, store
from sealband.chain import Chain
from sealband.crypto import cbor, cose, p256

sys.modules["network"] = FakeNetwork

TIMEOUT_S = 300

EUI = b"\x70\xb3\xd5\xff\xfe\x00\x12\x34"
TICKET = b"ticket-1"
NONCE = b"station's nonce."
TICKET_PRIVATE = bytes(31) + b"\x2a"
TICKET_PUB = p256.public_key(TICKET_PRIVATE)
_drawn = [0]
_pairs = {}
_secrets = {}


# What a generator would give, each time something else, and the same work in far less time: a handful of key pairs
# made beforehand, of which one attempt after the other takes the next.
def _key_pair(random, eui, nonce):
    number = _drawn[0] = _drawn[0] + 1
    private = hashlib.sha256(bytes((number % 16,))).digest()
    if private not in _pairs:
        _pairs[private] = p256.public_key(private)
        _secrets[_pairs[private]] = _real_ecdh(TICKET_PRIVATE, _pairs[private])
    return private, _pairs[private]


# z, looked up: private key against the ticket's public key
def _ecdh(private, public):
    assert public == TICKET_PUB
    return _secrets[_pairs[private]]


# The same real signature for the same record; no need to compute it twice.
_signed = {}
_sign1 = cose.sign1
_real_ecdh = p256.ecdh


def _remembered(private, payload):
    if payload not in _signed:
        _signed[payload] = _sign1(private, payload)
    return _signed[payload]


# 16 nonces, so that records repeat and signatures can be remembered.
def _nonce(n):
    return bytes(n - 1) + bytes((_drawn[0] % 16,))


def enrolled(world):
    where = store.Store(world.nvs)
    record = enrol.run(TICKET, TICKET_PUB, NONCE, 1000, where, EUI, "virtual-wearable", _nonce)
    world.send(record)  # from here on a station may have it


def check(world):
    where = store.Store(world.nvs)
    held = where.load(store.IDENTITY)
    if held is not None and not held[1]:
        assert where.load(store.CLAIM) is not None, "a whole identity without a claim secret"
    enrolled(world)
    # a record that got out is the only one that ever does
    assert all(record == world.air[0] for record in world.air), "two records for one ticket"
    record = world.air[0]
    row = cbor.decode(cose.verify1(cbor.decode(cbor.decode(record).value[2])[3], record))
    root = keys.root_key(_secrets[row[3]], keys.transcript(*row[1:7]))
    assert row[7] == keys.confirm(root, keys.transcript(*row[1:7]))
    assert store.Store(world.nvs).load(store.CLAIM) == keys.claim(root), "the claim secret is of another root key"
    chain = Chain.load(store.Store(world.nvs))
    assert chain.eui == EUI and chain.epoch == 0
    assert chain.keys() == keys.epoch_keys(root, EUI), "the record is of another root key"
    counter = chain.take_counter()
    assert counter in (0, 256), counter
    for value in world.nvs.dump().values():
        if isinstance(value, bytes):
            assert not any(private in value for private in _pairs), "the private key stayed"
    # enrolled once more, the chain goes on where it was
    enrolled(world)
    assert world.air[-1] == record
    assert Chain.load(store.Store(world.nvs)).take_counter() > counter


class Quick:
    # In place of what only costs time here; test_enrol.py runs the real ones.
    def __enter__(self):
        self.kept = (enrol._key_pair, enrol.check_random, p256.ecdh, cose.sign1)
        enrol._key_pair = _key_pair
        enrol.check_random = lambda random: None
        p256.ecdh = _ecdh
        cose.sign1 = _remembered

    def __exit__(self, *_):
        enrol._key_pair, enrol.check_random, p256.ecdh, cose.sign1 = self.kept


def test_power_cut_at_every_write_of_enrolment():
    with Quick():
        cuts = sweep(World(), enrolled, check)
    assert cuts >= 3 * 6, cuts


def test_power_cut_at_every_write_of_enrolment_and_again_in_the_run_after_it():
    with Quick():
        cuts = sweep(World(), enrolled, check, depth=2)
    assert cuts >= 200, cuts


def test_power_cut_while_the_next_start_finishes_what_was_begun():
    def started(world):
        enrol.settle(store.Store(world.nvs), 5)

    with Quick():
        begun = World()
        where = store.Store(begun.nvs)
        held = enrol._make(TICKET, TICKET_PUB, NONCE, EUI, "virtual-wearable", _nonce)
        where.save(store.IDENTITY, enrol._pack(*held))
        cuts = sweep(begun, started, check, depth=2)
    assert cuts >= 50, cuts


def test_a_sweep_over_an_enrolment_that_hands_out_the_record_too_early_fails():
    def careless(world):
        where = store.Store(world.nvs)
        if where.load(store.IDENTITY) is None:
            held = enrol._make(TICKET, TICKET_PUB, NONCE, EUI, "virtual-wearable", _nonce)
            world.send(held[1])
            where.save(store.IDENTITY, enrol._pack(*held))
        enrolled(world)

    with Quick():
        try:
            sweep(World(), careless, check)
        except AssertionError as error:
            assert "two records" in str(error)
            return
    raise AssertionError("the sweep found nothing")


def test_a_sweep_over_an_enrolment_that_forgets_the_key_before_the_claim_fails():
    def careless(world):
        where = store.Store(world.nvs)
        if where.load(store.IDENTITY) is None:
            held = enrol._make(TICKET, TICKET_PUB, NONCE, EUI, "virtual-wearable", _nonce)
            where.save(store.IDENTITY, enrol._pack(*held))
        held = enrol._load(where)
        if held[0]:
            root = enrol._root(held[0], enrol._payload(held[1]))
            Chain.create(where, EUI, root, 5)
            where.save(store.IDENTITY, enrol._pack(b"", held[1]), scrub=True)
            where.save(store.CLAIM, keys.claim(root))

    with Quick():
        try:
            sweep(World(), careless, check)
        except AssertionError as error:
            assert "without a claim secret" in str(error)
            return
    raise AssertionError("the sweep found nothing")
