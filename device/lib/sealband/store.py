# What outlives a reset: A/B records and numbers in NVS, sections of RTC memory, files that are replaced whole.
# Knows nothing of what they mean. A record has two halves, <name>a and <name>b; a write goes to the older half, so
# power loss, which costs only the pair being written, leaves the newer one.
#
#   half   sequence (4) flags (1) data (n) checksum (8) = SHA-256(label, name, all before)[:8]
#   RTC    version (1), then section id (1) length (2) data (n) ..., checksum (8)
import hashlib
import os
import struct

from micropython import const

from sealband.errors import StoreError

# Names in NVS, at most 13 characters. Numbers are never reused: a retired name keeps its line.
CHAIN = "chain"  #        1  record  chain.py: keys, epoch, high-water marks
MARK = "mark"  #          2  number  chain.py: the first counter of the running session
IDENTITY = "identity"  #  3  record  enrol.py: private key and signed record
CONFIG = "config"  #      4  record  config.py: settings from the server
CLOCK = "clock"  #        5  number  clock.py: a time that is surely past
OUTBOX = "outbox"  #      6  record  outbox.py: drops since enrolment
AIRTIME = "airtime"  #    7  record  links/airtime.py: what the sub-bands have spent
TLS = "tls"  #            8  record  certificate.py: private key and certificate
CLAIM = "claim"  #        9  record  enrol.py: the secret on the label
SERVICE = "service"  #   10  record  service.py: whose tokens unlock this board
CLOSED = "closed"  #     11  number  service.py: boot.py opens no REPL
UNLOCK = "unlock"  #     12  number  start.py: the next start asks for a token
TAMPER = "tamper"  #     13  number  service.py: refusals not told: 256 times how many, plus the last one's code
TOLD = "told"  #         14  number  service.py: when they were told last
RETIRE = "retire"  #     15  record  retire.py: how far the end of this identity is
COURIER = "courier"  #   16  number  links/ble.py: wrong proofs of the label's secret in a row
PIN = "pin"  #           17  number  links/modemstart.py: 4 times a digest of the SIM's PIN, plus tries without success
CONSENT = "consent"  #    18  record  consent.py: what may be sampled
REKEYED = "rekeyed"  #    19  number  orders.py: a digest of the last rekey that was carried out
CELL = "cell"  #          20  number  cell.py: whether it was told that the cell is low, and whether it was empty

# Sections of RTC memory; numbers are never reused.
SECTIONS = {"chain": 1, "air": 2, "node": 3, "lora": 4}

NAMESPACE = "sealband"
RTC_LEN = const(2048)
DATA_MAX = const(1024)
TEMPORARY = ".new"  # what write_file leaves behind when it is cut; whoever lists a folder removes it

_SCRUB = const(1)  # nothing of the version before may stay readable
_HEAD_LEN = const(5)
_CHECK_LEN = const(8)
_RTC_VERSION = const(1)


# The first bytes of SHA-256; the name keeps a half from being taken for another record's.
def _check(name, body):
    digest = hashlib.sha256(b"sealband/store " + name.encode() + b"\x00")
    digest.update(body)
    return digest.digest()[:_CHECK_LEN]


# The board's own store.
def open_board():
    import esp32
    import machine

    return Store(esp32.NVS(NAMESPACE), machine.RTC())


# Replace a file whole: after a power cut there is the old one or the new one (littlefs renames atomically).
def write_file(path, data):
    temporary = path + TEMPORARY
    with open(temporary, "wb") as file:
        file.write(data)
    os.rename(temporary, path)


# Remove a file that need not be there. One that flash refuses to remove stays: whoever minds asks os.remove.
def discard(path):
    try:
        os.remove(path)
    except OSError:
        pass


class Store:
    # rtc is a machine.RTC or None; from_deep_sleep is asked of machine when it is not given
    def __init__(self, nvs, rtc=None, from_deep_sleep=None):
        self._nvs = nvs
        self._rtc = rtc
        self._buffer = bytearray(_HEAD_LEN + DATA_MAX + _CHECK_LEN)
        self._taken = {}
        self._put = {}
        self.faults = 0  # writes that flash refused without a caller who could be told
        if rtc is not None:
            self._read_rtc(from_deep_sleep)

    write_file = staticmethod(write_file)

    # --- records

    # The newest version of a record that can be read, or None. Ends a scrub that power loss cut short.
    def load(self, name):
        newest, other = self._halves(name)
        if newest[2] & _SCRUB and other[0] and other[3] != newest[3]:
            self._overwrite(name, other[1], newest[0] + 1, newest[3])
        return newest[3]

    # Whether both halves can be read. If not, a write was torn, or flash lost a half, perhaps the newer.
    def whole(self, name):
        return self._halves(name)[1][0] > 0

    # Write a new version and read it back. With scrub, both halves: nothing of the version before stays readable.
    def save(self, name, data, scrub=False):
        if len(data) > DATA_MAX:
            raise StoreError("%s: %d bytes are too long" % (name, len(data)))
        newest, other = self._halves(name)
        sequence = newest[0] + 1
        self._write_half(name, other[1], sequence, _SCRUB if scrub else 0, data)
        if scrub:
            self._overwrite(name, newest[1], sequence + 1, data)

    # Remove both halves, the older first: alone it would bring back a state that is past.
    def erase(self, name):
        newest, other = self._halves(name)
        self._remove(name + other[1])
        self._remove(name + newest[1])

    # (newer, older), each (sequence, suffix, flags, data); sequence 0 and data None for what cannot be read
    def _halves(self, name):
        a = self._read_half(name, "a")
        b = self._read_half(name, "b")
        return (a, b) if a[0] >= b[0] else (b, a)

    def _read_half(self, name, suffix):
        try:
            length = self._nvs.get_blob(name + suffix, self._buffer)
        except OSError:
            return 0, suffix, 0, None
        if length >= _HEAD_LEN + _CHECK_LEN:
            body = memoryview(self._buffer)[: length - _CHECK_LEN]
            if _check(name, body) == self._buffer[length - _CHECK_LEN : length]:
                sequence, flags = struct.unpack(">IB", body)
                return sequence, suffix, flags, bytes(body[_HEAD_LEN:])
        return 0, suffix, 0, None

    def _write_half(self, name, suffix, sequence, flags, data):
        body = struct.pack(">IB", sequence, flags) + data
        try:
            self._nvs.set_blob(name + suffix, body + _check(name, body))
            self._nvs.commit()
        except OSError as error:
            raise StoreError("%s: %s" % (name, error))
        if self._read_half(name, suffix) != (sequence, suffix, flags, data):
            raise StoreError("%s: reads back differently" % name)

    # The second write of a scrub. The record is safe by now, so a fault is no error; load tries again.
    def _overwrite(self, name, suffix, sequence, data):
        try:
            self._write_half(name, suffix, sequence, _SCRUB, data)
        except StoreError:
            self.faults += 1

    def _remove(self, key):
        try:
            self._nvs.erase_key(key)
            self._nvs.commit()
        except OSError:
            pass  # it was not there, or it still is
        try:
            self._nvs.get_blob(key, self._buffer)
        except OSError:
            return
        raise StoreError("%s: not erased" % key)

    # --- numbers: one pair, old, new or gone after a power cut

    def load_number(self, name):
        try:
            return self._nvs.get_i32(name)
        except OSError:
            return None

    def save_number(self, name, value):
        try:
            self._nvs.set_i32(name, value)
            self._nvs.commit()
        except OSError as error:
            raise StoreError("%s: %s" % (name, error))
        if self.load_number(name) != value:
            raise StoreError("%s: reads back differently" % name)

    # --- RTC memory: kept in deep sleep only

    # The bytes that a section had before deep sleep, once; None after any other reset.
    def rtc_take(self, section):
        return self._taken.pop(section, None)

    # Whether a section was kept over deep sleep and not taken yet.
    def rtc_has(self, section):
        return section in self._taken

    # Set a section for the next rtc_flush.
    def rtc_put(self, section, data):
        old = self._put.get(section)
        self._put[section] = bytes(data)
        if 1 + sum(3 + len(d) for d in self._put.values()) + _CHECK_LEN > RTC_LEN:
            if old is None:
                del self._put[section]
            else:
                self._put[section] = old
            raise StoreError("rtc %s: %d bytes are too long" % (section, len(data)))

    # Write all sections, as the last thing before deep sleep.
    def rtc_flush(self):
        if self._rtc is None:
            return
        body = bytes((_RTC_VERSION,))
        for section, data in self._put.items():
            body += struct.pack(">BH", SECTIONS[section], len(data)) + data
        self._rtc.memory(body + _check("rtc", body))
        self._put = {}

    def _read_rtc(self, from_deep_sleep):
        raw = self._rtc.memory()
        if not raw:
            return
        # Made void before it is used: a watchdog reset from here on must never find counters that are used by then.
        self._rtc.memory(b"")
        if from_deep_sleep is None:
            import machine

            from_deep_sleep = machine.reset_cause() == machine.DEEPSLEEP_RESET
        body = raw[:-_CHECK_LEN]
        if not from_deep_sleep or self._rtc.memory() or _check("rtc", body) != raw[-_CHECK_LEN:]:
            return
        if body[0] != _RTC_VERSION:
            return
        at = 1
        while at < len(body):
            number, length = struct.unpack(">BH", body[at : at + 3])
            for section in SECTIONS:
                if SECTIONS[section] == number:
                    self._taken[section] = body[at + 3 : at + 3 + length]
            at += 3 + length
