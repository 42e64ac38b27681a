"""The real station with virtual boards through the real esptool and mpremote: from an empty board to a shipped one, and
killed with SIGKILL again and again. The big run is tests/bench/station_run.py."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import boards
from host_tools.sim import chipflash
from host_tools.sim.flash import Flash
from provisioning import service_tokens, signers
from sealwire.messages import EPOCH_2025
from tests.support import station_fleet as fleet
from tests.support.boards import has_raw_repl

pytestmark = pytest.mark.skipif(not has_raw_repl(), reason="MicroPython's unix port has a raw REPL from 1.27 on")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fleet.make_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture
def floor_folder(tree: Path, tmp_path: Path) -> Path:
    shutil.copytree(tree, tmp_path / "tree")
    return tmp_path


def test_station_killed_at_random_moments_ends_with_unique_devices_and_a_whole_journal(floor_folder: Path):
    office = fleet.open_office(floor_folder, 4)
    faults = {fleet.UNPLUGGED: 1, fleet.BAD_FLASH: 1, fleet.WRONG_MODEL: 1, fleet.COPY: 1}
    floor = fleet.Floor(floor_folder, 4, 3, int(os.environ.get("SEALBAND_SEED", "3")), faults, office.words)
    floor.run(3, 240.0)
    assert floor.trouble == []
    verdict = fleet.judge(floor_folder, office, 4)
    assert verdict.wrong == []
    assert (verdict.admitted, verdict.certified, verdict.proven) == (4, 4, 4)
    assert floor.failures["identify: wrong_model"] == 1 and floor.failures["identify: enrolled_before"] == 1
    assert floor.station.kills >= 1


@pytest.fixture
def shipped(floor_folder: Path) -> Iterator[tuple[Path, str, fleet.Office]]:
    """A board that the station is done with, still plugged in; its folder and port."""
    office = fleet.open_office(floor_folder, 1)
    with fleet.make_board(fleet.Piece(1, floor_folder / "board", bytes.fromhex("70b3d5001234"))) as board:
        done = sealband(floor_folder, "station", "run", *office.words, "--ports", board.port, "--json")
        assert json.loads(done.stdout.splitlines()[-1])["done"] == 1, done.stderr
        yield floor_folder, board.port, office


def sealband(folder: Path, *words: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [fleet.SEALBAND, *words], cwd=folder, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


def test_board_gets_its_firmware_from_the_cache_by_the_digest_in_its_definition(floor_folder: Path):
    # No board names an image yet: here a definition that does, of what MicroPython's download would be for this board.
    layout = boards.load("VIRTUAL").flash_layout()
    download = chipflash.download("esp32", Flash(layout, floor_folder).areas)
    (floor_folder / "image.bin").write_bytes(download)
    definitions = floor_folder / "definitions"
    shutil.copytree(boards.ROOT / "VIRTUAL", definitions / "VIRTUAL")
    with open(definitions / "VIRTUAL" / "board.toml", "a") as definition:
        definition.write(
            f'\n[firmware_image]\nfile = "image.bin"\nsha256 = "{hashlib.sha256(download).hexdigest()}"\n'
            'offset = 0x1000\nsource = "https://firmware.example/image.bin"\n'
        )
    program = (
        f"import sys, boards, pathlib; boards.ROOT = pathlib.Path({str(definitions)!r})\n"
        "from host_tools.cli import main; sys.exit(main())"
    )
    office = fleet.open_office(floor_folder, 1)
    words = [word for word in office.words if word != "--keep-firmware"]
    with fleet.make_board(fleet.Piece(1, floor_folder / "board", bytes.fromhex("70b3d5001235"))) as board:

        def station(*told: str, status: int) -> str:
            done = subprocess.run(
                [sys.executable, "-c", program, "station", *told],
                cwd=floor_folder,
                capture_output=True,
                text=True,
                timeout=150,
                check=False,
            )
            assert done.returncode == status, done.stdout + done.stderr
            return done.stdout + done.stderr

        assert "https://firmware.example/image.bin" in station("run", *words, "--ports", board.port, status=1)
        station("firmware", "add", "--board", "VIRTUAL", "image.bin", status=0)
        told = station("run", *words, "--ports", board.port, "--json", status=0)
        assert json.loads(told.splitlines()[-1])["done"] == 1
        # the boot loader and partition table are there, as downloaded; a new virtual board has none
        esptool = [sys.executable, "-m", "esptool", "--chip", "esp32", "--port", board.port, "--no-stub"]
        flashed = subprocess.run(
            [*esptool, "--before", "no-reset", "--after", "no-reset", "read-flash", "0x1000", "0x8000", "read.bin"],
            cwd=floor_folder,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert flashed.returncode == 0, flashed.stdout
        assert (floor_folder / "read.bin").read_bytes() == download[:0x8000]
    assert len(office.registry.take(floor_folder / "station.journal").admitted) == 1


def test_shipped_board_opens_for_its_service_key_alone_and_gives_its_label_again(
    shipped: tuple[Path, str, fleet.Office],
):
    folder, port, office = shipped
    eui = office.registry.take(folder / "station.journal").admitted[0]
    report = json.loads(sealband(folder, "station", "report", "--json").stdout)
    assert (report["done"], report["open"], report["failed"]) == (1, 0, 0)
    first = (folder / "labels" / f"{eui}.zpl").read_text()
    # a key that is not the batch's
    signers.create_file_key(folder / "other.pem")
    refused = sealband(folder, "station", "unlock", "--port", port, "--key", "file:other.pem", status=1)
    assert "signature" in refused.stderr
    # a station without the key: by two files
    words = [fleet.SEALBAND, "station", "unlock", "--port", port, "--challenge-out", "asked", "--token", "token"]
    with subprocess.Popen(words, cwd=folder, stderr=subprocess.PIPE, text=True) as waiting:
        limit = time.monotonic() + 90
        while not (folder / "asked").exists():
            assert waiting.poll() is None and time.monotonic() < limit
            time.sleep(0.1)
        asked = service_tokens.parse_challenge(bytes.fromhex((folder / "asked").read_text()))
        not_after_s = int(time.time()) - EPOCH_2025 + 60
        (folder / "token").write_text(service_tokens.make(asked, office.service, not_after_s, "ada").hex())
        _, said = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, said
    assert f"The REPL of {eui} is open" in said
    shutil.rmtree(folder / "labels")
    sealband(folder, "station", "label", eui, "--port", port, "--label-format", "zpl")
    assert (folder / "labels" / f"{eui}.zpl").read_text() == first
    # what stands on the label is what the server checks, and nothing else is
    text = re.search(r"SEALBAND:1:[^^]+", first)
    assert text
    from provisioning.registry import claims

    wrong = text[0][:-1] + ("A" if text[0][-1] != "A" else "B")
    with pytest.raises(claims.ClaimRefused):
        claims.claim(wrong, "ward-7", office.registry.vault)
    assert claims.claim(text[0], "ward-7", office.registry.vault).eui == bytes.fromhex(eui)
