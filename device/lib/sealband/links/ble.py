# Couriers over Bluetooth Low Energy, by micropython-lib's aioble: advertises, lets one phone in at a time, and drops it
# when it is slow, silent or wrong. What is said is links/courier.py's.
#
# No link of the policy's: a courier takes copies and answers nothing, so a session over it would count as silence of
# the server. It is one of the application's listeners, coroutines beside the node's work:
#
#     App(sensors, links=[LoRa(board)], listeners=[Ble()])
import asyncio
import os
import time

from micropython import const

from sealband import once
from sealband.errors import StoreError
from sealband.store import CLAIM, COURIER
from sealwire import ble as wire

_NRPA = const(3)  # BLE.config(addr_mode=): a non-resolvable private address, a new one each time it is set
_GUESS_PAUSE_MAX_S = const(900)
_STRANGER_PAUSE_MAX_S = const(60)
_FAULT_PAUSE_S = const(60)
_GUESSES_MAX = const(255)
_MTU = const(23)  # until another one is agreed on
_FULL_MS = const(20)  # the stack has no buffer for a value now


class Ble:
    name = "ble"

    # interval_ms: between two advertisements; name_ms: so long one name and address is used
    # handshake_ms: for a stranger to prove that it holds the secret; idle_ms, visit_ms: for who did
    def __init__(self, interval_ms=1000, name_ms=600000, handshake_ms=5000, idle_ms=10000, visit_ms=180000):
        self._interval_us = interval_ms * 1000
        self._name_ms = name_ms
        self._handshake_ms = handshake_ms
        self._idle_ms = idle_ms
        self._visit_ms = visit_ms
        self._store = None
        self._strangers = 0  # visits in a row that proved nothing
        self.visits = 0  # that did
        self.errors = 0

    # Until this board has no identity any more.
    async def serve(self, node):
        self._store = node.store
        characteristics = None
        pause_s = self.pause_s()  # what was counted before a reset
        while not node.retiring:
            claim = node.store.load(CLAIM)
            if claim is None:
                return
            try:
                await asyncio.sleep(pause_s)
                if not characteristics:
                    characteristics = self._register()
                pause_s = 0
                connection = await self._wait(claim)
                if connection:
                    await self._visit(node, claim, connection, *characteristics)
                    pause_s = self.pause_s()
            except Exception:
                # the stack or its memory, each with errors of its own
                self.errors += 1
                pause_s = _FAULT_PAUSE_S

    # How long nobody is let in: strangers cost energy, and guesses are never worth it. Counted on over a reset.
    def pause_s(self):
        guesses = self._store.load_number(COURIER) or 0
        pause_s = min(_STRANGER_PAUSE_MAX_S, 1 << min(self._strangers, 9)) if self._strangers else 0
        return max(pause_s, min(_GUESS_PAUSE_MAX_S, 1 << min(guesses, 10))) if guesses else pause_s

    def _register(self):
        import aioble
        from bluetooth import UUID

        service = aioble.Service(UUID(wire.UUID % wire.SERVICE))
        up = aioble.BufferedCharacteristic(
            service, UUID(wire.UUID % wire.UP), write=True, capture=True, max_len=wire.VALUE_MAX
        )
        down = aioble.Characteristic(service, UUID(wire.UUID % wire.DOWN), notify=True)
        aioble.register_services(service)
        return up, down

    # One name and address, until somebody connects or it is time for the next; the connection.
    async def _wait(self, claim):
        import aioble
        from bluetooth import UUID

        name = once("sealband.links.courier").pseudonym(claim, os.urandom)
        uuid = bytes(UUID(wire.UUID % wire.SERVICE))
        aioble.config(addr_mode=_NRPA)
        try:
            # core specification supplement, part A: flags, complete list of 128-bit services; service data with it
            return await aioble.advertise(
                self._interval_us,
                adv_data=b"\x02\x01\x06\x11\x07" + uuid,
                resp_data=b"\x1b\x21" + uuid + name,
                timeout_ms=self._name_ms,
            )
        except asyncio.TimeoutError:
            pass

    async def _visit(self, node, claim, connection, up, down):
        courier = once("sealband.links.courier")
        visit = courier.Visit(claim, node.chain.eui, os.urandom, lambda r: courier.serve(node, r), self._attempt)
        try:
            await self._talk(visit, connection, up, down, courier.fragments)
        except courier.Guess:
            if visit.open:
                self._attempt()  # a proof that was wrong is written down already
        except (courier.VisitError, StoreError, asyncio.TimeoutError):
            pass
        except Exception:
            if connection.is_connected():
                raise  # else the courier is gone, which has an error of aioble's
        finally:
            self._strangers = 0 if visit.open else self._strangers + 1
            await connection.disconnect()
        if visit.open:
            self.visits += 1
            node.log.note("courier", self.visits)

    async def _talk(self, visit, connection, up, down, fragments):
        begun = time.ticks_ms()
        while connection.is_connected():
            left_ms = self._visit_ms if visit.open else self._handshake_ms
            left_ms -= time.ticks_diff(time.ticks_ms(), begun)
            if left_ms <= 0:
                return
            with connection.timeout(min(left_ms, self._idle_ms)):
                writer, value = await up.written()
            if writer is not connection:
                continue  # left over from the one before
            was_open = visit.open
            answer = visit.take(bytes(value))
            if visit.open and not was_open:
                self._store.save_number(COURIER, 0)
            if answer:
                for part in fragments(answer, min((connection.mtu or _MTU) - 3, wire.VALUE_MAX)):
                    # who takes none of it must not hold us longer than who says nothing
                    while connection.is_connected() and time.ticks_diff(time.ticks_ms(), begun) < self._visit_ms:
                        try:
                            down.notify(connection, part)
                            break
                        except OSError:
                            await asyncio.sleep_ms(_FULL_MS)

    # whoever proves something has paid for it before it is looked at: no power cut gives a free guess
    def _attempt(self):
        self._store.save_number(COURIER, min((self._store.load_number(COURIER) or 0) + 1, _GUESSES_MAX))
