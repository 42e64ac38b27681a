"""What the device seals the host opens, and the other way round: random frames, the device on MicroPython."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from host_tools.ingest.unseal import Candidate, open_uplink, seal_downlink
from provisioning import keys
from tests.support.micropython import ROOT, Micropython

DEVICE = """
from device.fakes import FakeNvs
from sealband import seal
from sealband.chain import Chain
from sealband.store import Store
def at(root, eui, epoch, ctr):
    chain = Chain.create(Store(FakeNvs()), eui, root, 0)
    for _ in range(epoch):
        chain.acknowledged(0, chain.epoch)
        chain.advance(86400 * (chain.epoch + 1))
    chain._next = chain._high = ctr
    return chain
def up(root, eui, epoch, ctr, plaintext, hello):
    return (seal.hello if hello else seal.seal)(at(root, eui, epoch, ctr), plaintext)
def down(root, eui, epoch, frame):
    return seal.open_downlink(at(root, eui, epoch, 0), frame)
"""

ROOTS = st.binary(min_size=32, max_size=32)
EUIS = st.binary(min_size=8, max_size=8)
EPOCHS = st.integers(0, 9)
COUNTERS = st.integers(0, 65535)
RELAXED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def device() -> Iterator[Micropython]:
    with Micropython(path=[ROOT / "tests"]) as running:
        running.run(DEVICE)
        yield running


def candidate(root: bytes, eui: bytes, epoch: int) -> Candidate:
    for _ in range(epoch):
        root = keys.ratchet(root)
    return Candidate(eui, epoch, keys.epoch_keys(root, eui))


@given(root=ROOTS, eui=EUIS, epoch=EPOCHS, ctr=COUNTERS, plaintext=st.binary(max_size=232), hello=st.booleans())
@RELAXED
def test_host_opens_what_the_device_sealed(
    device: Micropython, root: bytes, eui: bytes, epoch: int, ctr: int, plaintext: bytes, hello: bool
) -> None:
    used, frame = device.call(f"up({root!r}, {eui!r}, {epoch}, {ctr}, {plaintext!r}, {hello})")
    opened = open_uplink(frame, [candidate(root, eui, each) for each in range(epoch + 2)])
    assert (used, opened.ctr, opened.candidate.epoch) == (ctr, ctr, epoch)
    assert (opened.plaintext, opened.hello) == (plaintext, hello)


@given(root=ROOTS, eui=EUIS, epoch=EPOCHS, ctr=COUNTERS, plaintext=st.binary(max_size=242), ahead=st.integers(0, 1))
@RELAXED
def test_device_opens_what_the_host_sealed(
    device: Micropython, root: bytes, eui: bytes, epoch: int, ctr: int, plaintext: bytes, ahead: int
) -> None:
    sender = candidate(root, eui, epoch)
    frame = seal_downlink(sender.keys, eui, epoch, ctr, plaintext)
    # `ahead`: the device is one epoch further when an answer to an older frame comes
    assert device.call(f"down({root!r}, {eui!r}, {epoch + ahead}, {frame!r})") == (epoch, ctr, plaintext)
