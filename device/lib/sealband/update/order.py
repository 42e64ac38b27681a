# Takes the server's order of an update: written down, for a start that has the heap to itself. The running application
# has no room for more, so who may be asked for what is judged there (duty.py). Loaded when an order comes.
from micropython import const

import sealboot
from sealband.crypto import cbor
from sealband.store import write_file
from sealwire import messages

# sealwire.update, for which the node has no room; a test holds them against it
_ACCEPTED = const(1)
_URL_MAX = const(160)

QUIET_S = 20  # the receipt goes out first


# The result code.
def take(node, items, says):
    if len(items) != 4:
        return messages.RESULT_MALFORMED
    _, sequence, digest, url = items
    if type(sequence) is not int or not 0 <= sequence <= 0xFFFFFFFF or type(url) is not str:
        return messages.RESULT_MALFORMED
    if type(digest) is not bytes or len(digest) != (32 if sequence else 0):
        return messages.RESULT_MALFORMED
    if len(url) > _URL_MAX:
        return messages.RESULT_OUT_OF_RANGE
    if sealboot.index > 1:
        return messages.RESULT_UNSUPPORTED  # a developer's board has no slots
    if node.trial:
        return messages.RESULT_BUSY
    try:
        row = [sequence, digest, url, sorted(node.sampler.newest), max(0, node.clock.now())]
        write_file(node.update_folder + "/order", cbor.encode(row))
    except OSError:
        return messages.RESULT_FAILED
    if node.restart_s is None:
        says.append((messages.UPDATE_REPORT, sequence, _ACCEPTED, 0))
    node.restart_s = node.clock.uptime() + QUIET_S
    return messages.RESULT_DONE
