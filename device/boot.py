# Runs first after every reset, and is never replaced by an update. The firmware then runs the main.py of the folder
# that this leaves it in: of the slot that sealboot.slots chose, or of the root on a developer's board. Must not raise.
import gc
import os
import sys

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


_slot = _choose()
if _slot:
    sys.path[:] = [_slot, _slot + "/lib", ".frozen", "/lib"]
    os.chdir(_slot)
elif _slot is None:
    print("boot: nothing that may be run; the serial port is open")
    # a folder without a main.py: what lies in the root was not signed
    os.chdir("/lib/sealboot")

# What chose is not needed any more; what was chosen stays, in sealboot itself.
for _name in ("slots", "record", "image"):
    if sys.modules.pop("sealboot." + _name, None):
        delattr(sys.modules["sealboot"], _name)
del _choose, _slot, _name
gc.collect()
