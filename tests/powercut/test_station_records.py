# Power cut at every write of what the station asks for after enrolment: one TLS key for ever, a certificate whole or
# none, a service key that stays, and no board that is closed without one.
import sys

from device.fakes import FakeNetwork, World, sweep

import sealboot
from device import test_certificate
from sealband import certificate, enrol, service, store
from sealband.chain import Chain
from sealband.crypto import p256

sys.modules["network"] = FakeNetwork

TIMEOUT_S = 300
KEY = p256.public_key(bytes(31) + b"\x09")
_pairs = {}
_drawn = [0]


# Another key with each attempt, in far less time.
def _draw(random, eui, salt):
    number = _drawn[0] = _drawn[0] + 1
    private = bytes(31) + bytes((1 + number % 8,))
    return private, _public(private), bytes(16)


def _public(private):
    if private not in _pairs:
        _pairs[private] = _real(private)
    return _pairs[private]


_real = p256.public_key


class Quick:
    def __enter__(self):
        self.kept = (enrol.draw, p256.public_key, p256.sign)
        enrol.draw, p256.public_key = _draw, _public
        p256.sign = lambda private, digest: private + digest

    def __exit__(self, *_):
        enrol.draw, p256.public_key, p256.sign = self.kept
        sealboot.index = 255


def board():
    world = World()
    where = store.Store(world.nvs)
    Chain.create(where, test_certificate.EUI, bytes(32), 0)
    where.save(store.IDENTITY, b"\x01\x00record")
    return world


def ask(world):
    world.send(certificate.request(store.Store(world.nvs)))


def test_power_cut_while_the_key_is_made():
    def check(world):
        ask(world)
        assert len(set(world.air)) == 1, "two requests of different keys got out"

    with Quick():
        assert sweep(board(), ask, check, depth=2) >= 20


def test_power_cut_while_a_certificate_is_kept():
    def keep(world):
        where = store.Store(world.nvs)
        world.send(certificate.keep(where, test_certificate.own(where, padding=200)))

    def check(world):
        where = store.Store(world.nvs)
        held = where.load(store.TLS)
        assert held[33:] in (first, second) and held[1:33] == private
        if world.air:
            assert held[33:] == second, "it was answered for and is not there"
        keep(world)
        assert where.load(store.TLS)[33:] == second

    with Quick():
        begun = board()
        ask(begun)
        begun.air.clear()
        where = store.Store(begun.nvs)
        first = test_certificate.own(where)
        certificate.keep(where, first)
        second, private = test_certificate.own(where, padding=200), test_certificate.private_key(where)
        assert sweep(begun, keep, check, depth=2) >= 20


def test_power_cut_while_a_board_is_closed():
    def close(world):
        service.close(store.Store(world.nvs), KEY)
        world.send(b"closed")

    def check(world):
        where = store.Store(world.nvs)
        if where.load_number(store.CLOSED):
            assert where.load(store.SERVICE) == KEY, "closed, and nobody can open it"
        if world.air:
            assert where.load_number(store.CLOSED) == 1
        close(world)
        assert where.load_number(store.CLOSED) == 1 and where.load(store.SERVICE) == KEY

    sealboot.index = 0
    with Quick():
        assert sweep(board(), close, check, depth=2) >= 30


def test_a_sweep_over_a_board_that_closes_before_its_key_is_kept_fails():
    def careless(world):
        where = store.Store(world.nvs)
        where.save_number(store.CLOSED, 1)
        where.save(store.SERVICE, KEY)

    def check(world):
        where = store.Store(world.nvs)
        if where.load_number(store.CLOSED):
            assert where.load(store.SERVICE) == KEY, "closed, and nobody can open it"

    try:
        sweep(board(), careless, check)
    except AssertionError as error:
        assert "nobody can open it" in str(error)
        return
    raise AssertionError("the sweep found nothing")
