# What the server may order beside a sync. An order changes everything that it names or nothing, and the second time
# nothing. Loaded for the occasion.
import hashlib

from micropython import const

from sealband import once
from sealband import store as names
from sealband.config import SettingsError
from sealband.errors import StoreError
from sealwire import messages

_REKEY_LEN = const(16)  # sealwire.keys


# The result code, for the receipt. says: to which is added what else is to be said.
def follow(node, epoch, kind, items, says):
    try:
        if kind == messages.UPDATE:
            return once("sealband.update.order").take(node, items, says)
        if kind == messages.REPORT or kind == messages.RETIRE:
            if len(items) != 1:
                return messages.RESULT_MALFORMED
            if kind == messages.REPORT:
                says.append(())
            else:
                from sealband import retire

                retire.begin(node)
            return messages.RESULT_DONE
        if kind == messages.CONFIGURE or kind == messages.CONSENT:
            if len(items) != 2:
                return messages.RESULT_MALFORMED
            if kind == messages.CONSENT:
                return once("sealband.consent").change(node, items[1])
            node.config.change(items[1])
            now = node.clock.now()
            node.send_at = node.after(now, node.config.send_every_s)
            node.status_at = min(node.status_at, now + node.config.status_every_s)
            for link in node.links:
                node.ask(link, "configure", node.config)
            return messages.RESULT_DONE
        if kind == messages.REKEY:
            if len(items) != 2 or type(items[1]) is not bytes or len(items[1]) != _REKEY_LEN:
                return messages.RESULT_MALFORMED
            return _rekey(node, epoch, items[1])
    except SettingsError as error:
        return error.code
    except StoreError:
        node.log.note("store")
        return messages.RESULT_FAILED
    return messages.RESULT_UNSUPPORTED


# One that was carried out and comes again, since its receipt was lost, gets the same receipt.
def _rekey(node, epoch, r):
    chain = node.chain
    mark = int.from_bytes(hashlib.sha256(r + epoch.to_bytes(4, "big")).digest()[:4], "big") >> 1
    if chain.rekey(r, node.clock.now() if node.clock.valid else None, epoch):
        node.log.note("epoch", chain.epoch)
        try:
            node.store.save_number(names.REKEYED, mark)
        except StoreError:
            node.log.note("store")  # then a second one is refused
        return messages.RESULT_DONE
    if epoch == chain.epoch - 1 and node.store.load_number(names.REKEYED) == mark:
        return messages.RESULT_DONE
    return messages.RESULT_OUT_OF_RANGE
