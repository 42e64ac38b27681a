"""Downlink counters of a server that was restored from a backup: none of them was ever used. Pure: time is passed in.

The trouble. A backup knows the downlink counters that were used until it was made. The lost server went on using them,
and the restored one can't know how far: a counter used twice in an epoch, under one key, lays both plaintexts open.
Not to answer is no way out: a device begins the next epoch only when it was acknowledged in the present one, and one
that lost its clock begins none before the next sync. To begin an epoch by a rekey needs a downlink as well. So the
restored server must be able to send, in an epoch that the lost server sent in, with counters that are surely unused.

The rule. The counters of an epoch are of two kinds.
  counted  0 … 0x3FFF: one after the other. Only for a server that knows all that was ever sent in the epoch.
  dated    0x4000 … 0xFFFF: four belong to each half hour of time. Within its half hour, a restored server uses each
           once (the database counts); none before the second half hour after the restore.

Why no number repeats. Let W0 be the first server, W1 one restored from a backup of W0, W2 one restored from a backup of
either, and so on, in whatever order the backups are chosen: each began to run after those before it had stopped for
good. Take a number (device, epoch, counter). A nonce follows from it and the keys of the device's epoch; if the number
does not repeat under one enrolment, no nonce does, whatever rekeys there were.
  1. One server uses it once: the counter is committed, under a row lock, before the frame leaves.
  2. Two servers do not both use it if it is dated. Their half hours differ: the later one starts with the second half
     hour after its restore, and all earlier ones had stopped by then. The clocks of two servers may differ by half an
     hour.
  3. Two servers do not both use it if it is counted. W0 may count in every epoch. A restored Wi counts in no epoch but
     one for which it has proof that the device began it after the restore of Wi (`proves`). No earlier server has sent
     anything in such an epoch: a server sends only in answer to a genuine frame, in that frame's epoch, and they had
     stopped before there was one. A later Wj counts only in epochs that began after its own restore, so in none that Wi
     had a frame of.
  4. A counted one and a dated one are never the same counter.

The proof. A receipt names the counter of the downlink that it answers. A receipt for a dated counter from after the
restore was sealed after the restore; if that was in epoch e, every epoch after e began after the restore. So each
device is sent something that it gives a receipt for, and from the epoch after that receipt's on the server counts
again; but in an epoch in which it used a dated one before the receipt came it goes on with those.

Every device is acknowledged again. A restored server answers four frames of each device every half hour, whatever epoch
it is in, so a device needs no new epoch to be acknowledged. One that hears nothing for three sessions says hello, with
its EUI and epoch in the open, and is found up to `HELLO_EPOCHS_AHEAD` epochs beyond the backup. Of a half hour's four
counters two are for frames that were not heard before: whoever replays old ones can't use up all of them.

The limits. That an earlier server has stopped is the operator's to see to: one that is cut off and runs on breaks all
of this. Dated counters come round after 256 days: rule 2 needs that no device stays in one epoch for so long, and is
answered there by two restored servers, so far apart, without ever having heard the first. A device that the lost server
rekeyed after the backup has keys that nobody knows any more; it can only be enrolled anew.
"""

from sealwire.frame import CTR_MAX

DATED_FIRST = 0x4000  # the counters below are counted
SLOT_S = 1800
PER_SLOT = 4
REPEATED_PER_SLOT = 2  # for frames that were heard before
SLOTS = (CTR_MAX + 1 - DATED_FIRST) // PER_SLOT
SLOTS_OFF = 2  # from a restore to the first slot that is used
# How far ahead of a backup a device is looked for; it goes on by one epoch a day. Each epoch takes one HKDF-Expand, and
# a stranger's hellos are limited to 32 failures an hour for each EUI.
HELLO_EPOCHS_AHEAD = 1024


def take(following: int, now: float, restored_at: float, repeated: bool) -> int | None:
    """A counter that was never used, or None if there is none at this time.

    Args:
        following: one more than the counter that this server used last in the epoch.
        now: Unix seconds.
        restored_at: when the registry was restored, Unix seconds.
        repeated: the frame that is answered was heard before.
    """
    slot = _slot(now)
    if slot < _slot(restored_at) + SLOTS_OFF:
        return None
    lowest = _first_of(slot)
    if following - lowest > SLOTS * PER_SLOT // 2:
        following = lowest  # the counters came round since
    counter = max(following, lowest)
    return counter if counter < lowest + (REPEATED_PER_SLOT if repeated else PER_SLOT) else None


def proves(counter: int, restored_at: float) -> bool:
    """Whether a downlink with this counter can only have been sent after the restore."""
    if counter < DATED_FIRST:
        return False
    since = (counter - _first_of(_slot(restored_at) + SLOTS_OFF)) % (SLOTS * PER_SLOT)
    return since < SLOTS * PER_SLOT // 2  # less than half a round: not one from before


def _slot(unix_s: float) -> int:
    return int(unix_s // SLOT_S)


def _first_of(slot: int) -> int:
    return DATED_FIRST + slot % SLOTS * PER_SLOT
