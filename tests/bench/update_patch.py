"""Patch ÷ full image, both as delivered: real versions of the device's own tree, out of this repository's history.

Needs git and a clone with history; where either is missing, the figures are missed and say so.
"""

import io
import subprocess
import tarfile
import tempfile
from pathlib import Path

import boards
from host_tools.release.bundle import app_image, compile_tree
from host_tools.release.patch import apply, deflate, make
from tests.bench.figure import Figure
from tests.support.micropython import ROOT

BOARD = "LILYGO_T_BEAM"
LIMIT = 0.15
# one commit apart: before, after, what it changed
PAIRS = (
    ("87443d9", "5753787", "modules split, loaded where they are used"),
    ("73ca4c9", "23ba989", "18 files of the whole tree changed"),
    ("5479dfc", "e01378f", "two modules added: manifest and trust list"),
)
# many in one step: reported only
FAR = ("4c8b3ce", "c10a31b", "14 commits of device code apart")


class NoHistory(Exception):
    """The source is no clone with these commits."""


def version(commit: str) -> bytes:
    """The image of the device's tree as it was, compiled with today's tools."""
    try:
        done = subprocess.run(["git", "archive", commit, "device"], cwd=ROOT, capture_output=True, check=False)
    except FileNotFoundError:
        raise NoHistory("git is missing") from None
    if done.returncode:
        raise NoHistory(f"commit {commit} is missing: no clone with history")
    with tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
            tar.extractall(scratch, filter="data")
        compile_tree(Path(scratch) / "device", Path(scratch) / "tree", boards.load(BOARD))
        return app_image(Path(scratch) / "tree")


def ratio(before: str, after: str) -> tuple[float, int, int]:
    """Patch ÷ full, and the bytes of both; the patch was applied."""
    base, image = version(before), version(after)
    patch, full = make(base, image), deflate(image)
    assert apply(base, patch) == image
    return len(patch) / len(full), len(patch), len(full)


def figures() -> list[Figure]:
    """One figure a pair of versions."""
    results = []
    for limit, (before, after, what) in [*((LIMIT, pair) for pair in PAIRS), (None, FAR)]:
        name = f"patch ÷ full image, {before} → {after}"
        try:
            value, patch, full = ratio(before, after)
        except NoHistory as missing:
            results.append(Figure(name, float("nan"), limit, note=str(missing)))
            continue
        results.append(Figure(name, value, limit, note=f"{patch} of {full} B; {what}"))
    return results
