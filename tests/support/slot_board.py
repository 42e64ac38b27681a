"""A folder laid out as a board's flash, with the shipped code in slot a and an update delivered: for figures.

Compiled as a board has it; the boot record is written by the device's own code. What runs there runs on MicroPython
with a heap of a given size, beginning with nothing but what boot.py leaves.
"""

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import boards
from host_tools.release import bundle, manifest, pack, patch, trust
from host_tools.sim.interpreter import find_micropython
from tests.support import signed_release
from tests.support.micropython import ROOT

BOARD = "VIRTUAL"
LIMIT_S = 120.0
# what a new version changes: a module of each kind grows by a function, and constants move
EDITED = ("app.py", "lib/sealband/node.py", "lib/sealband/outbox.py")
ADDED = "\n\n# Whether this is the second version.\ndef second(value):\n    return value in ({number}, {number}00)\n"

SET_UP = """
import sealboot
from sealboot import record
state = record.Record()
state.active, state.floor, state.slots[0] = 0, 1, (1, bytes.fromhex({digest!r}), 1)
record.save(state, "slots")
"""
# as boot.py and the updater do it; the updater's other modules are there too
INSTALL = """
import gc
gc.threshold(8192)
import pack
import sealboot
from sealboot import record
held = record.load("slots")
sealboot.index, (sealboot.sequence, sealboot.digest, _) = 0, held.slots[0]
from sealband.update import agent, manifest, trust
with open("update/envelope", "rb") as file:
    envelope = file.read()
identity = manifest.Identity({vendor!r}, {class_id!r}, {{b"app": held.floor}}, {{b"app": 1 << 20}})
order = manifest.verify(envelope, trust.load("update/trust"), identity)
del envelope, identity, held
gc.collect()
begun = gc.mem_alloc()
from sealband.update import install
install.install(order, "update/download", {patched}, "slots")
held = record.load("slots")
assert held.trial == 1 and held.slots[1] == (2, order.digest, 0)
print("installed", begun)
"""


class InstallFailed(Exception):
    """The update was not installed; the text is what MicroPython printed."""


@dataclass
class SlotBoard:
    """The board's folder, and what is delivered.

    Attributes:
        root: what is `/` on a board.
        base: the image that runs.
        image: the image of the update.
        full, patch: its deliveries.
    """

    root: Path
    base: bytes
    image: bytes
    full: bytes
    patch: bytes

    def install(self, heap: str, patched: bool) -> str:
        """Verify the update's manifest and install it from its full image or its patch; what was printed.

        Raises:
            InstallFailed: it came to another end, for want of memory for example.
        """
        (self.root / "update" / "download").write_bytes(self.patch if patched else self.full)
        shutil.rmtree(self.root / "slots" / "b", ignore_errors=True)
        release = signed_release.release(self.image)
        self._record()
        program = INSTALL.format(vendor=release.vendor.bytes, class_id=release.class_id.bytes, patched=patched)
        done = self._run(program, "-X", f"heapsize={heap}")
        if not done.startswith("installed "):
            raise InstallFailed(done)
        return done

    def _record(self) -> None:
        for number in ("0", "1"):
            (self.root / "slots" / number).unlink(missing_ok=True)
        said = self._run(SET_UP.format(digest=digest(self.base).hex()))
        assert not said, said

    def _run(self, program: str, *options: str) -> str:
        done = subprocess.run(
            [find_micropython(), *options, "-c", program],
            cwd=self.root,
            env={**os.environ, "MICROPYPATH": "slots/a:slots/a/lib:.frozen:lib"},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        return done.stdout + done.stderr


def digest(image: bytes) -> bytes:
    """SHA-256, by which an image is known."""
    return hashlib.sha256(image).digest()


def make(root: Path) -> SlotBoard:
    """Build the shipped code and a second version of it, sign that 2-of-3, and lay out the board."""
    board = boards.load(BOARD)
    source, second = root / "source", root / "second"
    slot, flash = root / "flash" / "slots" / "a", root / "flash"
    slot.parent.mkdir(parents=True)
    (flash / "update").mkdir()
    bundle.compile_tree(ROOT / "device", slot, board)
    # what boots slots lies outside of them
    (slot / "boot.py").unlink()
    shutil.rmtree(slot / "lib" / "sealboot")
    bundle.compile_boot(ROOT / "device", flash)
    shutil.copytree(ROOT / "device", source, ignore=shutil.ignore_patterns("__pycache__"))
    for number, name in enumerate(EDITED):
        path = source / name
        path.write_text(path.read_text() + ADDED.format(number=number + 2))
    bundle.compile_tree(source, second, board)
    pack.pack(slot)
    pack.pack(second)
    base, image = bundle.app_image(slot), bundle.app_image(second)
    keys = signed_release.make_signers(3)
    unsigned = manifest.encode(signed_release.release(image))
    (flash / "update" / "envelope").write_bytes(signed_release.signed(unsigned, keys[:2]))
    listed = signed_release.trust_file(keys, signed_release.make_signers(1))
    (flash / "update" / "trust").write_bytes(trust.decode(listed).payload)
    return SlotBoard(flash, base, image, patch.deflate(image), patch.make(base, image))
