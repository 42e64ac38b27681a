"""A factory floor: virtual boards come to the sockets of a real station, are unplugged, fail, and are copied, while the
station is killed and started again. The boards outlive the station.

A socket is a symbolic link to the board's serial port: it comes and goes with the board, as a USB port does. The
station is the real `sealband station run` and `resume`, and is killed with SIGKILL.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import boards
from host_tools.sim.board import VirtualBoard
from host_tools.sim.clock import SimClock
from host_tools.sim.outfit import outfit
from host_tools.sim.pipeline import Pipeline
from host_tools.sim.wearer import Wearer
from provisioning import certificates, signers
from provisioning.station import journal as journals
from provisioning.tickets import TicketFile
from sealwire.enrolment import eui_from_mac
from tests.support.micropython import ROOT
from tests.support.registries import TemporaryRegistry

SEALBAND = str(Path(sys.executable).with_name("sealband"))
FINAL = ("done", "repeated", "failed")
MAC = bytes.fromhex("70b3d5")
GOOD, UNPLUGGED, BAD_FLASH, WRONG_MODEL, COPY = "good", "unplugged", "bad flash", "wrong model", "copy"


@dataclass
class Piece:
    """One board on its way: its folder, its number, and what is wrong with it, once or for good."""

    number: int
    folder: Path
    mac: bytes
    fault: str = GOOD
    plugged: int = 0
    results: list[str] = field(default_factory=list)

    @property
    def eui(self) -> str:
        return eui_from_mac(self.mac).hex()


def make_tree(folder: Path) -> Path:
    """What a station puts onto boards: release 1, signed, and its envelope."""
    board = boards.load("VIRTUAL")
    with Pipeline(folder / "pipeline", board, ROOT / "device", ROOT / "requirements.lock") as pipeline:
        release = pipeline.release(1, "1.0", None)
        pipeline.flash_tree(release, folder / "tree", ("ward", "sealed-by-the-band"))
        shutil.copy(release / "manifest.suit", folder / "tree" / "manifest")
    return folder / "tree"


@dataclass
class Office:
    """The registry, and what it gave the station: tickets, issuing key, service key."""

    registry: TemporaryRegistry
    tickets: TicketFile
    service: signers.Signer
    words: list[str]


def open_office(folder: Path, count: int) -> Office:
    """A registry with one batch, whose boards get certificates and are closed."""
    registry = TemporaryRegistry(folder)
    from provisioning.registry import issuers

    now = datetime.now(UTC)
    service, root, issuing = (
        signers.create_file_key(folder / f"{name}.pem") for name in ("service", "root", "issuing")
    )
    batch = registry.services.issue_batch(
        registry.vault, registry.signer, boards.load("VIRTUAL").model, count, service_key=service.public_key
    ).batch
    certificate = certificates.create_root(root, "Floor", 3650, now)
    path = folder / "tickets.json"
    issuers.create_issuer(
        registry.vault,
        batch,
        certificate,
        root,
        issuing.public_key,
        registry.signer,
        days=30,
        device_days=365,
        out=path,
    )
    words = ["--tickets", "tickets.json", "--tree", "tree", "--keep-firmware", "--issuing-key", "file:issuing.pem"]
    return Office(registry, TicketFile.from_bytes(path.read_bytes()), service, words)


@dataclass
class Verdict:
    """What was found when all was over; `wrong` is empty if everything is as it must be."""

    admitted: int
    certified: int
    proven: int
    entries: int
    reserved: int
    wrong: list[str]


def judge(folder: Path, office: Office, count: int) -> Verdict:
    """Hold journal, labels and registry against what must be true whatever happened."""
    wrong: list[str] = []

    def must(holds: bool, text: str) -> None:
        if not holds:
            wrong.append(text)

    path = folder / "station.journal"
    content = journals.parse(path.read_bytes())
    must(content.torn == b"", "the journal's last line is torn")
    of = {kind: [e.body for e in content.entries if e.kind == kind] for kind in journals.KINDS}
    reserved = of[journals.RESERVED]
    must(len({body["ticket"] for body in reserved}) == len(reserved), "a ticket was reserved twice")
    must(len({body["eui"] for body in reserved}) == len(reserved), "a board was given two tickets")
    must({b["ticket"] for b in reserved} == {t.ticket_id.hex() for t in office.tickets.tickets}, "a ticket was lost")
    for kind in (journals.ENROLLED, journals.CERTIFIED, journals.SEALED, journals.LABELLED, journals.DONE):
        pairs = Counter((body["eui"], body["ticket"]) for body in of[kind])
        must(pairs == Counter((b["eui"], b["ticket"]) for b in reserved), f"not every board has one entry {kind}")
    result = office.registry.take(path)
    must(len(set(result.admitted)) == count and not result.refused, f"the registry refused: {result.refused}")
    again = office.registry.take(path)
    must(again.admitted == [] and again.repeated == count, "a second import is not a repetition")
    labels = sorted((folder / "labels").glob("*.zpl"))
    must([p.stem for p in labels] == sorted(result.admitted), "labels and devices are not the same")
    must(not list((folder / "labels").glob("*.tmp")), "half a label")
    from provisioning.registry.models import Device

    must(Device.objects.count() == count, f"{Device.objects.count()} devices in the registry")
    return Verdict(len(result.admitted), result.certified, result.proven, len(content.entries), len(reserved), wrong)


class Station:
    """The real command, which may be killed at any time; what it prints is kept and watched."""

    def __init__(self, folder: Path, words: list[str], on_event) -> None:
        self.folder = folder
        self.starts = 0
        self.kills = 0
        self.errors: list[str] = []
        self._words = words
        self._on_event = on_event
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        words = ["run", *self._words] if not (self.folder / "station.journal.run").exists() else ["resume"]
        self._process = subprocess.Popen(
            [SEALBAND, "station", *words, "--json"],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.starts += 1
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def kill(self) -> None:
        """SIGKILL, as a power cut of the station's computer; programs that it had started live on for a while."""
        assert self._process and self._reader
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(20)
        self.kills += 1

    def ended(self) -> int | None:
        return self._process.poll() if self._process else None

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout and process.stderr
        for line in process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # cut by the kill
            self._on_event(event)
        if text := process.stderr.read().strip():
            self.errors.append(text)


def make_board(piece: Piece) -> VirtualBoard:
    """The board, which is off."""
    clock = SimClock.start()
    fitted = outfit(boards.load("VIRTUAL"), Wearer(piece.number, "fast"), clock)
    chip = "esp32s3" if piece.fault == WRONG_MODEL else "esp32"
    return VirtualBoard(piece.folder, name=piece.eui, mac=piece.mac, clock=clock, **fitted.arguments, chip=chip)


class Floor:
    """The boards, the sockets and the station.

    Args:
        folder: gets everything.
        tree: what boards get.
        count: how many good boards there are; as many tickets must be there.
        lanes: how many sockets.
        seed: for everything that is drawn.
        faults: how often each fault is to come.
        words: of `sealband station run`, beside the ports.
    """

    def __init__(
        self, folder: Path, count: int, lanes: int, seed: int, faults: dict[str, int], words: list[str]
    ) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.results: Counter[str] = Counter()
        self.done: dict[str, Piece] = {}
        self.failures: Counter[str] = Counter()
        self.killed_at: Counter[str] = Counter()
        self.seconds: list[float] = []
        self._lanes = [folder / "sockets" / f"lane{number}" for number in range(1, lanes + 1)]
        (folder / "sockets").mkdir(parents=True)
        self._queue = deque(self._pieces(count, faults))
        self._copies = faults.get(COPY, 0)
        self._wanted = count
        self._lock = threading.Lock()
        self._events: dict[str, list[dict]] = {str(path): [] for path in self._lanes}
        self._over = threading.Event()
        self.trouble: list[str] = []
        ports = [word for path in self._lanes for word in ("--ports", str(path))]
        self.station = Station(folder, [*words, *ports], self._event)

    def _pieces(self, count: int, faults: dict[str, int]) -> list[Piece]:
        pieces = [self._piece(number) for number in range(count)]
        for piece, fault in zip(
            self.random.sample(pieces, min(count, faults.get(UNPLUGGED, 0) + faults.get(BAD_FLASH, 0))),
            [UNPLUGGED] * faults.get(UNPLUGGED, 0) + [BAD_FLASH] * faults.get(BAD_FLASH, 0),
            strict=False,
        ):
            piece.fault = fault
        for number in range(faults.get(WRONG_MODEL, 0)):
            pieces.insert(self.random.randrange(len(pieces) + 1), self._piece(count + number, WRONG_MODEL))
        return pieces

    def _piece(self, number: int, fault: str = GOOD, mac: bytes = b"") -> Piece:
        mac = mac or MAC + number.to_bytes(3, "big")
        return Piece(number, self.folder / "boards" / f"{number}-{fault.replace(' ', '-')}", mac, fault)

    def run(self, kills: int, limit_s: float) -> float:
        """Until every good board is done; returns how long it took. The kills come at random moments."""
        begun = time.monotonic()
        threads = [threading.Thread(target=self._socket, args=(path,), daemon=True) for path in self._lanes]
        self.station.start()
        for thread in threads:
            thread.start()
        next_kill = begun + self.random.uniform(2, 8)
        pace_s = 0.0
        try:
            while not self._over.is_set() and not self._finished() and time.monotonic() < begun + limit_s:
                time.sleep(0.1)
                if self.station.ended() not in (None, 0):
                    self.trouble.append(f"the station ended: {self.station.errors[-1:]}")
                    break
                if self.station.kills < kills and time.monotonic() >= next_kill and self.station.ended() is None:
                    with self._lock:
                        last = [events[-1] for events in self._events.values() if events]
                        self.killed_at.update(event.get("step") or event["kind"] for event in last)
                    self.station.kill()
                    self.station.start()
                    # spread over what is left to be done, by how fast it went so far
                    pace_s = (time.monotonic() - begun) / max(1, len(self.done)) * (self._wanted - len(self.done))
                    left = max(1, kills - self.station.kills)
                    next_kill = time.monotonic() + self.random.uniform(0.1, 1.0) * min(40.0, max(3.0, pace_s / left))
        finally:
            self._over.set()
            for thread in threads:
                thread.join(60)
            self.station.stop()
        return time.monotonic() - begun

    def _finished(self) -> bool:
        with self._lock:
            return len(self.done) >= self._wanted and not self._queue and not self._copies

    def _event(self, event: dict) -> None:
        with self._lock:
            if event.get("port") in self._events:
                self._events[event["port"]].append(event)

    def _socket(self, path: Path) -> None:
        while not self._over.is_set():
            with self._lock:
                piece = self._queue.popleft() if self._queue else None
                if piece is None and self._copies and self.done:
                    self._copies -= 1
                    first = self.random.choice(list(self.done.values()))
                    piece = self._piece(10_000 + self._copies, COPY, first.mac)
            if piece is None:
                time.sleep(0.2)
                continue
            try:
                self._plug(path, piece)
            except Exception as error:
                self.trouble.append(f"{piece.eui}: {type(error).__name__}: {error}")
                self._over.set()

    def _plug(self, path: Path, piece: Piece) -> None:
        with make_board(piece) as board:
            piece.plugged += 1
            begun = time.monotonic()
            pull_at = begun + self.random.uniform(1, 40) if piece.fault == UNPLUGGED else float("inf")
            if piece.fault == BAD_FLASH:
                board.disturb_loader(corrupt_block=self.random.randint(1, 20))
            with self._lock:
                self._events[str(path)].clear()
            path.symlink_to(board.port)
            result = None
            while not self._over.is_set() and result is None and time.monotonic() < pull_at:
                time.sleep(0.05)
                with self._lock:
                    result = _result(self._events[str(path)])
            path.unlink()
        self._took(piece, result, time.monotonic() - begun)

    def _took(self, piece: Piece, result: dict | None, seconds: float) -> None:
        kind = result["kind"] if result else "pulled out"
        with self._lock:
            self.results[kind] += 1
            piece.results.append(f"{kind} {result.get('reason', '') if result else ''}".strip())
            if kind == "failed":
                assert result
                self.failures[f"{result['step']}: {result['reason']}"] += 1
            if kind in ("done", "repeated"):
                if piece.fault in (COPY, WRONG_MODEL) or result["eui"] != piece.eui:
                    self.trouble.append(f"a {piece.fault} board {piece.eui} was taken for good: {result}")
                self.done[piece.eui] = piece
                self.seconds.append(seconds)
            elif piece.fault not in (COPY, WRONG_MODEL):
                piece.fault = GOOD  # these happen once
                if piece.plugged > 12:
                    self.trouble.append(f"{piece.eui} never gets done: {piece.results}")
                    self._over.set()
                self._queue.append(piece)


def _result(events: list[dict]) -> dict | None:
    """How it ended; what comes before the board was begun is of the one before it."""
    begun = False
    for event in events:
        begun |= event["kind"] == "begun"
        if begun and event["kind"] in FINAL:
            return event
    return None
