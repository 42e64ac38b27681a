# What a node says of itself: its status, and at a cold start how an update went. Loaded for the occasion.
import gc
import os

from micropython import const

import sealboot
from sealband import once
from sealband.crypto import cbor
from sealband.errors import ChainStopped, StoreError
from sealband.outbox import REPLY
from sealwire import messages, recordids

_START_SPREAD_MS = 4000
_HELLO_OVERHEAD = const(23)  # sealwire.frame
_ROOMY = 80  # shorter ones have no room for the charge


# A status of at most so many bytes: what matters most comes first, what does not fit is left out.
def status(node, plaintext_max):
    airtime_ms = 0
    for link in node.links:
        spent_ms = node.ask(link, "airtime_ms")
        airtime_ms += spent_ms if type(spent_ms) is int else 0
    sampler = node.sampler
    fields = (
        # a change comes before all else: at the longest range little else has room
        (messages.STATUS_CONSENT, None if sampler.told else sampler.consent),
        (messages.STATUS_DROPS, node.outbox.drops),
        (messages.STATUS_SENSOR_ERRORS, sampler.errors),
        (messages.STATUS_REFUSED, node.refused),
        (messages.STATUS_SAMPLES_LOST, node.batch.lost),
        (messages.STATUS_BATTERY_MV, sampler.newest.get(recordids.BATTERY_VOLTAGE)),
        (messages.STATUS_RESET_CAUSE, node.reset_cause),
        (messages.STATUS_RELEASE, sealboot.sequence or None),
        (messages.STATUS_RUNNING, sealboot.digest[:8] or None),
        (messages.STATUS_UPTIME_S, node.clock.uptime()),
        (messages.STATUS_AIRTIME_MS, airtime_ms),
        (messages.STATUS_CONSENT, sampler.consent),
        (messages.STATUS_FREE_HEAP, gc.mem_free()),
        (messages.STATUS_CHARGE, once("sealband.charge").used(node) if plaintext_max > _ROOMY else None),
    )
    head = cbor.encode(messages.STATUS) + cbor.encode(node.clock.now())
    chosen = {}
    encoded = cbor.encode(chosen)
    for key, value in fields:
        if value is None:
            continue
        chosen[key] = value
        longer = cbor.encode(chosen)
        if len(head) + len(longer) > plaintext_max:
            del chosen[key]
        else:
            encoded = longer
    sampler.told = True
    return head + encoded


# A frame that names this device openly, for a server that has lost it; None: it can't be sealed.
def hello(node):
    try:
        plaintext = status(node, node.frame_max() - _HELLO_OVERHEAD)
        return once("sealband.seal").hello(node.chain, plaintext)[1]
    except (ChainStopped, StoreError):
        return None


# The first wake after anything but deep sleep.
def begin(node):
    now = node.clock.now()
    node.sampler.start(now)
    if node.trial:
        node.sampler.probe()
    node.send_at = node.after(now, node.config.send_every_s)
    node.status_at = now
    # a ward whose power comes back must not speak all at once
    node.session.spread(_START_SPREAD_MS)
    node.log.note("boot", node.reset_cause)
    _tell_update(node, node.update_folder + "/reports")


# What the updater and the start have to say about an update, left in a file for who can seal it.
def _tell_update(node, path):
    try:
        with open(path, "rb") as file:
            steps = cbor.decode(file.read())
        for sequence, state, code in steps:
            if not node.say(REPLY, messages.UPDATE_REPORT, sequence, state, code):
                return
            node.log.note("update", sequence, state, code)
    except OSError:
        return  # there is nothing to say
    except (cbor.CborError, TypeError, ValueError):
        pass  # no steps of ours: gone with the rest
    try:
        os.remove(path)
    except OSError:
        pass  # said again after the next start
