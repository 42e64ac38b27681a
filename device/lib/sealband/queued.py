# What lies in the outbox's folder at a start. Changes nothing there. Loaded for the occasion.
import os
import struct

from sealwire import frame

_KEY = ">BIH"
_PRIORITY_MAX = 2


# Packed keys of the frames and how long they are together; then what does not belong there: [(name, key or None)], with
# the key of a frame that is to be counted as lost.
def look(path, dropped):
    try:
        os.mkdir(path)
    except OSError:
        pass  # it is there
    keys = []
    length = 0
    remove = []
    for entry in os.ilistdir(path):
        name = entry[0]
        key = _parse(name)
        size = entry[3] if len(entry) > 3 else os.stat(path + "/" + name)[6]
        if key is None or key == dropped:
            remove.append((name, None))
        elif not frame.OVERHEAD <= size <= frame.FRAME_MAX:
            # no cut does this: flash lost a part of it
            remove.append((name, key))
        else:
            keys.append(key)
            length += size
    return keys, length, remove


# the key that a file name stands for, or None
def _parse(name):
    if len(name) != 13:
        return None
    try:
        key = struct.pack(_KEY, int(name[0], 16), int(name[1:9], 16), int(name[9:], 16))
    except ValueError:
        return None
    return key if "%x%08x%04x" % struct.unpack(_KEY, key) == name and key[0] <= _PRIORITY_MAX else None
