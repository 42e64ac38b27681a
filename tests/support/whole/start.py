# Runs on MicroPython: the shipped boot.py and main.py over compiled modules, on a chip that is simulated beside this
# file (time, machine, esp32, lora). argv: a file for the flash, virtual seconds to run. In the end prints how many
# frames are still queued. After no seconds: the bytes of heap that the simulated chip takes.
import gc
import os
import sys

import vfs


class Flash:
    # allocates nothing: finalisers of files come here with the heap locked
    def __init__(self, path):
        self._file = open(path, "r+b")  # noqa: SIM115

    def readblocks(self, block, buffer, offset=0):
        self._file.seek(block * 4096 + offset)
        self._file.readinto(buffer)

    def writeblocks(self, block, buffer, offset=0):
        self._file.seek(block * 4096 + offset)
        self._file.write(buffer)

    def ioctl(self, request, argument):
        return 64 if request == 4 else 4096 if request == 5 else 0


def provision():
    import pack  # noqa: F401

    from sealband import store
    from sealband.chain import Chain

    Chain.create(store.open_board(), b"\x70\xb3\xd5\xff\xfe\x00\x12\x34", bytes(range(32)), 60000000)
    # the board starts without them
    vfs.umount("/m")
    sys.path.remove("/m")
    del sys.modules["pack"]


def main():
    import time

    flash = Flash(sys.argv[1])
    vfs.VfsLfs2.mkfs(flash)
    vfs.mount(vfs.VfsLfs2(flash), "/outbox")
    if sys.argv[2] == "0":
        # only the chip: what it takes of the heap
        import esp32  # noqa: F401
        import lora  # noqa: F401
        import machine  # noqa: F401

        gc.collect()
        print("done", gc.mem_alloc())
        return
    provision()
    gc.collect()
    time.stop_after_s = int(sys.argv[2])
    try:
        for name in ("boot.py", "main.py"):
            execfile(name, {"__name__": "__main__"})  # noqa: F821
    except SystemExit:
        pass
    print("done", len(os.listdir("/outbox")))


main()
