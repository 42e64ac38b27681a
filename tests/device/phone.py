# A courier's half of a visit for tests on MicroPython, from sealwire/README.md with the device's own primitives; the
# host's code is tested elsewhere. Whatever it says can be bent on the way.
import os

from sealband.crypto import ccm, hkdf
from sealband.links import courier
from sealwire import ble
from sealwire.frame import nonce

CLAIM = bytes(range(10, 20))


class Phone:
    def __init__(self, visit, eui, claim=CLAIM, value_max=ble.VALUE_MAX):
        self.visit = visit
        self.eui = eui
        self.claim = claim
        self.value_max = value_max
        self.nonce = os.urandom(16)
        self.count = 0
        self.keys = None
        self.said = []  # every message, for replays

    # one message through, in fragments; the answer
    def tell(self, message):
        self.said.append(message)
        answer = None
        for value in courier.fragments(message, self.value_max):
            assert answer is None
            answer = self.visit.take(value)
        return answer

    def begin(self):
        return self.tell(b"\x01" + self.nonce)

    def proof(self, challenge):
        base = hkdf.extract(b"sealband/1 courier", self.claim)
        prk = hkdf.extract(self.nonce + challenge[1:], base)
        self.keys = ble.split(hkdf.expand(prk, b"sealband/1 courier keys" + self.eui, 90))
        return hkdf.hmac_sha256(self.keys[4], b"courier")[:16]

    def prove(self):
        own = self.tell(self.proof(self.begin()))
        assert own == hkdf.hmac_sha256(self.keys[4], b"device")[:16]
        return self

    def seal(self, request):
        return ccm.encrypt(self.keys[0], nonce(self.keys[2], self.count), request, b"", 8)

    def open(self, reply):
        plaintext = ccm.decrypt(self.keys[1], nonce(self.keys[3], self.count), reply, b"", 8)
        self.count += 1
        return plaintext

    def ask(self, request):
        reply = self.open(self.tell(self.seal(request)))
        assert reply[:1] == request[:1]
        return reply[1:]

    # keys of all queued frames, as bytes
    def list(self):
        keys = []
        while True:
            page = self.ask(b"\x02" + len(keys).to_bytes(2, "big"))
            keys += [page[at : at + 7] for at in range(0, len(page), 7)]
            if len(page) < ble.LIST_MAX * 7:
                return keys

    def fetch(self, key):
        return self.ask(b"\x03" + key)

    # True: opened
    def deliver(self, frame):
        return self.ask(b"\x04" + frame) == b"\x00"
