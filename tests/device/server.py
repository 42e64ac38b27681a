# The server's side of the frames, for tests on MicroPython: opens uplinks, seals downlinks, remembers what
# it stored. Written from sealwire/README.md with the device's own primitives; the host's code is tested elsewhere.
from sealband import keys
from sealband.crypto import cbor, ccm
from sealwire import frame, messages


class Server:
    def __init__(self, eui, root):
        self.eui = eui
        self.chain_keys = [root]
        self.stored = {}  # (epoch, ctr): plaintext
        self.copies = 0
        self.hellos = 0
        self._down = {}

    def _keys(self, epoch):
        while len(self.chain_keys) <= epoch:
            self.chain_keys.append(keys.ratchet(self.chain_keys[-1]))
        return keys.epoch_keys(self.chain_keys[epoch], self.eui)

    # (epoch, ctr, plaintext) of an uplink; raises what the parts raise
    def open(self, data):
        parsed = frame.parse(data)
        for epoch in range(8):
            ku, _, iu, _, did = self._keys(epoch)
            if parsed.epoch is not None and parsed.epoch != epoch:
                continue
            if parsed.epoch is None and (parsed.did != did or parsed.epoch_bits != epoch & 7):
                continue
            aad = frame.associated_data(parsed.ctl, self.eui, epoch, parsed.ctr)
            plaintext = ccm.decrypt(ku, frame.nonce(iu, parsed.ctr), parsed.sealed, aad, frame.TAG_LEN)
            if parsed.kind == frame.KIND_HELLO:
                self.hellos += 1
            if (epoch, parsed.ctr) in self.stored:
                assert self.stored[(epoch, parsed.ctr)] == plaintext, "a counter was used twice"
                self.copies += 1
            self.stored[(epoch, parsed.ctr)] = plaintext
            return epoch, parsed.ctr, plaintext
        raise ValueError("no key opens it")

    def seal(self, epoch, plaintext, ctr=None):
        _, kd, _, iv, did = self._keys(epoch)
        if ctr is None:
            ctr = self._down.get(epoch, 0)
            self._down[epoch] = ctr + 1
        head = frame.header(frame.KIND_DATA, epoch, did, ctr)
        aad = frame.associated_data(head[0], self.eui, epoch, ctr)
        return head + ccm.encrypt(kd, frame.nonce(iv, ctr), plaintext, aad, frame.TAG_LEN)

    def message(self, epoch, *items):
        return self.seal(epoch, b"".join(cbor.encode(item) for item in items))

    # the sync that answers a frame; one that is out of the bitmap's reach is named in place of the newest
    def sync(self, epoch, t, answered=None):
        newest = max(ctr for e, ctr in self.stored if e == epoch)
        if answered is not None and newest - answered > 32:
            newest = answered
        bitmap = 0
        for i in range(32):
            if (epoch, newest - 1 - i) in self.stored:
                bitmap |= 1 << i
        return self.message(epoch, messages.SYNC, t, newest, bitmap, 0)

    # everything stored, as messages: [(type, rest ...)]
    def messages(self):
        return [cbor.decode_sequence(self.stored[key]) for key in sorted(self.stored)]

    # [(t, record, value)] of all telemetry
    def samples(self):
        found = []
        for items in self.messages():
            if items[0] != messages.TELEMETRY:
                continue
            for series in items[2:]:
                value = 0
                for i, difference in enumerate(series[2:]):
                    if difference is not None:
                        value += difference
                        found.append((items[1] + i * series[1], series[0], value))
        return sorted(found)

    # the newest status map
    def status(self):
        return [items for items in self.messages() if items[0] == messages.STATUS][-1][2]
