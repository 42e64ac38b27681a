# The key chain of this device: epochs, counters, and what they promise. No counter is used twice in an epoch, and
# the chain is never lost, whenever the power fails. Seals and opens nothing itself (seal.py), knows no link.
#
# All of it is one A/B record. What may not go back is written and read back before it is used:
#   high      no counter >= high was used in this epoch; after a cold start counters go on from there
#   mark      the first counter that the running session uses: RTC memory that was set aside before it is void
#   next      (downlink) the lowest counter still accepted, written before the caller sees the plaintext
import hashlib
import struct

from micropython import const

from sealband import once, store
from sealband.errors import AlreadyEnrolled, ChainStopped, NotEnrolled, StoreError

# sealwire.keys, of which nothing else is needed while the node runs; a test holds them against it
_EPOCH_PERIOD_S = const(86400)
_COUNTER_STEP = const(256)
_EPOCHS_WITHOUT_CONTACT = const(3)
_FAILED_OPENINGS_MAX = const(16384)
_REKEY_LEN = const(16)
_CTR_MAX = const(65535)  # sealwire.frame

_KEYS = "sealband.keys"  # loaded for a start and a new epoch
_VERSION = const(1)
# version, eui, epoch, CK, high, began, contact, acknowledged, downlink next and failures
_RECORD = ">B8sI32sIIIBII"
_FRESH_LEN = const(49)  # up to and with high: tells a chain that has not sealed anything yet
# there is one; kd, id, did, next, failures of the epoch before
_PREVIOUS = ">B16s13s2sII"
# fingerprint of CK, high, mark, next, downlink failures of this epoch and the one before
_SECTION = ">8sIiIII"
_FAILURES_STEP = const(256)  # so often they are written, lest bad frames wear out the flash


# What is needed to open downlinks of one epoch; of the epoch before, nothing else is kept.
class Downlink:
    def __init__(self, key, iv, did, next_counter=0, failures=0):
        self.key = key
        self.iv = iv
        self.did = did
        self.next = next_counter  # the lowest counter that is not a replay
        self.failures = failures  # openings that failed

    # A key that was tried so often is not believed any more.
    def worn_out(self):
        return self.failures >= _FAILED_OPENINGS_MAX


# A time as the record can hold it; None is no clock.
def _seconds(now_s, otherwise):
    return otherwise if now_s is None else max(0, min(now_s, 0xFFFFFFFF))


class Chain:
    # Use create or load.
    def __init__(self, where, eui):
        self._store = where
        self.eui = eui
        self.epoch = 0
        self.period_s = _EPOCH_PERIOD_S
        self._ck = None
        self._high = 0
        self._began_s = 0  # seconds since 2025
        self._contact = 0  # newest epoch in which the server acknowledged something
        self._acknowledged = False  # it did so in this one
        self._previous = None
        self._next = 0
        self._mark = None
        self._marked = False  # this session has set its mark

    # A new device's chain; root is CK[0]. The same root again before its first use gives the same chain.
    @classmethod
    def create(cls, where, eui, root, now_s):
        chain = cls(where, bytes(eui))
        chain._ck = bytes(root)
        chain._began_s = _seconds(now_s, 0)
        chain._derive()
        record = chain._pack()
        there = where.load(store.CHAIN)
        if there is not None:
            if there[:_FRESH_LEN] != record[:_FRESH_LEN]:
                raise AlreadyEnrolled("a chain exists")
            return cls.load(where)
        # both halves at once, so that from here on a missing half means that a write was torn
        where.save(store.CHAIN, record, scrub=True)
        return chain

    # The chain of this device after any reset; NotEnrolled if there is none.
    @classmethod
    def load(cls, where):
        whole = where.whole(store.CHAIN)
        data = where.load(store.CHAIN)
        if data is None or data[0] != _VERSION:
            raise NotEnrolled("no chain")
        chain = cls(where, data[1:9])
        chain._unpack(data)
        section = where.rtc_take("chain")
        if not whole:
            # The half that is gone may have been the newer one: step over all that it can have allowed.
            chain._next = min(chain._high + _COUNTER_STEP, _CTR_MAX + 1)
            chain._commit(True, _high=chain._next)
        elif section:
            chain._resume(section)
        return chain

    # --- uplink

    # (ku, kd, iu, id, did) of this epoch; ask after take_counter, which may begin a new one.
    def keys(self):
        return self._keys

    # A counter that was never used in this epoch and never will be again.
    def take_counter(self):
        if self._ck is None:
            raise NotEnrolled("erased")
        if self._next > _CTR_MAX:
            self._go_on_alone(None)
        if self._next >= self._high:
            self._commit(_high=min(self._next + _COUNTER_STEP, _CTR_MAX + 1))
        if not self._marked:
            mark = (self.epoch & 0x7FFF) << 16 | self._next
            self._store.save_number(store.MARK, mark)
            self._mark = mark
            self._marked = True
        counter = self._next
        self._next += 1
        return counter

    # Whether this counter was used by the running session (after deep sleep: since one of its wakes began).
    def is_new(self, epoch, counter):
        return self._mark is not None and ((epoch & 0x7FFF) << 16 | counter) >= self._mark

    # Before deep sleep: sets the counters aside in RTC memory. The caller flushes it.
    def suspend(self):
        mark = -1 if self._mark is None else self._mark
        failures = self._previous.failures if self._previous else 0
        self._store.rtc_put(
            "chain",
            struct.pack(_SECTION, self._fingerprint(), self._high, mark, self._next, self._downlink.failures, failures),
        )
        self._marked = False  # should the sleep not come about, the next counter voids what was set aside

    # --- epochs

    # The server acknowledged a frame of this epoch (of another: nothing follows). now_s is the time it told.
    def acknowledged(self, now_s, epoch):
        if epoch != self.epoch:
            return
        began_s = min(self._began_s, _seconds(now_s, self._began_s))
        if not self._acknowledged or began_s != self._began_s:
            self._commit(_acknowledged=True, _contact=epoch, _began_s=began_s)

    # Begin the next epoch if it is due and the server is known to follow; True if it did. now_s None: no clock.
    def advance(self, now_s):
        if self._acknowledged and now_s is not None and now_s - self._began_s >= self.period_s:
            self._begin(once(_KEYS).ratchet(self._ck), now_s)
            return True
        if self._downlink.worn_out() and self.epoch < self._contact + _EPOCHS_WITHOUT_CONTACT:
            # this epoch's acknowledgements can't be believed any more, so contact can't come about in it
            self._go_on_alone(now_s)
            return True
        return False

    # Begin the next epoch with the server's 16 random bytes. The command must have come in this epoch (`epoch` as
    # open_downlink gave it): of another key the server would make another chain. False if it did not.
    def rekey(self, r, now_s, epoch):
        if epoch != self.epoch or len(r) != _REKEY_LEN:
            return False
        self._begin(once(_KEYS).rekey(self._ck, r), now_s, epoch)
        return True

    # Retire: nothing of the chain stays.
    def erase(self):
        self._store.erase(store.CHAIN)
        self._ck = None
        self._keys = None

    def _go_on_alone(self, now_s):
        if self.epoch >= self._contact + _EPOCHS_WITHOUT_CONTACT:
            raise ChainStopped("no contact since epoch %d" % self._contact)
        self._begin(once(_KEYS).ratchet(self._ck), now_s)

    def _begin(self, ck, now_s, contact=None):
        self._commit(
            True,
            epoch=self.epoch + 1,
            _ck=ck,
            _high=0,
            _began_s=_seconds(now_s, self._began_s),
            _contact=self._contact if contact is None else contact,
            _acknowledged=False,
            _previous=self._downlink,
            _downlink=Downlink(None, None, None),
        )
        self._derive()
        self._next = 0
        self._marked = False

    # --- downlink

    # [(epoch, Downlink)] that a frame may belong to.
    def downlinks(self):
        present = (self.epoch, self._downlink)
        return [present, (self.epoch - 1, self._previous)] if self._previous else [present]

    # This counter was authentic; it is written down before anyone acts on it.
    def downlink_accepted(self, downlink, counter):
        before = downlink.next
        downlink.next = counter + 1
        try:
            self._commit()
        except StoreError:
            downlink.next = before
            raise

    # A frame that claimed to be of this epoch was not.
    def downlink_failed(self, downlink):
        downlink.failures += 1
        if downlink.failures % _FAILURES_STEP == 0:
            try:
                self._commit()
            except StoreError:
                self._store.faults += 1  # counted in RAM all the same

    # --- the record

    def _derive(self):
        self._keys = once(_KEYS).epoch_keys(self._ck, self.eui)
        _, kd, _, iv, did = self._keys
        self._downlink = Downlink(kd, iv, did)

    def _pack(self):
        record = struct.pack(
            _RECORD,
            _VERSION,
            self.eui,
            self.epoch,
            self._ck,
            self._high,
            self._began_s,
            self._contact,
            self._acknowledged,
            self._downlink.next,
            self._downlink.failures,
        )
        if self._previous is None:
            return record + struct.pack(_PREVIOUS, 0, b"", b"", b"", 0, 0)
        old = self._previous
        return record + struct.pack(_PREVIOUS, 1, old.key, old.iv, old.did, old.next, old.failures)

    def _unpack(self, data):
        size = struct.calcsize(_RECORD)
        (
            _,
            self.eui,
            self.epoch,
            self._ck,
            self._high,
            self._began_s,
            self._contact,
            acknowledged,
            next_counter,
            failures,
        ) = struct.unpack(_RECORD, data[:size])
        self._acknowledged = bool(acknowledged)
        self._derive()
        self._downlink.next = next_counter
        self._downlink.failures = failures
        there, key, iv, did, next_counter, failures = struct.unpack(_PREVIOUS, data[size:])
        if there:
            self._previous = Downlink(key, iv, did, next_counter, failures)
        self._next = self._high

    # Go on from RTC memory, if it is that of the last session that used a counter.
    def _resume(self, section):
        if len(section) != struct.calcsize(_SECTION):  # another version of this code slept
            return
        fingerprint, high, mark, next_counter, failures, old_failures = struct.unpack(_SECTION, section)
        if (fingerprint, high) != (self._fingerprint(), self._high):
            return
        if mark != self._store.load_number(store.MARK):  # also when it is gone
            return
        if not mark & 0xFFFF <= next_counter <= high:
            return
        self._next = next_counter
        self._mark = mark
        self._downlink.failures = max(failures, self._downlink.failures)
        if self._previous:
            self._previous.failures = max(old_failures, self._previous.failures)

    # Tells this chain and epoch from every other.
    def _fingerprint(self):
        return hashlib.sha256(self._ck).digest()[:8]

    # Change fields and write the record; what is in RAM never runs ahead of what is in flash.
    def _commit(self, scrub=False, **changes):
        if self._ck is None:
            raise NotEnrolled("erased")
        before = {}
        for name in changes:
            before[name] = getattr(self, name)
            setattr(self, name, changes[name])
        try:
            self._store.save(store.CHAIN, self._pack(), scrub)
        except StoreError:
            for name in before:
                setattr(self, name, before[name])
            raise
