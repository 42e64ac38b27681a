"""Compiling the tree that goes onto a board, and making its image, byte for byte the same wherever it is made."""

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import boards
from host_tools.release import archive, numbers
from host_tools.release.bundle import (
    CompileFailed,
    ImageRefused,
    app_image,
    compile_file,
    compile_tree,
    mpy_cross_version,
    sources,
)
from host_tools.sim.board import VirtualBoard
from sealwire.update import FILES_MAX, NAME_MAX
from tests.support.boards import MAC
from tests.support.micropython import ROOT, Micropython

# docs.micropython.org, "MicroPython .mpy files": the first two bytes of version 6, which 1.23 and later read
MPY_6 = b"M\x06"


def device(folder: Path) -> Path:
    (folder / "lib" / "inner").mkdir(parents=True)
    (folder / "boot.py").write_text("")
    (folder / "main.py").write_text("import app\nimport board\nimport inner.part\napp.run(board)\n")
    (folder / "app.py").write_text("def run(board):\n    print('running on', board.NAME)\n")
    (folder / "lib" / "inner" / "__init__.py").write_text("")
    (folder / "lib" / "inner" / "part.py").write_text("VALUE = 1\n")
    return folder


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(str(p.relative_to(folder)).encode() + p.read_bytes() for p in files)).hexdigest()


def test_tree_is_compiled_and_runs_on_the_board(tmp_path: Path) -> None:
    files = compile_tree(device(tmp_path / "device"), tmp_path / "out", boards.load("VIRTUAL"))
    names = ["app.mpy", "board.mpy", "boot.py", "lib/inner/__init__.mpy", "lib/inner/part.mpy", "main.py"]
    assert [path.as_posix() for path in files] == names
    assert all((tmp_path / "out" / path).read_bytes()[:2] == MPY_6 for path in files if path.suffix == ".mpy")
    board = VirtualBoard(tmp_path / "board", name="b", mac=MAC)
    board.install(tmp_path / "out")
    with board:
        board.wait_for("running on VIRTUAL")


def test_same_source_gives_the_same_bytes_anywhere(tmp_path: Path) -> None:
    for name in ("one", "elsewhere"):
        compile_tree(device(tmp_path / name / "device"), tmp_path / name / "out", boards.load("VIRTUAL"))
    assert digest(tmp_path / "one" / "out") == digest(tmp_path / "elsewhere" / "out")


def test_what_was_in_the_folder_does_not_get_into_the_tree(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.mpy").write_bytes(b"M\x06old")
    compile_tree(device(tmp_path / "device"), tmp_path / "out", boards.load("VIRTUAL"))
    assert not (tmp_path / "out" / "old.mpy").exists()


def test_invalid_source_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def (:\n")
    with pytest.raises(CompileFailed, match=r"lib/bad.py: .*SyntaxError"):
        compile_file(tmp_path / "bad.py", tmp_path / "bad.mpy", "lib/bad.py")
    assert not (tmp_path / "bad.mpy").exists()


def test_all_device_code_compiles_for_every_board(tmp_path: Path) -> None:
    for name in boards.names():
        files = compile_tree(ROOT / "device", tmp_path / name, boards.load(name))
        assert Path("board.mpy") in files


# what builds an image in a process of its own: folder of the code, where the tree goes
BUILD = """
import hashlib, sys
from pathlib import Path
import boards
from host_tools.release.bundle import app_image, compile_tree
out = Path(sys.argv[2])
compile_tree(Path(sys.argv[1]), out, boards.load("LILYGO_T_BEAM"))
print(hashlib.sha256(app_image(out)).hexdigest())
"""


def tree(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_image_is_what_the_device_makes_of_the_unpacked_files(tmp_path: Path) -> None:
    compile_tree(ROOT / "device", tmp_path / "tree", boards.load("LILYGO_T_BEAM"))
    image = app_image(tmp_path / "tree")
    with tarfile.open(fileobj=io.BytesIO(image)) as tar:
        tar.extractall(tmp_path / "slot", filter="data")
    with Micropython() as device:
        device.run("from sealboot import image")
        assert device.call(f"image.digest({str(tmp_path / 'slot')!r})") == hashlib.sha256(image).digest()
    assert not (tmp_path / "slot" / "boot.py").exists()
    assert not (tmp_path / "slot" / "lib" / "sealboot").exists()
    assert (tmp_path / "slot" / "main.py").read_bytes() == (ROOT / "device" / "main.py").read_bytes()
    assert all(path.suffix == ".mpy" for path in (tmp_path / "slot").rglob("*.*") if path.name != "main.py")


# names whose order depends on whether folders are sorted as names or by their paths; lengths around a block
ODD = {
    "a": b"",
    "a-b": b"x" * 511,
    "a.mpy": b"x" * 512,
    "b/a.mpy": b"x" * 513,
    "b-a/z": b"1",
    "b.mpy": b"2",
    "b0": b"3",
    "lib/sealband/__init__.mpy": b"4" * 20000,
    "lib/sealband.mpy": b"5",
    "lib/sealband-x/y": b"6",
    "lib/Z_.9": b"7",
}


def test_image_of_odd_names_and_lengths_is_made_again_by_the_device(tmp_path: Path) -> None:
    tree(tmp_path, ODD)
    image = app_image(tmp_path)
    assert archive.parse(image).ok
    with Micropython() as device:
        device.run("from sealboot import image")
        assert device.call(f"image.digest({str(tmp_path)!r})") == hashlib.sha256(image).digest()


def test_image_is_the_same_in_another_folder_time_umask_zone_and_locale(tmp_path: Path) -> None:
    digests = []
    for number, (zone, language, seed, umask, when) in enumerate(
        [("UTC", "C", "0", 0o022, 0), ("Pacific/Kiritimati", "de_DE.UTF-8", "4711", 0o077, 1_900_000_000)]
    ):
        # another depth, too: no path may get into the bytes
        device = tmp_path / "/".join(["deep"] * (number + 1)) / f"code{number}"
        shutil.copytree(ROOT / "device", device, ignore=shutil.ignore_patterns("__pycache__"))
        for path in sorted(device.rglob("*"), reverse=bool(number)):
            os.utime(path, (when, when))
        done = subprocess.run(
            [sys.executable, "-c", BUILD, str(device), str(tmp_path / f"out{number}")],
            cwd=tmp_path,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(ROOT),
                "TZ": zone,
                "LC_ALL": language,
                "PYTHONHASHSEED": seed,
            },
            umask=umask,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        digests.append(done.stdout)
    assert digests[0] == digests[1]
    assert len(digests[0].strip()) == 64


def test_owner_mode_and_time_of_files_do_not_get_into_the_image(tmp_path: Path) -> None:
    tree(tmp_path, {"main.py": b"1", "lib/x.mpy": b"2"})
    before = app_image(tmp_path)
    (tmp_path / "main.py").chmod(0o755)
    os.utime(tmp_path / "main.py", (1, 1))
    assert app_image(tmp_path) == before
    (tmp_path / "main.py").write_bytes(b"3")
    assert app_image(tmp_path) != before


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a b.mpy", "characters"),
        ("ä.mpy", "characters"),
        ("x" * (NAME_MAX + 1), "longer"),
        ("a/b/c/d/e/f/g", "folders deep"),
        ("lib/sealboot.mpy", "stand in"),
        ("sealboot/slots.mpy", "stand in"),
        ("boot.mpy", "stand in"),
        ("a\nboot.py", "characters"),
    ],
)
def test_name_that_devices_refuse_is_refused_at_once(tmp_path: Path, name: str, reason: str) -> None:
    tree(tmp_path, {"main.py": b"", name: b""})
    with pytest.raises(ImageRefused, match=reason):
        app_image(tmp_path)


def test_link_is_refused(tmp_path: Path) -> None:
    tree(tmp_path / "tree", {"main.py": b""})
    tree(tmp_path / "other", {"secret": b"1"})
    for target in ("other", "other/secret", "nothing"):
        (tmp_path / "tree" / "link").unlink(missing_ok=True)
        (tmp_path / "tree" / "link").symlink_to(tmp_path / target)
        with pytest.raises(ImageRefused, match="link is neither"):
            app_image(tmp_path / "tree")


def test_too_many_files_and_none_are_refused(tmp_path: Path) -> None:
    tree(tmp_path, {"boot.py": b""})
    with pytest.raises(ImageRefused, match="0 files"):
        app_image(tmp_path)
    tree(tmp_path, {f"f{number}": b"" for number in range(FILES_MAX)})
    assert archive.parse(app_image(tmp_path)).ok
    tree(tmp_path, {"more": b""})
    with pytest.raises(ImageRefused, match=f"{FILES_MAX + 1} files"):
        app_image(tmp_path)


def test_names_for_people_stay_off_the_board() -> None:
    assert Path("lib/sealwire/names.py") not in sources(ROOT / "device", boards.load("VIRTUAL"))


def test_module_that_nothing_imports_stays_off_the_board(tmp_path: Path) -> None:
    code = device(tmp_path / "device")
    for name in ("asked", "by_name", "all/one", "all/two", "never", "pinned"):
        (code / "lib" / f"{name}.py").parent.mkdir(exist_ok=True)
        (code / "lib" / f"{name}.py").write_text("")
    (code / "lib" / "inner" / "beside.py").write_text("from . import part\nfrom .deeper import x\n")
    (code / "lib" / "inner" / "deeper.py").write_text("x = 1\n")
    (code / "app.py").write_text(
        "def run(board):\n    import asked\n    from inner import beside\n"
        "    return __import__('all.' + board.NAME), 'inner.part', 'never', 'a sentence. never'\n"
    )
    found = sources(code, boards.load("VIRTUAL"))
    names = {"app.py", "boot.py", "main.py", "lib/asked.py", "lib/all/one.py", "lib/all/two.py"}
    inner = {f"lib/inner/{name}.py" for name in ("__init__", "part", "beside", "deeper")}
    assert {path.as_posix() for path in found} == names | inner


def test_all_that_the_shipped_application_can_import_is_in_its_tree(tmp_path: Path) -> None:
    # by another way than the one that chose: each import of each file in the tree finds its file, or is the firmware's
    found = {path.with_suffix("").as_posix() for path in sources(ROOT / "device", boards.load("LILYGO_T_BEAM"))}
    modules = {name.removeprefix("lib/").removesuffix("/__init__").replace("/", ".") for name in found}
    known = numbers.numbers(ROOT / "device")
    for path in found:
        text = numbers.put_in((ROOT / "device" / f"{path}.py").read_text(), known)
        for base, names in re.findall(r"^\s*(?:from ([\w.]+) )?import ([\w., ]+)", text, re.M):
            for name in names.split(","):
                dotted = f"{base}.{name.split(' as ')[0].strip()}" if base else name.split(" as ")[0].strip()
                if dotted.startswith(("sealband", "sealwire", "sealboot")):
                    assert dotted in modules or dotted.rpartition(".")[0] in modules, (path, dotted)


def test_progress_names_every_source_once(tmp_path: Path) -> None:
    told: list[Path] = []
    code = device(tmp_path / "device")
    compile_tree(code, tmp_path / "out", boards.load("VIRTUAL"), progress=told.append)
    assert told == sources(code, boards.load("VIRTUAL"))
    assert len(told) == 5


def test_compiler_says_its_version_and_format() -> None:
    assert "mpy v6." in mpy_cross_version()


def test_modem_is_described_and_driven_only_where_an_application_uses_it(tmp_path: Path) -> None:
    for name, table in (("VIRTUAL", "sim70xx"), ("LILYGO_T_SIM7080G_S3", "sim70xx")):
        board = boards.load(name)
        files = {}
        for use in ("lora", "lte"):
            (tmp_path / "app.py").write_text(f"import sealband.links.{use}\n")
            files[use] = compile_tree(ROOT / "device", tmp_path / use, board, app=tmp_path / "app.py")
        driven = {path.stem for path in files["lte"]} - {path.stem for path in files["lora"]}
        assert driven >= {"lte", "modem", "modemstart", "modemsetup", "attach", table}
        assert not {path.stem for path in files["lte"]} & {"bg9x", "a76xx"}
        assert b"power_key" in (tmp_path / "lte" / "board.mpy").read_bytes()
        assert b"power_key" not in (tmp_path / "lora" / "board.mpy").read_bytes()


def test_modules_beside_an_application_go_with_it_and_nothing_else_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / "hub").mkdir(parents=True)
    (folder / "app.py").write_text("from grip import Grip\nimport sealband.app\n")
    (folder / "grip.py").write_text("from hub.bus import Bus\nfrom sealband.sensors.tmp117 import SkinTemperature\n")
    for name in ("hub/__init__.py", "hub/bus.py", "notes.py", "boot.py", "sealband.py"):
        (folder / name).write_text("x = 1\n")
    files = compile_tree(ROOT / "device", tmp_path / "tree", boards.load("VIRTUAL"), app=folder / "app.py")
    names = {path.as_posix() for path in files}
    assert {"app.mpy", "grip.mpy", "hub/__init__.mpy", "hub/bus.mpy"} <= names
    assert not {"notes.mpy", "sealband.mpy", "boot.mpy"} & names
    # and what they use of the library
    assert "lib/sealband/sensors/tmp117.mpy" in names
