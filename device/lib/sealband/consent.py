# What the wearer agrees to have measured: the record ids of the server's last consent message, one byte each, in an A/B
# record. Before the first message the application's word holds (App's ask_first). Loaded for the occasion.
from sealband import store as names
from sealwire import messages
from sealwire.recordids import BATTERY_VOLTAGE, RECORD_MAX, WEAR_STATE


# The ids that may be sampled, None: all.
def load(store, ask_first):
    consent = store.load(names.CONSENT)
    return b"" if consent is None and ask_first else consent


# Take over a list of ids, in flash first: the result code. It holds from now on; what is being measured is not kept.
def change(node, records):
    if type(records) is not list:
        return messages.RESULT_MALFORMED
    for record in records:
        if type(record) is not int:
            return messages.RESULT_MALFORMED
        if not 1 <= record <= RECORD_MAX:
            return messages.RESULT_OUT_OF_RANGE
    consent = bytes(sorted(set(records)))
    if consent != node.store.load(names.CONSENT):
        # nothing of the version before may come back, should this one be lost
        node.store.save(names.CONSENT, consent, scrub=True)
        node.status_at = node.clock.now()  # which tells what holds from now on
        node.sampler.told = False
    sampler = node.sampler
    sampler.consent = consent
    # what was remembered, and what was concluded from it, goes with the consent
    for record in list(sampler.newest):
        if record not in consent:
            del sampler.newest[record]
    for every in sampler.sensors:
        sampler.forget(every.sensor)
    if not sampler.may(WEAR_STATE):
        node.worn = None
    if not sampler.may(BATTERY_VOLTAGE):
        node.low = 0  # nobody would ever see that it is charged
    node.pace(0)
    return messages.RESULT_DONE
