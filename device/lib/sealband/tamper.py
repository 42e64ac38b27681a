# What the serial port has refused, told to the server by an event. Loaded for the occasion.
from micropython import const

from sealband import store
from sealband.errors import StoreError

# sealwire.service, for which the node has no room; a test holds them against it
_TAMPER_EVENT = const(6)
_TELL_EVERY_S = const(3600)


# At most one an hour, however often the board starts: its clock then begins anew at the last hour that it noted.
def tell(node, where):
    pending = where.load_number(store.TAMPER)
    told, now = where.load_number(store.TOLD), node.clock.now()
    if not pending or (told is not None and -2 * _TELL_EVERY_S < now - told < _TELL_EVERY_S):
        return
    try:
        where.save_number(store.TOLD, min(max(now, 0), 0x7FFFFFFF))
        if node.event(_TAMPER_EVENT, pending & 0xFF, pending >> 8):
            where.save_number(store.TAMPER, 0)
    except StoreError:
        pass  # flash that does not keep when they were told would have them told again with each start
