"""A broker of our own for the demo, tests and benches; in earnest one runs mosquitto or any other MQTT broker.

Owns starting and stopping two brokers behind one interface. `EmbeddedBroker` is amqtt in a thread; it comes with pip,
speaks MQTT 3.1.1, keeps nothing over a restart and believes every client, so it binds to a loopback address only.
amqtt takes `$share/…` for an ordinary topic that nobody can publish to; the subclass here adds shared subscriptions
(MQTT 5 section 4.8.2). `MosquittoBroker` runs the real thing where it is installed.
"""

import asyncio
import contextlib
import ipaddress
import logging
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig

from host_tools.broker import folder as folders

START_S = 10.0
STOP_S = 10.0
IN_FLIGHT_MAX = 20_000  # messages on their way to subscribers; more are dropped and counted
_REFUSED = 0x80  # SUBACK return code, MQTT 3.1.1 section 3.9.3
_SHARE = "$share/"
INSTALL = "install it (apt install mosquitto; brew install mosquitto), or use the embedded broker"


class BrokerError(Exception):
    """The broker cannot be started; `remedy` says what to do, where that is known."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.remedy = remedy


class _SharingBroker(Broker):  # type: ignore[misc]
    """amqtt with shared subscriptions, and with a bound on what waits for slow subscribers."""

    def __init__(self, config: BrokerConfig) -> None:
        super().__init__(config)
        self.dropped = 0
        self._turn: dict[str, int] = {}

    async def add_subscription(self, subscription: tuple[str, int], session: Any) -> int:
        share, topic_filter = split_share(subscription[0])
        if share is not None and (not share or not topic_filter or "+" in share or "#" in share):
            return _REFUSED
        code: int = await super().add_subscription(subscription, session)
        return code

    async def _publish_retained_messages_for_subscription(self, subscription: tuple[str, int], session: Any) -> None:
        if split_share(subscription[0])[0] is None:  # MQTT 5 section 4.8.2: none to a shared subscription
            await super()._publish_retained_messages_for_subscription(subscription, session)

    async def _run_broadcast(self, running_tasks: "deque[asyncio.Future[Any]]") -> None:
        message = await self._broadcast_queue.get()
        for session, qos in list(self._receivers(message["topic"])):
            handler = self._get_handler(session)
            if handler is None:
                continue
            if len(running_tasks) >= IN_FLIGHT_MAX:
                self.dropped += 1
                continue
            sent = handler.mqtt_publish(message["topic"], message["data"], message.get("qos", qos), retain=False)
            running_tasks.append(asyncio.ensure_future(sent))

    def _receivers(self, topic: str) -> Iterator[tuple[Any, int]]:
        for key, subscriptions in self._subscriptions.items():
            share, topic_filter = split_share(key)
            if not self._matches(topic, topic_filter):
                continue
            connected = [(session, qos) for session, qos in subscriptions if session.transitions.state == "connected"]
            if share is not None and connected:
                turn = self._turn[key] = (self._turn.get(key, -1) + 1) % len(connected)
                connected = [connected[turn]]
            yield from connected


def split_share(topic_filter: str) -> tuple[str | None, str]:
    """Share name (None: not a shared subscription) and what is subscribed to, of "$share/name/filter"."""
    if not topic_filter.startswith(_SHARE):
        return None, topic_filter
    share, _, rest = topic_filter[len(_SHARE) :].partition("/")
    return share, rest


class EmbeddedBroker:
    """amqtt in a thread of its own.

    Args:
        host: a loopback address; the broker authenticates nobody.
        port: 0 takes a free one.

    Attributes:
        port: where it serves, once started.
    """

    name = "amqtt (embedded)"

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        if not ipaddress.ip_address(host).is_loopback:
            raise BrokerError(f"the embedded broker authenticates nobody, so it does not serve on {host}")
        self.host = host
        self.port = port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping: asyncio.Event | None = None
        self._broker: _SharingBroker | None = None

    def __enter__(self) -> "EmbeddedBroker":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> int:
        """Serve, and return the port.

        Raises:
            BrokerError: it does not come up, for example because the port is taken.
        """
        started: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="mqtt-broker", daemon=True)
        self._thread.start()
        try:
            self.port = started.result(START_S)
        except Exception as error:
            raise BrokerError(f"the embedded broker does not start on {self.host}:{self.port}: {error}") from error
        return self.port

    def stop(self) -> None:
        """Disconnect everybody and end the thread. Also when it never ran."""
        if self._loop is not None and self._stopping is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._stopping.set)
        if self._thread is not None:
            self._thread.join(STOP_S)
            self._thread = None

    def statistics(self) -> dict[str, int]:
        """Messages dropped because subscribers did not keep up."""
        return {"dropped": self._broker.dropped if self._broker else 0}

    def _run(self, started: "Future[int]") -> None:
        # it reports every client that leaves without a word; nobody reads that here
        for noisy in ("amqtt", "transitions"):
            logging.getLogger(noisy).setLevel(logging.CRITICAL)
        try:
            asyncio.run(self._serve(started))
        except Exception as error:
            if not started.done():
                started.set_exception(error)

    async def _serve(self, started: "Future[int]") -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        config = BrokerConfig.from_dict(
            {
                "listeners": {"default": {"type": "tcp", "bind": f"{self.host}:{self.port}"}},
                "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
            }
        )
        self._broker = broker = _SharingBroker(config)
        await broker.start()
        # amqtt has no accessor for the port that the system chose
        started.set_result(broker._servers["default"].instance.sockets[0].getsockname()[1])
        await self._stopping.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(broker.shutdown(), STOP_S / 2)


class MosquittoBroker:
    """The `mosquitto` on PATH, as a subprocess: plain on a loopback address, or with the configuration of a folder.

    Args:
        host: a loopback address; the plain configuration authenticates nobody.
        port: 0 takes a free one.
        folder: what `sealband broker config` wrote; it says addresses and ports, and `host` and `port` are not asked.

    Attributes:
        host, port: where it serves, once started; with a folder: services.
        devices: with a folder, where it serves devices.
    """

    name = "mosquitto"

    def __init__(self, host: str = "127.0.0.1", port: int = 0, *, folder: Path | None = None) -> None:
        if folder is None and not ipaddress.ip_address(host).is_loopback:
            raise BrokerError(f"this mosquitto authenticates nobody, so it does not serve on {host}")
        self.host = host
        self.port = port
        self.devices = (host, port)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    @staticmethod
    def available() -> bool:
        """Whether mosquitto is installed."""
        return mosquitto_path() is not None

    def __enter__(self) -> "MosquittoBroker":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> int:
        """Serve, and return the port.

        Raises:
            BrokerError: mosquitto is not installed or does not come up.
        """
        program = mosquitto_path()
        if program is None:
            raise BrokerError("mosquitto is not installed", INSTALL)
        self._directory = tempfile.TemporaryDirectory(prefix="sealband-mosquitto-")
        settings = self._configured() if self._folder else self._plain(Path(self._directory.name))
        log = Path(self._directory.name, "log")
        with log.open("wb") as output:  # not a pipe: nobody would empty it
            process = self._process = subprocess.Popen(
                [program, "-c", str(settings)], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            _wait_until(lambda: _answers(self.host, self.port) or process.poll() is not None)
            if process.poll() is not None:
                said = log.read_text(errors="replace").strip().splitlines() or ["nothing"]
                raise BrokerError(f"mosquitto ended with status {process.returncode} and said: {said[-1]}")
        except BrokerError:
            self.stop()
            raise
        return self.port

    def reload(self) -> None:
        """Have it read rules, revocation lists and its certificate anew."""
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def log(self) -> str:
        """What it wrote to standard error so far."""
        return Path(self._directory.name, "log").read_text(errors="replace") if self._directory else ""

    def _plain(self, directory: Path) -> Path:
        try:
            self.port = free_port(self.host, self.port)
        except OSError as error:
            raise BrokerError(f"mosquitto cannot serve on {self.host}:{self.port}: {error.strerror}") from error
        settings = directory / "mosquitto.conf"
        settings.write_text(
            f"listener {self.port} {self.host}\n"
            "allow_anonymous true\n"
            "persistence false\n"
            f"max_queued_messages {IN_FLIGHT_MAX}\n"
            "max_inflight_messages 1000\n"
            "message_size_limit 4096\n"
            "set_tcp_nodelay true\n"
            "log_type error\n"
        )
        return settings

    def _configured(self) -> Path:
        assert self._folder is not None
        settings = folders.load(self._folder)
        if settings is None:
            raise BrokerError(f"{self._folder} is no broker's folder", "make one: sealband broker config")
        self.devices, (self.host, self.port) = settings.listen, settings.services_listen
        return self._folder.absolute() / folders.CONF

    def stop(self) -> None:
        """End the process. Also when it never ran."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None


def mosquitto_path() -> str | None:
    """Where mosquitto is: distributions put it into a folder that not everybody has on PATH."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin")


def free_port(host: str, port: int = 0) -> int:
    """The port if nobody serves on it, or for 0 one that was free just now; raises OSError."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        chosen: int = probe.getsockname()[1]
        return chosen


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_S
    while not true():
        if time.monotonic() > deadline:
            raise BrokerError(f"the broker does not answer within {START_S:.0f} s")
        time.sleep(0.02)
