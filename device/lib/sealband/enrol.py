# The device's half of enrolment: makes the key pair, derives the root key, signs the record. The station calls it
# through the serial REPL (`console`); what it checks, keeps and sends on is in provisioning/station.
#
# Identity, one A/B record: version (1), private key (32 or none), signed record. In this order, each on flash and read
# back before the next:
#   1. identity with the private key     from here on the same ticket always gives this record, another ticket nothing
#   2. the chain, made of the root key   again from 1 if the power failed between
#   3. the claim secret                  of the root key too
#   4. identity without the private key  the root key can be derived from it, also when the chain has moved on
#   5. the record is handed out
import hashlib
import os

from micropython import const

import sealboot
from sealband import keys, store
from sealband.chain import Chain
from sealband.crypto import cbor, cose, p256
from sealband.errors import AlreadyEnrolled, NotEnrolled, StoreError
from sealwire import enrolment as wire

BAD_TICKET = "bad_ticket"  # its number or key is malformed
OTHER_TICKET = "other_ticket"  # this board was enrolled with another one
RANDOM = "random"  # the random number generator failed its test
DAMAGED = "damaged"  # there is a chain or an identity, but not the other: not to be enrolled anew
FLASH = "flash"  # flash did not keep what it was told
BOARD = "board"  # what the board says of itself cannot be put into a record
NOT_ENROLLED = "not_enrolled"  # that can be asked of an enrolled board only
BAD_VALUE = "bad_value"  # what came with the question is malformed
OTHER_KEY = "other_key"  # it belongs to another key than this board's

_VERSION = const(1)
_SAMPLE_LEN = const(1024)
# NIST SP 800-90B section 4.4, for bytes, false alarms below 2^-20: equal bytes in a row, times that one byte comes
# back within a window of 512, and how far the count of ones among 8192 bits may lie from the middle
_REPEATS_MAX = const(5)
_WINDOW_LEN = const(512)
_WINDOW_MAX = const(17)
_ONES_OFF_MAX = const(300)


class EnrolError(Exception):
    # This board is not enrolled now; `code` says why, and nothing secret.
    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


# The signed record for this ticket; the same bytes whenever it is asked again, whatever happened in between.
# where, eui, model and random are the board's own unless a test gives others.
def run(ticket_id, ticket_pub, station_nonce, now_s, where=None, eui=None, model=None, random=os.urandom):
    where = where or store.open_board()
    held = _load(where)
    if held is None:
        if where.load(store.CHAIN) is not None:
            raise EnrolError(DAMAGED, "there is a chain without an identity")
        held = _make(ticket_id, ticket_pub, station_nonce, eui or _eui(), model or _model(), random)
        where.save(store.IDENTITY, _pack(*held))
    record = held[1]
    row = _payload(record)
    if row[1] != ticket_id or row[4] != ticket_pub:
        raise EnrolError(OTHER_TICKET, "this board was enrolled with ticket %s" % row[1].hex())
    settle(where, now_s)
    if where.load(store.CHAIN) is None:
        raise EnrolError(DAMAGED, "there is an identity without a chain")
    return record


# Finish what the power interrupted; True if there was something. At each start, since from the private key and the
# ticket's public key whoever holds the board could derive all past keys.
def settle(where, now_s=None):
    held = _load(where)
    if held is None or not held[0]:
        return False
    private, record = held
    row = _payload(record)
    if where.load(store.CHAIN) is None or where.load(store.CLAIM) is None:
        root = _root(private, row)
        if where.load(store.CHAIN) is None:
            Chain.create(where, row[2], root, now_s)
        where.save(store.CLAIM, keys.claim(root))
    where.save(store.IDENTITY, _pack(b"", record), scrub=True)
    return True


# What the station asks first: who this board is and how far it got.
def status(where=None, eui=None, model=None):
    where = where or store.open_board()
    held = _load(where)
    return {
        "eui": eui or _eui(),
        "model": model or _model(),
        "ticket": _payload(held[1])[1] if held else None,
        "chain": where.load(store.CHAIN) is not None,
    }


# What the label shows; whoever has it may claim this device.
def claim_secret(where):
    secret = where.load(store.CLAIM)
    if secret is None:
        raise EnrolError(NOT_ENROLLED, "there is no claim secret")
    return secret


# One line on the serial port: "sealband/1 ok <hex>", or "sealband/1 refused <code> <text>".
def console(verb, *arguments):
    try:
        answer = _answer(verb, arguments)
    except EnrolError as error:
        print("sealband/1 refused", error.code, error)
    except StoreError as error:
        print("sealband/1 refused", FLASH, error)
    except AlreadyEnrolled as error:
        print("sealband/1 refused", DAMAGED, error)
    except NotEnrolled as error:
        print("sealband/1 refused", NOT_ENROLLED, error)
    else:
        print("sealband/1 ok", answer.hex())


def _answer(verb, arguments):
    if verb == "status":
        return cbor.encode(status())
    if verb == "enrol":
        ticket_id, ticket_pub, station_nonce, now_s = arguments
        return run(bytes.fromhex(ticket_id), bytes.fromhex(ticket_pub), bytes.fromhex(station_nonce), now_s)
    where = store.open_board()
    if verb == "claim":
        return claim_secret(where)
    if verb == "csr":
        from sealband import certificate

        return certificate.request(where)
    if verb == "certificate":
        from sealband import certificate

        return certificate.keep(where, from_hex(arguments[0]))
    if verb == "seal":
        from sealband import service

        return service.first_frame(where)
    if verb == "service":
        from sealband import service

        service.close(where, from_hex(arguments[0]))
        return b"\x00"
    raise EnrolError(BOARD, "no verb %s" % verb)


def from_hex(text):
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise EnrolError(BAD_VALUE, "not hex")


# --- the identity


def _pack(private, record):
    return bytes((_VERSION, len(private))) + private + record


# (private key or b"", record), or None
def _load(where):
    data = where.load(store.IDENTITY)
    if data is None:
        return None
    if data[0] != _VERSION:
        raise EnrolError(DAMAGED, "identity of version %d" % data[0])
    end = 2 + data[1]
    return data[2:end], data[end:]


# The ten fields of a record of our own.
def _payload(record):
    return cbor.decode(cbor.decode(record).value[2])


def _root(private, row):
    return keys.root_key(p256.ecdh(private, row[4]), keys.transcript(*row[1:7]))


# A new key pair and the record signed with it: (private key, record). Writes nothing.
def _make(ticket_id, ticket_pub, station_nonce, eui, model, random):
    for value, length in (
        (ticket_id, wire.TICKET_ID_LEN),
        (ticket_pub, wire.PUBLIC_KEY_LEN),
        (station_nonce, wire.NONCE_LEN),
    ):
        if len(value) != length:
            raise EnrolError(BAD_TICKET, "%d bytes where %d belong" % (len(value), length))
    if not 0 < len(model.encode()) <= wire.MODEL_MAX:
        raise EnrolError(BOARD, "the model's name is not 1 to %d bytes long" % wire.MODEL_MAX)
    private, public, device_nonce = draw(random, eui, station_nonce)
    row = [wire.RECORD_LABEL, ticket_id, eui, public, ticket_pub, station_nonce, device_nonce]
    try:
        root = _root(private, row)
    except p256.P256Error:
        raise EnrolError(BAD_TICKET, "the ticket's key is not on the curve")
    row += [keys.confirm(root, keys.transcript(*row[1:7])), model, sealboot.sequence]
    return private, cose.sign1(private, cbor.encode(row))


# A new key pair and a nonce, of a generator that was tested: (private, public, nonce).
def draw(random, eui, station_nonce):
    radio = _radio_on()
    try:
        check_random(random)
        private, public = _key_pair(random, eui, station_nonce)
        return private, public, random(wire.NONCE_LEN)
    finally:
        if radio:
            radio.active(False)


def _key_pair(random, eui, station_nonce):
    while True:
        # hashed, so that a generator with less entropy a byte than it seems still gives a whole key
        private = hashlib.sha256(b"sealband/1 key" + eui + station_nonce + random(64)).digest()
        try:
            return private, p256.public_key(private)
        except p256.P256Error:
            pass  # zero or above the order: once in 2^32


# --- randomness


# The ESP32's generator is a true one only while a radio is on (PLATFORM); the interface to switch off again, or None.
def _radio_on():
    try:
        from network import STA_IF, WLAN
    except ImportError:
        return None  # a port whose os.urandom does not depend on it
    radio = WLAN(STA_IF)
    if radio.active():
        return None
    radio.active(True)
    if not radio.active():
        raise EnrolError(RANDOM, "the radio that feeds the generator does not start")
    return radio


# Refuse a generator that is stuck, biased or repeats itself; what passes may still be bad, what fails certainly is.
def check_random(random=os.urandom):
    data = random(_SAMPLE_LEN)
    if len(data) != _SAMPLE_LEN or data == random(_SAMPLE_LEN):
        raise EnrolError(RANDOM, "the generator repeats itself")
    row = 1
    for i in range(1, _SAMPLE_LEN):
        row = row + 1 if data[i] == data[i - 1] else 1
        if row > _REPEATS_MAX:
            raise EnrolError(RANDOM, "the generator is stuck")
    for start in range(0, _SAMPLE_LEN, _WINDOW_LEN):
        window = data[start : start + _WINDOW_LEN]
        if max(window.count(bytes((b,))) for b in range(256)) > _WINDOW_MAX:
            raise EnrolError(RANDOM, "the generator prefers a value")
    ones = 0
    for b in data:
        while b:
            b &= b - 1
            ones += 1
    if abs(ones - 4 * _SAMPLE_LEN) > _ONES_OFF_MAX:
        raise EnrolError(RANDOM, "the generator prefers a bit")


# --- the board


def _eui():
    import machine

    mac = machine.unique_id()
    if len(mac) != 6:
        raise EnrolError(BOARD, "the chip's number is not a MAC")
    return wire.eui_from_mac(mac)


def _model():
    import board

    return board.MODEL
