# What the chip's firmware does between reset and the REPL: mount the flash, run boot.py, then main.py.
#
# The simulated modules lie in a folder of the host. It is mounted only while one of them is loaded, so that nothing of
# the host can be reached through a path, `/` shows the flash only, and what is not used takes no memory.
import builtins
import gc
import os
import sys
import time  # noqa: F401

import _link
import machine  # noqa: F401
import micropython
import vfs

_BLOCK = 4096


class _Flash:
    # the data partition as a block device over a file; reading allocates nothing: finalisers read with the heap locked
    def __init__(self, path):
        self._file = open(path, "r+b")
        self._count = self._file.seek(0, 2) // _BLOCK
        self._left = _link.flash_left

    def readblocks(self, block, buffer, offset=0):
        self._file.seek(block * _BLOCK + offset)
        self._file.readinto(buffer)

    def writeblocks(self, block, buffer, offset=0):
        if self._left:
            self._spend()
        self._file.seek(block * _BLOCK + offset)
        self._file.write(buffer)

    def ioctl(self, op, arg):
        if op == 4:
            return self._count
        if op == 5:
            return _BLOCK
        if op == 6 and self._left:
            self._spend()
        return 0

    def _spend(self):
        # the test's power cut: this operation does not happen, and nothing after it
        self._left -= 1
        if not self._left:
            _link.call(b"X")


_folder = vfs.VfsPosix(os.getenv("MICROPYPATH"))


# What each of them takes of the heap when it is loaded, in 64 bytes. On the chip it takes none, so the heap is
# larger by all of them, and what is not loaded is held: the application has the same heap whatever it uses
# (tests/host/test_sim_board.py measures them).
_BLOCKS = {
    "_partition": 68,
    "_ppp": 47,
    "_uart": 51,
    "_wlan": 67,
    "esp": 3,
    "esp32": 39,
    "lora": 197,
    "network": 10,
    "select": 42,
    "socket": 83,
}


class _Module:
    # stands for a simulated module until something of it is wanted
    def __init__(self, name, blocks):
        self._name = name
        self._module = None
        self._held = bytearray(blocks * 64)

    def __getattr__(self, attribute):
        if self._module is None:
            self._held = None
            gc.collect()
            self._module = self._load(self._name)
        return getattr(self._module, attribute)

    def _load(self, name):
        sys.modules.pop(name, None)
        vfs.mount(_folder, "/.sim")
        sys.path.insert(0, "/.sim")
        try:
            return __import__(name)
        except BaseException:
            sys.modules[name] = self
            raise
        finally:
            sys.path.pop(0)
            vfs.umount("/.sim")


def _mount():
    flash = _Flash(os.getenv("SEALBAND_SIM_FLASH"))
    vfs.umount("/")
    head = bytearray(64)
    flash.readblocks(0, head)
    if not any(head) or head == b"\xff" * 64:
        # a new chip: as inisetup.py does on the ESP32. A damaged file system is never formatted over.
        vfs.VfsLfs2.mkfs(flash)
    vfs.mount(vfs.VfsLfs2(flash), "/")
    os.chdir("/")
    sys.path[:] = ["", ".frozen", "/lib"]
    for name, blocks in _BLOCKS.items():
        sys.modules[name] = _Module(name, blocks)
    _BLOCKS.clear()
    sys.modules["_asyncio"] = sys.modules["select"]


def _run(path, scope):
    # whether it ended well, or is not there
    try:
        os.stat(path)
    except OSError:
        return True
    try:
        micropython.kbd_intr(3)  # as the chip's main.c has it before each script
        builtins.execfile(path, scope)
        return True
    except SystemExit:
        raise
    except BaseException as error:
        sys.print_exception(error)
        return False


def start(scope):
    try:
        _mount()
        del sys.modules["_start"]
        gc.collect()
        if _run("boot.py", scope) and _link.run_main:
            _run("main.py", scope)
        _link.call(b"b")
    except SystemExit:
        _link.call(b"s")
