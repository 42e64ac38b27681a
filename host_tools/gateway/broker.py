"""A broker of our own for the demo, tests and benches; in earnest one runs mosquitto or any other MQTT broker.

Owns starting and stopping two brokers behind one interface. `EmbeddedBroker` is amqtt in a thread; it comes with pip,
speaks MQTT 3.1.1, keeps nothing over a restart and believes every client, so it binds to a loopback address only.
`MosquittoBroker` runs the real thing where it is installed.
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
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from amqtt.contexts import BrokerConfig

from host_tools.broker import folder as folders
from host_tools.broker.guarded import GuardedBroker
from host_tools.broker.sharing import IN_FLIGHT_MAX, SharingBroker

START_S = 10.0
RULES_START_S = 60.0  # mosquitto takes 9 s to read the rules of 20,000 devices
STOP_S = 10.0
INSTALL = "install it (apt install mosquitto; brew install mosquitto), or use the embedded broker"


class BrokerError(Exception):
    """The broker cannot be started; `remedy` says what to do, where that is known."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.remedy = remedy


class EmbeddedBroker:
    """amqtt in a thread of its own: plain on a loopback address, or with a folder's rules over TLS.

    Args:
        host: a loopback address; the plain broker authenticates nobody.
        port: 0 takes a free one.
        folder: what `sealband broker config` wrote; it says addresses and ports, and `host` and `port` are not asked.

    Attributes:
        port: where it serves, once started; with a folder: services.
        devices: with a folder, where it serves devices.
    """

    name = "amqtt (embedded)"

    def __init__(self, host: str = "127.0.0.1", port: int = 0, *, folder: Path | None = None) -> None:
        if folder is None and not ipaddress.ip_address(host).is_loopback:
            raise BrokerError(f"the embedded broker authenticates nobody, so it does not serve on {host}")
        self._folder = folder
        self._settings = _configured(folder) if folder else None
        self.devices = (host, port)
        if self._settings:
            self.devices, (host, port) = self._settings.listen, self._settings.services_listen
        self.host = host
        self.port = port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stopping: asyncio.Event | None = None
        self._broker: SharingBroker | None = None

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

    def reload(self) -> None:
        """Have it read rules and revocation lists anew; returns when sessions that are over have been ended."""
        if isinstance(self._broker, GuardedBroker) and self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._broker.renew(), self._loop).result(START_S)

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
        self._broker = broker = self._made()
        await broker.start()
        # amqtt has no accessor for the port that the system chose
        started.set_result(broker._servers["default"].instance.sockets[0].getsockname()[1])
        await self._stopping.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(broker.shutdown(), STOP_S / 2)

    def _made(self) -> SharingBroker:
        if self._folder and self._settings:
            return GuardedBroker(self._folder.absolute(), self._settings)
        return SharingBroker(
            BrokerConfig.from_dict(
                {
                    "listeners": {"default": {"type": "tcp", "bind": f"{self.host}:{self.port}"}},
                    "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
                }
            )
        )


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
        settings = self._configured(self._folder) if self._folder else self._plain(Path(self._directory.name))
        log = Path(self._directory.name, "log")
        with log.open("wb") as output:  # not a pipe: nobody would empty it
            process = self._process = subprocess.Popen(
                [program, "-c", str(settings)], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            _wait_until(
                lambda: _answers(self.host, self.port) or process.poll() is not None,
                RULES_START_S if self._folder else START_S,
            )
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

    def _configured(self, folder: Path) -> Path:
        settings = _configured(folder)
        self.devices, (self.host, self.port) = settings.listen, settings.services_listen
        return folder.absolute() / folders.CONF

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


def _configured(folder: Path) -> folders.Settings:
    settings = folders.load(folder)
    if settings is None:
        raise BrokerError(f"{folder} is no broker's folder", "make one: sealband broker config")
    return settings


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


def _wait_until(true: Callable[[], bool], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > deadline:
            raise BrokerError(f"the broker does not answer within {limit_s:.0f} s")
        time.sleep(0.02)
