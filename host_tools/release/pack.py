"""All modules of a release in one file, `modules`: a file of its own takes 4 KiB of a board's flash, and most modules
have a quarter of that. The device's half is `device/pack.py`, which says how the file begins.

    ".mpy" files, one after the other · names of all entries, each ended by a line feed · length of the names (4 B)

close it. The device reads no names: they are for who wants to see what is in a release. All numbers are big-endian.
"""

import shutil
from hashlib import sha256
from pathlib import Path
from zlib import crc32

from host_tools.release import archive
from host_tools.release.archive import Entry

NAME = "modules"
READER = "pack.mpy"  # what mounts it, and so lies beside it
ENTRIES_MAX = 1024

_MAGIC = b"SBM1"
_ENTRY_LEN = 8
_LIB = "lib/"
_FIXED = "lib/sealboot"


class PackRefused(Exception):
    """These modules cannot be packed, or this is no pack; the text says why."""

    remedy = "rename a module"


def pack(tree: Path) -> None:
    """Put the modules of a tree that `bundle.compile_tree` made into one file; one without the reader stays as it is.

    What boots slots, `main.py` and data stay files. On the board a module of `lib/` and one of the root stand side by
    side.

    Raises:
        PackRefused: two modules have one name, or names that the device could not tell apart.
    """
    if not (tree / READER).is_file():
        return
    modules: dict[str, Path] = {}
    for path in sorted(tree.rglob("*.mpy")):
        relative = path.relative_to(tree).as_posix()
        if relative == READER or relative.startswith(_FIXED):
            continue
        name = relative.removeprefix(_LIB)
        if name in modules:
            raise PackRefused(f"{name} is in the root and in lib")
        modules[name] = path
    data = encode({name: path.read_bytes() for name, path in modules.items()})
    for path in modules.values():
        path.unlink()
    for folder in sorted((path for path in tree.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            shutil.rmtree(folder)
    (tree / NAME).write_bytes(data)


def encode(modules: dict[str, bytes]) -> bytes:
    """A pack of these modules by name, `sealband/node.mpy` for instance.

    Raises:
        PackRefused: too many, a name that no file of a slot may bear, or names that the device could not tell apart.
    """
    for name in modules:
        # what a signer is shown must be the path that an import asks for
        wrong = archive.refuse_name(name) or (None if name.endswith(".mpy") else f"{name!r} is no module")
        if wrong:
            raise PackRefused(wrong)
    folders = {f"{parent}/" for name in modules for parent in Path(name).parents if parent != Path()}
    names = sorted([*folders, *modules])
    if len(names) > ENTRIES_MAX:
        raise PackRefused(f"{len(names)} modules and folders; a pack has at most {ENTRIES_MAX}")
    index, contents, keys = b"", b"", dict[bytes, str]()
    begin = len(_MAGIC) + 2 + _ENTRY_LEN * len(names)
    for name in names:
        key = _key(name)
        if other := keys.get(key):
            raise PackRefused(f"{name} and {other} have one CRC-32")
        keys[key] = name
        index += key + (0 if name in folders else begin + len(contents)).to_bytes(4, "big")
        contents += modules.get(name, b"")
    listed = "".join(f"{name}\n" for name in names).encode()
    return _MAGIC + len(names).to_bytes(2, "big") + index + contents + listed + len(listed).to_bytes(4, "big")


def parse(data: bytes) -> tuple[Entry, ...]:
    """The modules in a pack, by `modules/` and their names, in their order.

    Raises:
        PackRefused: it is not exactly what `encode` writes.
    """
    count = int.from_bytes(data[4:6], "big")
    names_len = int.from_bytes(data[-4:], "big")
    end = len(data) - 4 - names_len
    if data[:4] != _MAGIC or count > ENTRIES_MAX or end < 6 + _ENTRY_LEN * count:
        raise PackRefused("it does not begin and end as a pack")
    try:
        names = data[end:-4].decode("ascii").splitlines()
    except UnicodeDecodeError:
        raise PackRefused("a name is not ASCII") from None
    if len(names) != count:
        raise PackRefused(f"it has {count} entries and {len(names)} names")
    begins = [int.from_bytes(data[10 + _ENTRY_LEN * i : 14 + _ENTRY_LEN * i], "big") for i in range(count)]
    ends = [*(begin for begin in begins if begin), end][1:]
    modules: dict[str, bytes] = {}
    for name, begin in zip(names, begins, strict=True):
        if begin:
            modules[name] = data[begin : ends[len(modules)]]
    if len(modules) != sum(map(bool, begins)) or encode(modules) != data:
        raise PackRefused("its index, its modules and their names do not agree")
    return tuple(Entry(f"{NAME}/{name}", len(module), sha256(module).digest()) for name, module in modules.items())


def contents(image: bytes) -> tuple[Entry, ...]:
    """The files of an image (`app.tar`), those of its pack each by itself; of a malformed image, what can be read.

    Raises:
        PackRefused: its pack is none.
    """
    found: list[Entry] = []
    at = 0
    for entry in archive.parse(image).entries:
        begin = at + archive.BLOCK
        at = begin + entry.size + -entry.size % archive.BLOCK
        found.extend(parse(image[begin : begin + entry.size]) if entry.name == NAME else (entry,))
    return tuple(found)


def _key(name: str) -> bytes:
    return crc32(f"/{name.removesuffix('/')}".encode()).to_bytes(4, "big")
