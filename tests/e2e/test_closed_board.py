"""Boards on their way through the station, and afterwards: what is asked over the REPL, and how it closes and opens."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import cbor2
import pytest

from provisioning.signers import Signer
from sealwire import service as wire
from tests.support import closed_board
from tests.support.boards import has_raw_repl
from tests.support.closed_board import EUI, RUNS, Bench, Port, token

pytestmark = pytest.mark.skipif(not has_raw_repl(), reason="MicroPython's unix port has a raw REPL from 1.27 on")

ASLEEP = """
from sealband.app import App, Every
from sealband.links.lora import LoRa
from sealband.sensors.tmp117 import SkinTemperature


def build(board):
    board.power()
    return App([Every(30, SkinTemperature(board.i2c()))], [LoRa(board)], deep_sleep=True)
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return closed_board.flash_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return closed_board.signer(tmp_path_factory.mktemp("key") / "service.pem")


@pytest.fixture
def bench(tree: Path, tmp_path: Path) -> Iterator[Bench]:
    with closed_board.board(tmp_path / "board", tree) as bench:
        yield bench


def test_station_s_questions_in_the_heap_of_a_board(bench: Bench, tmp_path: Path) -> None:
    found = cbor2.loads(bench.ask("console('run')", "selftest"))
    assert found["radio"] == "ok" and found["random"] == "ok" and found["slot"] == 0
    assert found["flash"] == 4 << 20 and found["heap"] > 20_000 and found["free"] > 400_000
    parts = ("max30102", "tmp117", "Motion", "bme280", "gnss", "battery")
    assert found["sensors"] == dict.fromkeys(parts, "ok")
    sequence, digest = cbor2.loads(bench.ask("console('release', '/manifest')", "selftest"))
    assert [sequence, digest] == found["release"] and sequence == 1
    assert bench.refused("console('csr')") == "not_enrolled"
    bench.enrol()
    request = bench.ask("console('csr')")
    (tmp_path / "csr").write_bytes(request)
    shown = subprocess.run(
        ["openssl", "req", "-inform", "DER", "-in", tmp_path / "csr", "-noout", "-verify", "-subject"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert EUI.hex() in shown.stdout and "verify OK" in shown.stdout + shown.stderr
    claim = bench.ask("console('claim')")
    assert len(claim) == 10 and bench.ask("console('claim')") == claim
    first, second = bench.ask("console('seal')"), bench.ask("console('seal')")
    assert first[3:5] != second[3:5]


def test_closed_board_gives_mpremote_no_repl_until_it_is_unlocked_and_none_after_the_next_reset(
    bench: Bench, key: Signer
) -> None:
    bench.close(key.public_key)
    assert not bench.opens(), "Control-C stopped a closed board"
    with Port(bench.board.port) as port:
        port.token(token(port.challenge(), key))
        port.wait(wire.UNLOCKED)
        port.wait("")
    for words in (("resume", "exec", "print('in')"), ("exec", "print('in')"), ("resume", "exec", "print('in')")):
        assert bench.mpremote(*words).stdout.strip() == "in", words
    mark = bench.board.line_count
    bench.board.reset()
    bench.board.wait_for(RUNS, after=mark, timeout_s=60)
    assert not bench.opens()


def test_control_d_at_the_unlocked_prompt_closes_the_board(bench: Bench, key: Signer) -> None:
    bench.close(key.public_key)
    with Port(bench.board.port) as port:
        port.token(token(port.challenge(), key))
        port.wait(wire.UNLOCKED)
        port.wait(">>> |MicroPython")
        port.type(b"\x04")
        port.wait("sealband: running as")
        for _ in range(5):
            port.type(b"\x03")
        port.wait(r"\[")
        port.type(b"\r\n1000+234\r\n")
        with pytest.raises(AssertionError):
            port.wait("1234", 2.0)


def test_wrong_tokens_are_refused_by_name_and_the_board_goes_back_to_its_work(
    bench: Bench, key: Signer, tmp_path: Path
) -> None:
    bench.close(key.public_key)
    other = closed_board.signer(tmp_path / "other.pem")
    old = b""
    with Port(bench.board.port) as port:
        for code in ("signature", "device", "nonce", "malformed"):
            challenge = port.challenge()
            presented = {
                "signature": token(challenge, other),
                "device": token(challenge, key, eui=bytes(8)),
                "nonce": old,
                "malformed": b"\xd2\x84",
            }[code]
            old = token(challenge, key)
            port.token(presented)
            assert port.wait("sealband/1 refused (\\w+) ")[1] == code
            port.wait("sealband: " + RUNS)
            if code == "signature":
                port.wait(r"\[\d+\] sealed 0 ")  # the first is told at once, by an event
    assert not bench.opens()


def test_board_that_sleeps_deeply_is_unlocked_when_it_wakes(tmp_path: Path, key: Signer) -> None:
    app = tmp_path / "app.py"
    app.write_text(ASLEEP)
    tree = closed_board.flash_tree(tmp_path, app)
    with closed_board.board(tmp_path / "board", tree, speed=10) as bench:
        bench.close(key.public_key)
        with Port(bench.board.port) as port:
            while bench.board.state != "asleep":
                time.sleep(0.01)
            port.token(token(port.challenge(), key))
            port.wait(wire.UNLOCKED)
        assert bench.opens()
