# Runs first after every reset, and is never replaced by an update. The firmware then runs the main.py of the folder
# that this leaves it in: of the slot that sealboot.slots chose, or of the root on a developer's board. Must not raise.
# On a board that the station has closed, the firmware gets no further than this: main.py is run from here with
# Control-C off, and however it ends, the board starts anew. Only sealboot.unlocked lets the REPL come.
import gc
import os
import sys

import micropython

micropython.kbd_intr(-1)  # until it is known that the board is open

# `''` stands first in sys.path: a file in the root would shadow a frozen module. Ours are found by name, in /lib.
if "" in sys.path:
    sys.path.remove("")
    sys.path.append("")
gc.threshold(8192)


# The folder of the slot to be run; "": no release was ever put onto this board; None: nothing may be run.
def _choose():
    try:
        os.stat("/slots")
    except OSError as error:
        if error.errno == 2:
            return ""
        # whether there are slots can't be seen: then there are
    try:
        import machine

        from sealboot import slots

        return slots.choose(machine)
    except Exception as error:
        sys.print_exception(error)
        return None


# Whether the station has closed this board (sealband.store.CLOSED). A mark that can't be read is there.
def _is_closed():
    try:
        from esp32 import NVS
    except ImportError:
        return False  # no chip
    try:
        return NVS("sealband").get_i32("closed") != 0
    except Exception as error:
        return getattr(error, "errno", 0) != -0x1102  # ESP_ERR_NVS_NOT_FOUND


# Run the slot; nothing but a hard reset or an unlocked REPL comes after it.
def _run_closed(runs):
    import machine

    unlocked = False
    try:
        import sealboot

        sealboot.closed = True
        if machine.reset_cause() == machine.SOFT_RESET:
            unlocked = True  # only a REPL gives one
        elif runs:
            import main  # noqa: F401

            unlocked = sealboot.unlocked
        else:
            import time

            time.sleep(60)
    finally:
        if unlocked is not True:
            machine.reset()


_closed = _is_closed()
if not _closed:
    micropython.kbd_intr(3)
_slot = _choose()
try:
    if _slot:
        sys.path[:] = [_slot, _slot + "/lib", ".frozen", "/lib"]
        os.chdir(_slot)
    elif _slot is None or _closed:
        print("boot: nothing that may be run")
        # a folder without a main.py: what lies in the root was not signed
        os.chdir("/lib/sealboot")

    # What chose is not needed any more; what was chosen stays, in sealboot itself.
    for _name in ("slots", "record", "image"):
        if sys.modules.pop("sealboot." + _name, None):
            delattr(sys.modules["sealboot"], _name)
    del _choose, _is_closed, _name, micropython
    gc.collect()
except Exception as error:
    if not _closed:
        raise
    sys.print_exception(error)
    _slot = None  # flash that fails just here must not lead to the REPL
if _closed:
    _run_closed(bool(_slot))
del _run_closed, _closed, _slot
