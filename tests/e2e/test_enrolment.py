"""Enrolment of virtual boards through the real mpremote, with the power cut at every write of NVS."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import boards
from host_tools.release.bundle import compile_tree
from host_tools.sim.board import VirtualBoard
from host_tools.sim.nvs import Nvs
from provisioning.station import bench
from provisioning.station.journal import ENROLLED, RESERVED, Journal
from provisioning.station.link import Link, LinkError
from provisioning.tickets import TicketFile
from tests.support.boards import has_raw_repl
from tests.support.micropython import ROOT
from tests.support.registries import TemporaryRegistry

pytestmark = pytest.mark.skipif(not has_raw_repl(), reason="MicroPython's unix port has a raw REPL from 1.27 on")

MAC = bytes.fromhex("70b3d5001234")
EUI = "70b3d5fffe001234"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tree") / "tree"
    compile_tree(ROOT / "device", out, boards.load("VIRTUAL"))
    return out


@pytest.fixture
def board(tree: Path, tmp_path: Path) -> Iterator[VirtualBoard]:
    board = VirtualBoard(tmp_path / "board", name="a", mac=MAC)
    board.install(tree)
    with board:
        yield board


@pytest.fixture
def registry(tmp_path: Path) -> TemporaryRegistry:
    return TemporaryRegistry(tmp_path)


@pytest.fixture
def file(registry: TemporaryRegistry) -> TicketFile:
    return registry.issue(3, model=boards.load("VIRTUAL").model)


def test_virtual_board_is_enrolled_imported_and_restarted(board: VirtualBoard, registry, file, tmp_path: Path):
    with Journal.open(tmp_path / "journal") as journal:
        done = bench.enrol(Link(board.port), file, journal)
        assert done.record.eui.hex() == EUI and not done.repeated
        board.wait_for("running as " + EUI)
        assert bench.enrol(Link(board.port), file, journal, restart=False).repeated
    assert registry.take(tmp_path / "journal").admitted == [EUI]


def test_power_cut_at_every_write_of_enrolment_ends_in_one_identity(
    tree, tmp_path: Path, registry, monkeypatch: pytest.MonkeyPatch
):
    model = boards.load("VIRTUAL").model
    file = registry.issue(40, model=model)
    admitted = []
    with Journal.open(tmp_path / "journal") as journal:
        for number in range(1, 40):
            mac = MAC[:5] + bytes((number,))
            board = VirtualBoard(tmp_path / str(number), name="a", mac=mac)
            board.install(tree)
            with board:
                board.cut_power_after(nvs_operations=number)
                try:
                    with monkeypatch.context() as hasty:
                        # a board without power is silent, and the station would wait long for a slow one
                        hasty.setattr("provisioning.station.link.ENROL_TIMEOUT_S", 4.0)
                        hasty.setattr(bench, "ATTEMPTS", 1)
                        bench.enrol(Link(board.port), file, journal, restart=False)
                    break  # more writes than there are: the power stayed on
                except LinkError:
                    if board.state != "off":
                        # this machine is busy, and four seconds were not enough
                        bench.enrol(Link(board.port), file, journal, restart=False)
                        break
                board.power_on()
                done = bench.enrol(Link(board.port), file, journal, restart=False)
                board.power_cut()
                board.power_on()
                again = bench.enrol(Link(board.port), file, journal, restart=False)
                assert again.repeated and again.record == done.record
                admitted.append(done.record.eui.hex())
        else:
            raise AssertionError("the power never stayed on")
        kinds = [entry.kind for entry in journal.entries]
    assert number > 8, number
    assert kinds.count(RESERVED) == kinds.count(ENROLLED) == number
    result = registry.take(tmp_path / "journal")
    assert result.admitted[:-1] == admitted and result.refused == []


def test_enrolled_board_keeps_no_private_key(board: VirtualBoard, file, tmp_path: Path):
    with Journal.open(tmp_path / "journal") as journal:
        record = bench.enrol(Link(board.port), file, journal, restart=False)
        raw = bytes.fromhex(str(journal.entries[-1].body["record"]))
    assert record.record.eui.hex() == EUI
    board.power_cut()
    nvs = Nvs(board.nvs_file)
    for half in ("identitya", "identityb"):
        value = nvs.get("sealband", half, bytes)
        assert raw in value
        # sequence (4), flags (1), then version 1 and the private key's length
        assert value[5:7] == b"\x01\x00"
