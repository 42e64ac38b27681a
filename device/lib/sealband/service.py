# How a closed board is opened for one start (sealwire/service.py), and what closes it: the station's last questions.
# Loaded in a start of its own, which has the whole heap, or by enrol.console. Nothing of a token is kept but why it was
# refused.
import os
import sys
import time

from micropython import const

import sealboot
from sealband import store
from sealband.errors import StoreError
from sealwire import service as wire

_COUNT_MAX = const(9999)
_POLL_MS = const(50)


# --- at the station


# A first frame, which shows that this board and the registry have the same keys: a status, its counter of the chain.
def first_frame(where):
    from sealband import seal
    from sealband.chain import Chain
    from sealband.crypto import cbor
    from sealwire import messages

    now_s = where.load_number(store.CLOCK) or 0
    chain = Chain.load(where)
    items = (messages.STATUS, now_s, {messages.STATUS_RELEASE: sealboot.sequence, messages.STATUS_UPTIME_S: 0})
    return seal.seal(chain, b"".join([cbor.encode(item) for item in items]))[1]


# Keep the key whose tokens unlock this board, and close it from the next reset on; b"": nothing unlocks it. A
# developer's board keeps the key and its REPL. Asked again, it answers the same.
def close(where, key):
    from sealband.crypto import p256
    from sealband.enrol import BAD_VALUE, NOT_ENROLLED, OTHER_KEY, EnrolError

    if where.load(store.CHAIN) is None:
        raise EnrolError(NOT_ENROLLED, "only an enrolled board is closed")
    if key:
        try:
            p256.point(key)
        except (p256.P256Error, ValueError):
            raise EnrolError(BAD_VALUE, "no public key")
    held = where.load(store.SERVICE)
    if held is None:
        where.save(store.SERVICE, key)
    elif held != key:
        raise EnrolError(OTHER_KEY, "there is another service key")
    if sealboot.index <= 1:
        where.save_number(store.CLOSED, 1)


# --- a start of its own


# Ask for a token. True: the REPL may open; else the board is to restart to its work.
def run(where, random=os.urandom, lines=None):
    import board

    key = where.load(store.SERVICE)
    if not key:
        _say(wire.NO_KEY, "no key unlocks this board")
        return False
    eui = where.load(store.CHAIN)[1:9]
    nonce = random(wire.NONCE_LEN)
    from sealband.crypto import cbor

    row = [wire.CHALLENGE_LABEL, eui, nonce, board.MODEL, sealboot.sequence]
    print(wire.CHALLENGE + cbor.encode(row).hex())
    line = token_line(lines or _lines())
    if line is None:
        _say(wire.TIME_OUT, "no token within %d s" % wire.HOLD_S)
        return False
    code = check(line, key, eui, nonce, where.load_number(store.CLOCK) or 0)
    if code:
        _count(where, code)
        _say(wire.CODES[code], "the token does not unlock this board")
        return False
    print(wire.UNLOCKED)
    return True


def _say(code, text):
    print(wire.REFUSED + code, text)


# The first line that is a token, or None when time is up. Others are noise, or the host asking once more.
def token_line(lines):
    for line in lines:
        if line.startswith(wire.TOKEN.encode()):
            return line
    return None


# Lines as they come from the serial port, without their ends, until time is up; each cut off one byte past what a
# token's may have.
def _lines():
    import select

    port = select.poll()
    port.register(sys.stdin, select.POLLIN)
    begun = time.ticks_ms()
    line = bytearray()
    while time.ticks_diff(time.ticks_ms(), begun) < wire.HOLD_S * 1000:
        byte = sys.stdin.buffer.read(1) if port.poll(_POLL_MS) else b""
        if byte in (b"\r", b"\n"):
            if line:
                yield bytes(line)
            line = bytearray()
        elif len(line) < wire.LINE_MAX:
            line.extend(byte)


# Why this line unlocks nothing; 0: it does. What it is comes first, who signed it before what it says: a refusal for
# another reason than MALFORMED and SIGNATURE is of a token that the service key did make. now_s: surely past.
def check(line, key, eui, nonce, now_s):
    from sealband.crypto import cbor, cose
    from sealwire.enrolment import COSE_PROTECTED_ES256

    if len(line) >= wire.LINE_MAX:
        return wire.MALFORMED
    try:
        message = cose.parse1(bytes.fromhex(line[len(wire.TOKEN) :].decode()))
        row = cbor.decode(message.payload)
    except (cose.CoseError, cbor.CborError, ValueError, TypeError):
        return wire.MALFORMED
    if message.protected != COSE_PROTECTED_ES256 or message.kid is not None or not _well_formed(row):
        return wire.MALFORMED
    if not message.verify(key):
        return wire.SIGNATURE
    if row[1] != eui:
        return wire.DEVICE
    if row[2] != nonce:
        return wire.NONCE
    return wire.EXPIRED if now_s > row[3] else 0


def _well_formed(row):
    if type(row) is not list or len(row) != 5 or row[0] != wire.TOKEN_LABEL:
        return False
    _, eui, nonce, not_after, operator = row
    if (type(eui), type(nonce), type(not_after), type(operator)) != (bytes, bytes, int, str):
        return False
    return (
        (len(eui), len(nonce)) == (wire.EUI_LEN, wire.NONCE_LEN)
        and 0 <= not_after <= 0xFFFFFFFF
        and len(operator.encode()) <= wire.OPERATOR_MAX
    )


# --- what is told of refusals


# One number in flash, written once a refusal: the node tells it when it may.
def _count(where, code):
    pending = where.load_number(store.TAMPER) or 0
    try:
        where.save_number(store.TAMPER, code + 256 * min((pending >> 8) + 1, _COUNT_MAX))
    except StoreError:
        pass  # this one is not told
