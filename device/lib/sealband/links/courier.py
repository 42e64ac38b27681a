# The device's half of a courier's visit (sealwire/ble.py): values that were written in, values to notify out. Pure but
# for what a request asks of the node; speaks to no radio. Loaded for a visit and dropped after it.
#
# The secret is ten random bytes, so what can be heard of a visit helps nobody to guess it. A guess is paid before it
# is judged: `attempt` has written it down when it returns. Whatever is not as it should be ends the visit: there is no
# second try in a connection.
import struct

from sealband import commands, once, seal
from sealband.crypto import ccm
from sealband.errors import SealError, StoreError
from sealwire import ble as wire
from sealwire.frame import CTR_MAX, nonce

_KEY = ">BIH"


class VisitError(Exception):
    # The courier is to be disconnected; nobody is told why.
    pass


class Guess(VisitError):
    # And it counts as one who does not hold the secret.
    pass


# The name to go by until the next one: only who holds the secret can tell that two of them are of one device.
def pseudonym(claim, random):
    r = random(wire.NAME_RANDOM_LEN)
    hkdf = once("sealband.crypto.hkdf")
    key = hkdf.expand(hkdf.extract(wire.BASE_LABEL, claim), wire.NAME_LABEL, 32)
    return r + hkdf.hmac_sha256(key, r)[: wire.NAME_LEN - wire.NAME_RANDOM_LEN]


# A message as values of at most so many bytes.
def fragments(message, value_max):
    index = 0
    while True:
        part = message[: value_max - 1]
        message = message[value_max - 1 :]
        yield bytes((index if message else index | wire.LAST,)) + part
        if not message:
            return
        index += 1


class Visit:
    # serve(request) -> reply; attempt(): somebody is about to prove that he holds the secret, VisitError: not now
    def __init__(self, claim, eui, random, serve, attempt):
        self._claim = claim
        self._eui = eui
        self._random = random
        self._serve = serve
        self._attempt = attempt
        self._part = b""
        self._index = 0
        self._nonces = None
        self._keys = None
        self._count = 0
        self.open = False  # the courier has proved it

    # One value that the courier wrote: the message to answer with, None while there is none.
    def take(self, value):
        if not value or value[0] & 0x7F != self._index or len(self._part) + len(value) > wire.MESSAGE_MAX + 1:
            raise VisitError
        self._part += value[1:]
        self._index += 1
        if not value[0] & wire.LAST:
            return None
        message = self._part
        self._part = b""
        self._index = 0
        return self._request(message) if self.open else self._begin(message)

    # the courier's nonce, then its proof
    def _begin(self, message):
        if self._nonces is None:
            if len(message) != 1 + wire.NONCE_LEN or message[0] != wire.VERSION:
                raise VisitError
            self._nonces = message[1:] + self._random(wire.NONCE_LEN)
            return message[:1] + self._nonces[wire.NONCE_LEN :]
        self._attempt()
        hkdf = once("sealband.crypto.hkdf")
        block = hkdf.extract(self._nonces, hkdf.extract(wire.BASE_LABEL, self._claim))
        self._keys = wire.split(hkdf.expand(block, wire.KEYS_LABEL + self._eui, wire.KEYS_LEN))
        block = self._keys[4]
        due = hkdf.hmac_sha256(block, b"courier")[: wire.PROOF_LEN]
        # as numbers, so that the time does not tell how many bytes were right
        if len(message) != wire.PROOF_LEN or int.from_bytes(message, "big") ^ int.from_bytes(due, "big"):
            raise Guess
        self.open = True
        return hkdf.hmac_sha256(block, b"device")[: wire.PROOF_LEN]

    def _request(self, message):
        kc, kd, ic, iv, _ = self._keys
        count = self._count
        if count > CTR_MAX:
            raise VisitError
        self._count += 1
        try:
            message = ccm.decrypt(kc, nonce(ic, count), message, b"", wire.TAG_LEN)
        except ccm.AuthError:
            raise VisitError
        return ccm.encrypt(kd, nonce(iv, count), self._serve(message), b"", wire.TAG_LEN)


# What a courier may ask of a node. It learns nothing that it could not hear on the air or read on the label, but the
# status; and nothing that it says lets a frame leave the outbox.
def serve(node, request):
    kind = request[:1]
    request = request[1:]
    if kind == b"\x01" and not request:
        return kind + node.status(wire.STATUS_MAX)
    if kind == b"\x02" and len(request) == 2:
        left = int.from_bytes(request, "big")
        for key in node.outbox.keys():
            left -= 1
            if left < 0:
                kind += struct.pack(_KEY, *key)
                if left == -wire.LIST_MAX:
                    break
        return kind
    if kind == b"\x03" and len(request) == wire.KEY_LEN:
        return kind + (node.outbox.read(struct.unpack(_KEY, request)) or b"")
    if kind == b"\x04":
        return kind + bytes((_deliver(node, request),))
    raise VisitError


# A downlink that the courier brought; 0: opened, 1: refused. It may be days old, and the courier says when it comes.
def _deliver(node, data):
    try:
        epoch, ctr, plaintext = seal.open_downlink(node.chain, data)
    except SealError as error:
        if error.reason == seal.BAD_TAG:
            node.refuse()
            # else a label that was read would wear out the downlink's key within minutes
            raise Guess
        return 1
    except StoreError:
        raise VisitError
    try:
        commands.act(node, epoch, ctr, plaintext, True)
    except Exception as error:
        node.fault(error)
    return 0
