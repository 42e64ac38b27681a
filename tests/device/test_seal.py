# Seal: frames out of plaintexts and back. Hostile frames are in tests/attacks/device/test_frames.py.
import json

from device.fakes import FakeNvs

from sealband import seal
from sealband.chain import Chain
from sealband.errors import SealError, StoreError
from sealband.store import Store
from sealwire import frame

with open("tests/vectors/wire-v1.json") as _file:
    V = json.load(_file)


def new_chain(nvs=None):
    return Chain.create(Store(nvs or FakeNvs()), bytes.fromhex(V["eui"]), bytes.fromhex(V["ck0"]), 0)


def test_overhead_is_thirteen_bytes():
    chain = new_chain()
    for length in (0, 1, 15, 16, 17, 43, 242):
        assert len(seal.seal(chain, bytes(length))[1]) == length + 13


def test_no_two_frames_have_the_same_counter_whatever_their_kind():
    chain = new_chain()
    counters = []
    for number in range(20):
        counter, sealed = (seal.hello if number % 3 else seal.seal)(chain, b"x")
        assert frame.parse(sealed).ctr == counter
        counters.append(counter)
    assert counters == list(range(20))


def test_plaintext_that_fits_no_frame_is_refused_and_costs_no_counter():
    chain = new_chain()
    for act, length in ((seal.seal, 243), (seal.hello, 233)):
        try:
            act(chain, bytes(length))
            raise AssertionError("accepted")
        except SealError as error:
            assert error.reason == seal.TOO_LONG
    assert len(seal.seal(chain, bytes(242))[1]) == 255
    assert len(seal.hello(chain, bytes(232))[1]) == 255
    assert chain.take_counter() == 2


def test_frame_belongs_to_the_epoch_that_its_counter_began():
    chain = new_chain()
    chain._next = chain._high = 65536
    counter, sealed = seal.seal(chain, b"x")
    assert (counter, chain.epoch) == (0, 1)
    parsed = frame.parse(sealed)
    assert (parsed.epoch_bits, parsed.did.hex()) == (1, V["epochs"][1]["did"])


DOWN = [f for f in V["frames"] if f["direction"] == "down"][0]


def chain_for_downlink(nvs, acknowledge_more=0):
    chain = new_chain(nvs)
    while chain.epoch < DOWN["epoch"] + acknowledge_more:
        chain.acknowledged(0, chain.epoch)
        chain._began_s = 0
        chain.advance(86400)
    return chain


def test_downlink_counter_is_written_before_the_plaintext_is_given_out():
    class Refusing(FakeNvs):
        full = False

        def set_blob(self, key, value):
            if self.full:
                raise OSError(-0x1105, "ESP_ERR_NVS_NOT_ENOUGH_SPACE")
            super().set_blob(key, value)

    nvs = Refusing()
    chain = chain_for_downlink(nvs)
    nvs.full = True
    for _ in range(2):
        try:
            seal.open_downlink(chain, bytes.fromhex(DOWN["frame"]))
            raise AssertionError("given out")
        except StoreError:
            pass
    nvs.full = False
    assert seal.open_downlink(chain, bytes.fromhex(DOWN["frame"]))[2].hex() == DOWN["plaintext"]
    assert Chain.load(Store(nvs)).downlinks()[0][1].next == DOWN["ctr"] + 1


def test_downlink_of_the_epoch_before_still_opens_after_a_reset():
    nvs = FakeNvs()
    chain_for_downlink(nvs, 1)
    chain = Chain.load(Store(nvs))
    assert seal.open_downlink(chain, bytes.fromhex(DOWN["frame"])) == (
        DOWN["epoch"],
        DOWN["ctr"],
        bytes.fromhex(DOWN["plaintext"]),
    )
    try:
        seal.open_downlink(Chain.load(Store(nvs)), bytes.fromhex(DOWN["frame"]))
        raise AssertionError("replayed")
    except SealError as error:
        assert error.reason == seal.REPLAY
