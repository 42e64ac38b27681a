"""A device for simulations on the host: the real chain and the real back-off of `device/lib`, run by CPython.

Around them a node in miniature, after session.py and commands.py: it queues, bursts, says hello when the server counts
as lost, follows syncs, and gives a receipt for every command. Its frames are sealed and opened by `cryptography`.
"""

import random
import sys
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cbor2
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from provisioning.keys import EpochKeys
from tests.support.frames import seal_uplink

LIB = Path(__file__).parents[2] / "device" / "lib"
SINCE = 1_735_689_600  # 2025-01-01, Unix seconds
SYNC, RECEIPT, MALFORMED = 16, 4, 1
REPLY, TELEMETRY = 1, 2


@cache
def device_code() -> SimpleNamespace:
    """The modules `chain`, `policy` and `backoff` of the device; nothing of it stays importable."""
    before = set(sys.modules)
    stub: Any = ModuleType("micropython")
    stub.const = lambda value: value
    sys.modules["micropython"] = stub
    # CPython takes a remark in its first lines for the name of an encoding; the chain does without it
    sys.modules["sealband.crypto.cbor"] = ModuleType("sealband.crypto.cbor")
    sys.path.insert(0, str(LIB))
    try:
        from sealband import chain, errors, keys
        from sealband.links import backoff, policy
    finally:
        sys.path.remove(str(LIB))
        for name in set(sys.modules) - before:
            if name.split(".")[0] in ("micropython", "sealband"):
                del sys.modules[name]
    chain.once = lambda name: {keys.__name__: keys}[name]  # type: ignore[attr-defined]  # what the chain loads later
    return SimpleNamespace(chain=chain, policy=policy, backoff=backoff, errors=errors)


class Memory:
    """The device's store, as far as the chain uses it; RTC memory is lost at each start."""

    faults = 0

    def __init__(self) -> None:
        self._kept: dict[str, Any] = {}

    def save(self, name: str, data: bytes, scrub: bool = False) -> None:
        self._kept[name] = bytes(data)

    def load(self, name: str) -> Any:
        return self._kept.get(name)

    load_number = load

    def save_number(self, name: str, number: int) -> None:
        self._kept[name] = number

    def whole(self, name: str) -> bool:
        return True

    def rtc_take(self, name: str) -> None:
        return None


class Band:
    """A device that wants to be rid of its readings.

    Args:
        send: brings a frame to the server, if it is not lost, and gives back the frames that arrive in answer.
        draw: decides what is random.
        now: Unix seconds.
    """

    def __init__(self, eui: bytes, root: bytes, send: Any, draw: random.Random, now: float) -> None:
        self.eui, self.root, self._send, self._draw = eui, root, send, draw
        self._code = device_code()
        self._store = Memory()
        self.chain = self._code.chain.Chain.create(self._store, eui, root, int(now) - SINCE)
        self.queue: list[tuple[int, int, int, bytes]] = []  # priority, epoch, counter, frame
        self.acknowledged_at = 0.0
        self.telemetry_at = now
        self.start(now)

    def start(self, now: float) -> None:
        """A cold start: counters leap, the time is not known."""
        self.chain = self._code.chain.Chain.load(self._store)
        self.backoff = self._code.backoff.Backoff(self._draw.randrange)
        self.clock_valid = False
        self._unacknowledged: dict[tuple[int, int], int] = {}

    def due_at(self, now: float) -> float:
        """When something is to be done."""
        at = self.telemetry_at
        if self.queue:
            at = min(at, now + self.backoff.wait_ms(int(now * 1000)) / 1000)
        return max(at, now)

    def run(self, now: float, interval_s: float) -> None:
        """Do what is due."""
        if self.clock_valid:
            self.chain.advance(int(now) - SINCE)
        if now >= self.telemetry_at:
            self.telemetry_at = now + interval_s
            self._put(TELEMETRY, cbor2.dumps(2) + cbor2.dumps(int(now) - SINCE) + cbor2.dumps({}))
        if self.queue and self.backoff.wait_ms(int(now * 1000)) == 0:
            self._session(now)

    def _put(self, priority: int, plaintext: bytes) -> None:
        try:
            ctr = self.chain.take_counter()
        except self._code.errors.ChainStopped:
            return
        self.queue.append((priority, self.chain.epoch, ctr, self._seal(ctr, plaintext)))
        self.queue.sort(key=lambda entry: entry[:3])
        del self.queue[200:]

    def _seal(self, ctr: int, plaintext: bytes, *, hello: bool = False) -> bytes:
        own = EpochKeys(*self.chain.keys())
        return seal_uplink(own, self.eui, self.chain.epoch, ctr, plaintext, hello=hello)

    def _session(self, now: float) -> None:
        policy = self._code.policy
        was_lost, heard, unheard, left = self.backoff.lost, False, 0, False
        if was_lost:
            ctr = self.chain.take_counter()
            status = cbor2.dumps(2) + cbor2.dumps(int(now) - SINCE) + cbor2.dumps({})
            heard = self._exchange(self._seal(ctr, status, hello=True), now)
            unheard = 0 if heard else 1
        tried: list[tuple[int, int, int, bytes]] = []
        while len(tried) < policy.BURST_MAX and unheard < policy.UNHEARD_MAX and (heard or not was_lost):
            entry = next((entry for entry in self.queue if entry not in tried), None)
            if entry is None:
                break
            tried.append(entry)
            answered = self._exchange(entry[3], now)
            heard, unheard = heard or answered, 0 if answered else unheard + 1
            if answered and entry in self.queue:
                number = entry[1:3]
                self._unacknowledged[number] = self._unacknowledged.get(number, 0) + 1
                if self._unacknowledged[number] >= 3:
                    self.queue.remove(entry)
        left = any(entry in self.queue for entry in tried)
        self.backoff.ended(int(now * 1000), True, heard, not left and not unheard)

    def _exchange(self, frame: bytes, now: float) -> bool:
        heard = False
        for answer in self._send(self, frame):
            heard = self._receive(answer, now) or heard
        return heard

    def _receive(self, frame: bytes, now: float) -> bool:
        head, did, number = frame[:1], frame[1:3], frame[3:5]
        ctr = int.from_bytes(number, "big")
        for epoch, downlink in self.chain.downlinks():
            if head[0] & 7 != epoch % 8 or did != downlink.did or ctr < downlink.next:
                continue
            nonce = (int.from_bytes(downlink.iv, "big") ^ ctr).to_bytes(13, "big")
            aad = cbor2.dumps(
                ["Encrypt0", bytes.fromhex("a1010a"), head + self.eui + epoch.to_bytes(4, "big") + number]
            )
            try:
                plaintext = AESCCM(downlink.key, tag_length=8).decrypt(nonce, frame[5:], aad)
            except InvalidTag:
                continue
            self.chain.downlink_accepted(downlink, ctr)
            self._act(epoch, ctr, plaintext, now)
            return True
        return False

    def _act(self, epoch: int, ctr: int, plaintext: bytes, now: float) -> None:
        if plaintext[0] != SYNC:
            self._put(REPLY, cbor2.dumps(RECEIPT) + cbor2.dumps(ctr) + cbor2.dumps(MALFORMED))
            return
        items, rest = [], plaintext
        while rest:
            item = cbor2.loads(rest)
            items.append(item)
            rest = rest[len(cbor2.dumps(item, canonical=True)) :]
        _, _, anchor, bitmap, _ = items
        stored = {anchor} | {anchor - 1 - bit for bit in range(32) if bitmap >> bit & 1}
        self.queue = [entry for entry in self.queue if entry[1] != epoch or entry[2] not in stored]
        self.clock_valid = True
        self.acknowledged_at = now
        self.chain.acknowledged(int(now) - SINCE, epoch)
        if epoch == self.chain.epoch:
            self.queue = [entry for entry in self.queue if entry[1] >= epoch - 1]
