"""A radio's connection to the ether: transmit, receive, listen, from any thread and without asyncio.

Owns the client's half of the JSON lines that `host_tools.sim.ether` speaks. One connection is one antenna: two clients
of one name are one radio.
"""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from host_tools.sim.airtime import RadioError, RadioParams
from host_tools.sim.clock import SimClock
from host_tools.sim.medium import Reception

Heard = Callable[[Reception], None]

ANSWER_S = 5.0  # real time that the server may take beyond what was asked for
RECEIVE_MAX_S = 86_400.0


class EtherError(Exception):
    """The ether is gone, or refused: `reason` is its one word ("busy", "size", "params", "closed" …)."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class TxReport:
    """When a packet is on the air, virtual Unix seconds. The caller waits for `end` if its modem would."""

    start: float
    end: float


@dataclass(slots=True)
class _Answer:
    ready: threading.Event = field(default_factory=threading.Event)
    message: dict[str, Any] | None = None


class EtherClient:
    """One radio on the ether. Every method may be called from any thread.

    Args:
        address: of the ether's server, (host, port).
        name: whose radio this is, 1 to 64 characters.
        clock: the virtual clock that the whole simulation shares.
    """

    def __init__(self, address: tuple[str, int], name: str, clock: SimClock) -> None:
        self.name = name
        self.clock = clock
        self._closed = False
        self._lock = threading.Lock()
        self._answers: dict[int, _Answer] = {}
        self._next_id = 0
        self._heard: Heard | None = None
        try:
            self._socket = socket.create_connection(address, timeout=ANSWER_S)
        except OSError as error:
            raise EtherError("closed", f"no ether at {address[0]}:{address[1]}: {error.strerror or error}") from error
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._thread = threading.Thread(target=self._read, name=f"ether-client-{name}", daemon=True)
        self._thread.start()
        try:
            self._ask({"op": "hello", "name": name})
        except EtherError:
            self.close()
            raise

    def __enter__(self) -> "EtherClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def transmit(self, packet: bytes, params: RadioParams, at: float | None = None) -> TxReport:
        """Send a packet now, or at a virtual time; returns at once.

        Args:
            packet: 1 to 255 bytes.
            params: how it is modulated.
            at: virtual Unix seconds; default now. A time a little in the past is taken as it is, as far as the
                ether's slack allows.

        Raises:
            EtherError: refused (this radio still transmits, the packet is too long …) or the ether is gone.
        """
        when = self.clock.now() if at is None else at
        answer = self._ask({"op": "transmit", "packet": packet.hex(), "params": params.to_json(), "at": when})
        return TxReport(answer["start"], answer["end"])

    def receive(self, params: RadioParams, timeout_s: float, start: float | None = None) -> Reception | None:
        """Switch the receiver on until a packet came or the time is over; blocks.

        Args:
            params: channel, spreading factor, bandwidth, sync word and polarity to listen to.
            timeout_s: virtual seconds within which a packet's header must have been read.
            start: when the receiver was switched on, virtual Unix seconds; default now.

        Raises:
            EtherError: refused, or the ether is gone, or `close` was called meanwhile.
        """
        if not 0 <= timeout_s <= RECEIVE_MAX_S:
            raise RadioError(f"timeout_s must be from 0 to {RECEIVE_MAX_S:.0f}")
        begin = self.clock.now() if start is None else start
        request = {"op": "receive", "params": params.to_json(), "start": begin, "end": begin + timeout_s}
        heard = self._ask(request, wait_s=None)["reception"]
        return None if heard is None else _reception(heard)

    def sense(self, params: RadioParams, at: float | None = None) -> tuple[float, bool]:
        """What is on a channel: the level in dBm, and whether there are LoRa symbols of that data rate and polarity.

        Raises:
            EtherError: refused, or the ether is gone.
        """
        when = self.clock.now() if at is None else at
        answer = self._ask({"op": "sense", "params": params.to_json(), "at": when})
        return float(answer["level"]), bool(answer["active"])

    def listen(
        self,
        frequencies_hz: Sequence[int],
        heard: Heard,
        *,
        bw_hz: int = 125_000,
        sync_word: int = 0x34,
        invert_iq: bool = False,
    ) -> None:
        """Hear all spreading factors on several channels from now on, as a gateway's concentrator does.

        Args:
            frequencies_hz: at most 16 channels.
            heard: called from this client's thread with each packet when it has ended; must return soon.
            bw_hz: of every channel.
            sync_word: of the packets wanted.
            invert_iq: their polarity.

        Raises:
            EtherError: refused, or the ether is gone.
        """
        self._heard = heard
        request = {"frequencies_hz": list(frequencies_hz), "bw_hz": bw_hz, "sync_word": sync_word}
        self._ask({"op": "listen", **request, "invert_iq": invert_iq})

    def close(self) -> None:
        """Leave the ether; whoever waits in `receive` gets EtherError."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(ANSWER_S)

    def _ask(self, request: dict[str, Any], wait_s: float | None = ANSWER_S) -> dict[str, Any]:
        answer = _Answer()
        with self._lock:
            if self._closed:
                raise EtherError("closed", "the connection to the ether is closed")
            self._next_id += 1
            number = self._next_id
            self._answers[number] = answer
            try:
                self._socket.sendall(json.dumps({**request, "id": number}).encode() + b"\n")
            except OSError as error:
                del self._answers[number]
                raise EtherError("closed", "the ether is gone") from error
        answered = answer.ready.wait(wait_s)
        with self._lock:
            self._answers.pop(number, None)
        if not answered:
            raise EtherError("closed", "the ether does not answer")
        if answer.message is None:
            raise EtherError("closed", "the ether is gone")
        if "error" in answer.message:
            raise EtherError(str(answer.message["error"]), str(answer.message.get("detail", "")))
        return answer.message

    def _read(self) -> None:
        try:
            with self._socket.makefile("rb") as lines:
                for line in lines:
                    self._take(json.loads(line))
        except (OSError, ValueError):
            pass  # closed under the reader's hands, or no ether at all: both end the connection
        finally:
            with self._lock:
                self._closed = True
                waiting = list(self._answers.values())
            for answer in waiting:
                answer.ready.set()

    def _take(self, message: dict[str, Any]) -> None:
        if "heard" in message:
            if self._heard is not None:
                self._heard(_reception(message["heard"]))
            return
        with self._lock:
            answer = self._answers.get(message["id"])
        if answer is not None:
            answer.message = message
            answer.ready.set()


def _reception(value: dict[str, Any]) -> Reception:
    return Reception(
        bytes.fromhex(value["packet"]),
        float(value["rssi"]),
        float(value["snr"]),
        float(value["at"]),
        RadioParams.from_json(value["params"]),
    )
