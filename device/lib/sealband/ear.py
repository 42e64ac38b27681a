# The serial port of a closed board while its node runs. Loaded only there.
import select
import sys

from micropython import const

import sealboot
from sealband import once, store

_UNLOCK = b"sealband/1 unlock\n"  # sealwire.service.UNLOCK: that module is loaded when it was said
_TELL_EVERY_S = const(3600)
_LOOK_MAX = const(256)


# Whether somebody asks for an unlock, and whether refusals are to be told. Each `next` is one look; what was typed is
# not kept.
def ear(node, records):
    port = select.poll()
    port.register(sys.stdin, select.POLLIN)
    heard = 0  # bytes of the line so far
    tell_at = 0
    while True:
        for _ in range(_LOOK_MAX):
            byte = sys.stdin.buffer.read(1) if port.poll(0) else b""
            if not byte:
                break
            if byte == b"\r":
                byte = b"\n"
            if byte[0] == _UNLOCK[heard]:
                heard += 1
            else:
                heard = 1 if byte[0] == _UNLOCK[0] else 0
            if heard == len(_UNLOCK):
                heard = 0
                _ask(node, records)
        if node.clock.uptime() >= tell_at:
            tell_at = node.clock.uptime() + _TELL_EVERY_S
            if records.load_number(store.TAMPER):
                try:
                    once("sealband.tamper").tell(node, records)
                except MemoryError:
                    pass  # next time; without this generator nobody could ask for an unlock
        yield


# The unlock has a start of its own.
def _ask(node, records):
    if node.trial or sealboot.watchdog_s:
        print("sealband/1 refused busy an update is on trial")
        return
    try:
        records.save_number(store.UNLOCK, 1)
    except store.StoreError:
        print("sealband/1 refused flash it does not keep the mark")
        return
    node.restart()
