"""A virtual board with a signed release in its slot, enrolled and closed through the real mpremote; tokens for it."""

import os
import re
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import boards
from host_tools.sim.board import VirtualBoard
from host_tools.sim.clock import SimClock
from host_tools.sim.outfit import outfit
from host_tools.sim.pipeline import Pipeline
from host_tools.sim.wearer import Wearer
from provisioning import signers
from provisioning.signers import Signer
from sealwire import service as wire
from tests.support.micropython import ROOT

MAC = bytes.fromhex("70b3d5001234")
EUI = bytes.fromhex("70b3d5fffe001234")
NOW_S = 60_000_000
MPREMOTE = str(Path(sys.executable).with_name("mpremote"))
RUNS = "running as " + EUI.hex()
LIMIT_S = 60.0
CLOSED_S = 4.0  # an open board lets mpremote in within one


def flash_tree(folder: Path, app: Path | None = None) -> Path:
    """What goes onto a new board with release 1, and its envelope beside it as `manifest`."""
    with Pipeline(folder / "pipeline", boards.load("VIRTUAL"), ROOT / "device", ROOT / "requirements.lock") as pipeline:
        release = pipeline.release(1, "1.0", app)
        pipeline.flash_tree(release, folder / "tree", ("ward", "sealed-by-the-band"))
        (folder / "tree" / "manifest").write_bytes((release / "manifest.suit").read_bytes())
    return folder / "tree"


@dataclass
class Bench:
    """A board at a station."""

    board: VirtualBoard

    def mpremote(self, *words: str, timeout_s: float = 60.0) -> "subprocess.CompletedProcess[str]":
        """`mpremote connect PORT …`, however it ends."""
        command = [MPREMOTE, "connect", self.board.port, *words]
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def opens(self) -> bool:
        """Whether mpremote gets to a REPL; it has no limit of its own for a board that says other things."""
        try:
            return "in" in self.mpremote("resume", "exec", "print('in')", timeout_s=CLOSED_S).stdout.split()
        except subprocess.TimeoutExpired:
            return False

    def ask(self, call: str, module: str = "enrol") -> bytes:
        """The answer to one question at the open REPL."""
        done = self.mpremote("exec", f"import pack\nfrom sealband import {module}\n{module}.{call}\n")
        found = re.search(r"sealband/1 ok ([0-9a-f]+)", done.stdout)
        assert found, done.stdout + done.stderr
        return bytes.fromhex(found[1])

    def refused(self, call: str, module: str = "enrol") -> str:
        """The code of the refusal of a question."""
        done = self.mpremote("exec", f"import pack\nfrom sealband import {module}\n{module}.{call}\n")
        found = re.search(r"sealband/1 refused (\w+) ", done.stdout)
        assert found, done.stdout + done.stderr
        return found[1]

    def enrol(self) -> bytes:
        """Its signed record, for a ticket of our own."""
        ticket = ec.generate_private_key(ec.SECP256R1()).public_key()
        point = ticket.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return self.ask(
            f"console('enrol', '{os.urandom(8).hex()}', '{point.hex()}', '{os.urandom(16).hex()}', {NOW_S})"
        )

    def close(self, key: bytes) -> None:
        """Enrol and close it, and have it run."""
        self.enrol()
        assert self.ask(f"console('service', '{key.hex()}')") == b"\0"
        mark = self.board.line_count
        self.board.reset()
        self.board.wait_for(RUNS, after=mark, timeout_s=LIMIT_S)


@contextmanager
def board(folder: Path, tree: Path, *, speed: float = 1.0) -> Iterator[Bench]:
    """The board, switched on and not enrolled."""
    clock = SimClock.start(speed)
    fitted = outfit(boards.load("VIRTUAL"), Wearer(7, "fast"), clock)
    made = VirtualBoard(folder, name="a", mac=MAC, clock=clock, **fitted.arguments)
    made.install(tree)
    with made:
        yield Bench(made)


class Port:
    """The board's serial port, as a person with a terminal has it."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_NOCTTY)
        modes = termios.tcgetattr(self._file)
        modes[3] = 0
        termios.tcsetattr(self._file, termios.TCSANOW, modes)
        os.set_blocking(self._file, False)
        self._text = b""

    def __enter__(self) -> "Port":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def type(self, data: bytes) -> None:
        """What is typed."""
        os.write(self._file, data)

    def wait(self, pattern: str, limit_s: float = LIMIT_S, say: bytes = b"") -> "re.Match[str]":
        """Read until a line is there that begins like this; `say` is said every half second meanwhile."""
        limit, next_s = time.monotonic() + limit_s, 0.0
        while time.monotonic() < limit:
            if say and time.monotonic() > next_s:
                self.type(say)
                next_s = time.monotonic() + 0.5
            try:
                self._text += os.read(self._file, 4096)
            except BlockingIOError:
                time.sleep(0.01)
            text = self._text.decode(errors="replace").replace("\r", "")
            if found := re.search(f"^{pattern}.*\n", text, re.MULTILINE):
                self._text = text[found.end() :].encode()
                return found
        raise AssertionError(f"no {pattern!r} within {limit_s} s:\n{self._text.decode(errors='replace')}")

    def challenge(self) -> bytes:
        """Ask for an unlock; the challenge's CBOR."""
        found = self.wait("sealband/1 challenge ([0-9a-f]+)", say=wire.UNLOCK.encode() + b"\n")
        return bytes.fromhex(found[1])

    def token(self, data: bytes) -> None:
        """Present a token."""
        self.type(wire.TOKEN.encode() + data.hex().encode() + b"\n")


def token(
    challenge: bytes,
    key: Signer,
    *,
    eui: bytes | None = None,
    nonce: bytes | None = None,
    not_after: int = NOW_S + 3600,
    operator: str = "ada",
) -> bytes:
    """A token for a challenge, made apart from our code; what is given stands in place of what the challenge says."""
    row = cbor2.loads(challenge)
    payload = cbor2.dumps([wire.TOKEN_LABEL, eui or row[1], nonce or row[2], not_after, operator], canonical=True)
    protected = bytes.fromhex("a10128")
    signed = cbor2.dumps(["Signature1", protected, b"", payload])
    return cbor2.dumps(cbor2.CBORTag(18, [protected, {}, payload, key.sign(signed)]), canonical=True)


def signer(path: Path) -> Signer:
    """A new key."""
    signers.create_file_key(path)
    return signers.open_signer(f"file:{path}")
