# Which link for which frame, and when the server counts as lost. Pure: facts in, a decision out. Loaded for a session.
#
# Facts of a link, for one frame:
#
#     wait_ms     until it may send a frame of this length: 0 now, None never
#     hold_ms     what is left of its back-off
#     spare       permille of its airtime that would be left after this frame; 1000: no limit
#     grade       0 free ... 9 dear
#     energy_mj   what the frame costs
#     tries       sessions in a row over it that left something unacknowledged
#     tried       this frame went out over it in this session
#
# An event goes over one link after the other, those that work first, until it is acknowledged. Anything else waits for
# the cheapest link that can be expected within its age limit, and goes over any other only after that. A link that
# failed is asked less and less often (backoff.py); the last of LoRa's airtime is kept for events.
from micropython import const

from sealband.outbox import EVENT, TELEMETRY

_KEEP = const(200)  # permille of the airtime that telemetry leaves to events, statuses and receipts
_KEEP_MS = const(60000)  # until it is looked at again
_LOST_AFTER = const(3)  # as backoff.py
_FAILED_AFTER = const(9)  # sessions in a row: its pause is an hour then, and nothing is worth waiting for it
BURST_MAX = const(16)  # frames a link and session
UNHEARD_MAX = const(2)  # frames in a row without an answer, then this link's part of the session ends


# The link for a frame, (index, 0), or when to ask again, (None, ms); (None, None): no link carries it.
def choose(priority, age_s, patience_s, facts):
    limit_ms = 0 if priority == EVENT else max(0, patience_s - age_s) * 1000
    ready = []
    cheapest = None  # of those that are worth waiting for
    for wait_ms, hold_ms, spare, grade, _, tries, _ in facts:
        if wait_ms is not None:
            wait_ms = max(wait_ms, hold_ms)
            if priority == TELEMETRY and spare < _KEEP:
                wait_ms = max(wait_ms, _KEEP_MS)
            if tries < _FAILED_AFTER and wait_ms <= limit_ms and (cheapest is None or grade < cheapest):
                cheapest = grade
        ready.append(wait_ms)
    best = soonest = chosen = None
    for index, (_, _, _, grade, energy_mj, tries, tried) in enumerate(facts):
        wait_ms = ready[index]
        if wait_ms is None:
            continue
        if cheapest is not None and grade > cheapest:
            wait_ms = max(wait_ms, limit_ms)
        if wait_ms or tried:
            if soonest is None or wait_ms < soonest:
                soonest = wait_ms
            continue
        rank = (tries if priority == EVENT else 0, grade, energy_mj, tries)
        if chosen is None or rank < best:
            best, chosen = rank, index
    return (chosen, soonest) if chosen is None else (chosen, 0)


# Whether the server seems to have lost this device: no link gets through, and over one it should have.
def lost(backoffs):
    silent = False
    for backoff in backoffs:
        if backoff.tries < _LOST_AFTER:
            return False
        silent = silent or backoff.lost
    return silent
