"""The ether: the radio medium as a server on the loopback interface, in virtual time.

Owns sessions and waiting; what is heard is decided by `host_tools.sim.medium`. A session is one TCP connection of JSON
lines, one request or answer a line:

    {"id": 1, "op": "hello", "name": "band-1"}                          first, once
    {"id": 2, "op": "transmit", "packet": "e0…", "params": {…}, "at": 1735689600.5}
    {"id": 3, "op": "receive", "params": {…}, "start": …, "end": …}     answered when a packet came or the time is over
    {"id": 4, "op": "listen", "frequencies_hz": […], …}                 from here on also lines {"heard": {…}}
    {"id": 5, "op": "sense", "params": {…}, "at": …}                    "level" in dBm, "active": LoRa symbols are there

Answers carry the request's id and either its result or "error" (one word) and "detail". Times are virtual Unix seconds.

All decisions are made on the times in the requests, never on when a thread happens to wake. Since a request is made
before it arrives, two things are allowed for by `slack_s` of real time: a receive that is found to be empty is answered
that much later, so that a packet which began within it can still come in, and a receiver counts as on that much
earlier than it says. A packet is delivered at most once to each receiver.
"""

import asyncio
import contextlib
import json
import math
import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from host_tools.sim.airtime import RadioError, RadioParams
from host_tools.sim.clock import SimClock
from host_tools.sim.ether_client import RECEIVE_MAX_S, EtherClient, EtherError, TxReport
from host_tools.sim.medium import KEEP_S, Medium, Reception, Transmission, TransmitRefused, Window, tuned
from host_tools.sim.rules import Rules

__all__ = ["Ether", "EtherClient", "EtherError", "RadioParams", "Reception", "Transmission", "TxReport"]

LINE_MAX = 4096
SESSIONS_MAX = 256
REQUESTS_MAX = 16  # of one session at a time
UNSENT_MAX = 1 << 20
AHEAD_MAX_S = 3600.0
BEHIND_MAX_S = KEEP_S / 2  # a simulation may stall for seconds, which are minutes when time runs fast
HISTORY_MAX = 10_000
EARLY_MAX_S = 0.005  # a modem's driver counts its last packet's airtime in whole milliseconds
CHANNELS_MAX = 16


class RequestRefused(Exception):
    """A line that is not a request, or one that cannot be done."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(slots=True, eq=False)
class _Session:
    writer: asyncio.StreamWriter
    task: "asyncio.Task[Any]"
    name: str = ""
    listening: list[RadioParams] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class Ether:
    """The medium and its server, which runs in a thread of its own.

    Args:
        clock: the virtual clock that the whole simulation shares.
        seed: makes loss and fading repeatable.
        loss: chance that a receiver misses a packet, 0 to 1.
        delay_s: virtual seconds from sending to arriving.
        slack_s: real seconds that a request may take to arrive.
        medium: for other settings of the medium; `seed`, `loss`, `delay_s` and `region` are then its own.
        host: a loopback address.
        region: whose rules every packet is held against; what breaks them is in `statistics`. None: nothing is.

    Attributes:
        address: (host, port) while it serves.
        on_transmission: called, in the ether's thread, with each packet that goes on the air.
        transmissions: the last 10,000 of them.
    """

    def __init__(
        self,
        clock: SimClock,
        seed: int = 0,
        loss: float = 0.0,
        delay_s: float = 0.0,
        slack_s: float = 0.1,
        medium: Medium | None = None,
        host: str = "127.0.0.1",
        region: str | None = None,
    ) -> None:
        self.clock = clock
        self.slack_s = slack_s
        self.host = host
        self.medium = medium or Medium(seed, loss, delay_s, rules=Rules(region) if region else None)
        self.address: tuple[str, int] | None = None
        self.on_transmission: list[Callable[[Transmission], None]] = []
        self.transmissions: deque[Transmission] = deque(maxlen=HISTORY_MAX)
        self._refused: Counter[str] = Counter()
        self._sessions: set[_Session] = set()
        self._lock = threading.Lock()  # the medium and the counts: the ether's thread and whoever asks for statistics
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._changed: asyncio.Event | None = None

    def __enter__(self) -> "Ether":
        if self.address is None:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, port: int = 0) -> tuple[str, int]:
        """Serve on this port (0: any free one) and return the address.

        Raises:
            OSError: the port is taken.
        """
        started: Future[tuple[str, int]] = Future()
        self._thread = threading.Thread(target=self._run, args=(port, started), name="ether", daemon=True)
        self._thread.start()
        self.address = started.result()
        return self.address

    def stop(self) -> None:
        """End all sessions and the thread."""
        if self._loop is not None and self._stopping is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._stopping.set)
        if self._thread is not None:
            self._thread.join(5)
        self._thread = self.address = None

    def set_path_loss(self, one: str, other: str, loss_db: float | None) -> None:
        """From now on packets lose so much between these two; None: as between others."""
        with self._lock:
            self.medium.path_loss_db.pop((other, one), None)
            if loss_db is None:
                self.medium.path_loss_db.pop((one, other), None)
            else:
                self.medium.path_loss_db[one, other] = loss_db

    def statistics(self) -> dict[str, Any]:
        """Counts since the start, and each sender's airtime as a regulator would see it, virtual seconds.

        With a region also what broke its rules ("rules", as `Rules.to_json` has it).
        """
        with self._lock:
            medium = self.medium
            medium.settle(self.clock.now())
            return {
                "transmissions": sum(ledger.entered for ledger in medium.ledgers.values()),
                "delivered": medium.delivered,
                "lost": dict(medium.lost),
                "refused": dict(self._refused),
                **({} if medium.rules is None else {"rules": medium.rules.to_json()}),
                "senders": {
                    name: {
                        "packets": ledger.packets,
                        "airtime_s": round(ledger.total_s, 6),
                        "busiest_hour_s": round(ledger.busiest_hour_s, 6),
                    }
                    for name, ledger in sorted(medium.ledgers.items())
                },
            }

    def _run(self, port: int, started: "Future[tuple[str, int]]") -> None:
        try:
            asyncio.run(self._serve(port, started))
        except OSError as error:
            started.set_exception(error)

    async def _serve(self, port: int, started: "Future[tuple[str, int]]") -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()
        server = await asyncio.start_server(self._session, self.host, port, limit=LINE_MAX)
        started.set_result((self.host, server.sockets[0].getsockname()[1]))
        await self._stopping.wait()
        server.close()
        sessions = [session.task for session in self._sessions]
        for session in list(self._sessions):
            session.writer.transport.abort()
        if sessions:
            await asyncio.wait(sessions, timeout=1)

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        session = _Session(writer, task)
        if len(self._sessions) >= SESSIONS_MAX:
            self._count("sessions")
            writer.close()
            return
        self._sessions.add(session)
        try:
            while line := await reader.readline():
                self._take(session, line)
        except (ValueError, ConnectionError):  # readline: longer than LINE_MAX; nothing after it can be trusted
            self._count("line")
        finally:
            self._sessions.discard(session)
            for task in session.tasks:
                task.cancel()
            writer.close()

    def _take(self, session: _Session, line: bytes) -> None:
        number: object = None
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise RequestRefused("request", "a request is an object")
            number = request.get("id")
            if type(number) is not int:
                raise RequestRefused("request", "id must be a whole number")
            self._do(session, number, request)
        except (ValueError, RecursionError):
            self._refuse(session, number, "request", "not JSON")
        except (RequestRefused, TransmitRefused) as refusal:
            self._refuse(session, number, refusal.reason, str(refusal))
        except RadioError as error:
            self._refuse(session, number, "params", str(error))

    def _do(self, session: _Session, number: int, request: dict[str, Any]) -> None:
        operation = request.get("op")
        if operation == "hello":
            name = request.get("name")
            if not isinstance(name, str) or not 1 <= len(name) <= 64 or not name.isprintable():
                raise RequestRefused("name", "a name has 1 to 64 printable characters")
            session.name = name
            self._send(session, {"id": number})
        elif not session.name:
            raise RequestRefused("name", "say hello first")
        elif operation == "transmit":
            sent = self._transmit(session, request)
            self._send(session, {"id": number, "start": sent.start, "end": sent.end})
        elif operation == "receive":
            params = RadioParams.from_json(request.get("params"))
            start, end = self._time(request, "start"), self._time(request, "end", ahead_s=RECEIVE_MAX_S + AHEAD_MAX_S)
            if len(session.tasks) >= REQUESTS_MAX:
                raise RequestRefused("requests", "too many receivers at once")
            task = asyncio.ensure_future(self._receive(session, number, Window(params, start, end)))
            session.tasks.add(task)
            task.add_done_callback(session.tasks.discard)
        elif operation == "listen":
            session.listening = _channels(request)
            self._send(session, {"id": number})
        elif operation == "sense":
            params, at = RadioParams.from_json(request.get("params")), self._time(request, "at")
            with self._lock:
                level = self.medium.level_dbm(session.name, params.frequency_hz, at)
                active = self.medium.active(session.name, params, at)
            self._send(session, {"id": number, "level": level, "active": active})
        else:
            raise RequestRefused("request", "op must be hello, transmit, receive, listen or sense")

    def _transmit(self, session: _Session, request: dict[str, Any]) -> Transmission:
        try:
            packet = bytes.fromhex(request["packet"])
        except (KeyError, TypeError, ValueError) as error:
            raise RequestRefused("packet", "packet must be hex digits") from error
        params = RadioParams.from_json(request.get("params"))
        at = self._time(request, "at", ahead_s=AHEAD_MAX_S)
        with self._lock:
            at = self.medium.after_own(session.name, at, EARLY_MAX_S)
            sent = self.medium.transmit(session.name, packet, params, at, self.clock.now())
        self.transmissions.append(sent)
        for hook in self.on_transmission:
            hook(sent)
        assert self._changed is not None
        self._changed.set()
        self._changed = asyncio.Event()
        self._at(self.medium.arrival(sent), self._spread, sent)
        return sent

    def _spread(self, sent: Transmission) -> None:
        """A packet has ended: hand it to every concentrator that was listening on its channel."""
        for session in list(self._sessions):
            if session.name == sent.sender or not any(tuned(params, sent.params) for params in session.listening):
                continue
            with self._lock:
                if session.name in sent.judged:
                    continue  # another connection of the same radio has had it
                heard = self.medium.judge(session.name, sent)
            if heard is not None:
                self._send(session, {"heard": _to_json(heard)})

    async def _receive(self, session: _Session, number: int, window: Window) -> None:
        slack_s = self.slack_s * self.clock.speed
        lenient = replace(window, start=window.start - slack_s)
        while True:
            changed = self._changed
            assert changed is not None
            now = self.clock.now()
            with self._lock:
                coming = self.medium.expected(session.name, lenient)
                if coming is not None and self.medium.arrival(coming) <= now:
                    heard = self.medium.judge(session.name, coming)
                    if heard is None:
                        continue  # spoilt: the modem goes on listening
                    self._send(session, {"id": number, "reception": _to_json(heard)})
                    return
            wake = window.end + slack_s if coming is None else self.medium.arrival(coming)
            if coming is None and wake <= now:
                self._send(session, {"id": number, "reception": None})
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), max(0.0005, self.clock.real_delay(wake - now)))

    def _at(self, virtual_s: float, call: Callable[[Transmission], None], sent: Transmission) -> None:
        assert self._loop is not None
        self._loop.call_later(self.clock.real_delay(virtual_s - self.clock.now()), call, sent)

    def _time(self, request: dict[str, Any], key: str, ahead_s: float = AHEAD_MAX_S) -> float:
        value = request.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise RequestRefused("time", f"{key} must be virtual Unix seconds")
        if not -BEHIND_MAX_S <= value - self.clock.now() <= ahead_s:
            raise RequestRefused("time", f"{key} is too far from the present")
        return float(value)

    def _refuse(self, session: _Session, number: object, reason: str, detail: str) -> None:
        self._count(reason)
        self._send(session, {"id": number if type(number) is int else None, "error": reason, "detail": detail})

    def _count(self, reason: str) -> None:
        with self._lock:
            self._refused[reason] += 1

    def _send(self, session: _Session, message: dict[str, Any]) -> None:
        transport = session.writer.transport
        if transport.get_write_buffer_size() > UNSENT_MAX:  # it does not read: it shall not fill our memory
            transport.abort()
        elif not transport.is_closing():
            session.writer.write(json.dumps(message).encode() + b"\n")


def _channels(request: dict[str, Any]) -> list[RadioParams]:
    frequencies = request.get("frequencies_hz")
    if not isinstance(frequencies, list) or not 1 <= len(frequencies) <= CHANNELS_MAX:
        raise RequestRefused("params", f"frequencies_hz must be a list of 1 to {CHANNELS_MAX}")
    settings = {key: request.get(key) for key in ("bw_hz", "sync_word", "invert_iq")}
    return [
        RadioParams.from_json({"frequency_hz": frequency, "sf": sf, **settings})
        for frequency in frequencies
        for sf in range(5, 13)
    ]


def _to_json(heard: Reception) -> dict[str, Any]:
    return {
        "packet": heard.packet.hex(),
        "rssi": heard.rssi,
        "snr": heard.snr,
        "at": heard.at,
        "params": heard.params.to_json(),
    }
