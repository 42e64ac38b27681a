"""A real mosquitto that asks for certificates and keeps sessions over a restart. Not used by the product."""

import getpass
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import paho.mqtt.client as mqtt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.enums import CallbackAPIVersion

from host_tools.gateway.broker import mosquitto_path
from tests.support.authority import Authority, common_name, pem, pem_key

NAMES = ("127.0.0.1", "localhost")


class Mosquitto:
    """Started by `start`, ended by `stop`; a context manager does both. Its port stays the same.

    Args:
        folder: for its files.
        authority: of clients, and of its own certificate unless one is given.
        certificate: its own, with its key.
        more: lines of configuration.
    """

    def __init__(
        self,
        folder: Path,
        authority: Authority,
        certificate: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None,
        more: str = "",
    ) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.authority = authority
        if certificate is None:
            key = ec.generate_private_key(ec.SECP256R1())
            certificate = authority.sign(key.public_key(), common_name("broker"), names=NAMES), key
        (folder / "ca.pem").write_bytes(pem(authority.certificate))
        (folder / "server.pem").write_bytes(pem(certificate[0]))
        (folder / "server.key").write_bytes(pem_key(certificate[1]))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        (folder / "acl").write_text(
            "pattern write sb/v1/d/%u/up\npattern read sb/v1/d/%u/down\nuser server\ntopic readwrite #\n"
        )
        (folder / "conf").write_text(
            f"listener {self.port} 127.0.0.1\ncafile {folder}/ca.pem\n"
            f"certfile {folder}/server.pem\nkeyfile {folder}/server.key\n"
            f"require_certificate true\nuse_identity_as_username true\nacl_file {folder}/acl\n"
            f"persistence true\npersistence_location {folder}/\nuser {getpass.getuser()}\nlog_type all\n{more}"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Serve."""
        program = mosquitto_path()
        assert program
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([program, "-c", str(self.folder / "conf")], stdout=log, stderr=log)
        limit = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 5).close()
                return
            except ConnectionRefusedError:
                assert time.monotonic() < limit and self._process.poll() is None, self.log()
                time.sleep(0.02)

    def stop(self) -> None:
        """End it, as a shutdown does: it keeps its sessions."""
        if self._process:
            self._process.terminate()
            self._process.wait(10)

    def kill(self) -> None:
        """End it without a word."""
        if self._process:
            self._process.kill()
            self._process.wait(10)

    def log(self) -> str:
        """What it said."""
        return (self.folder / "log").read_text(errors="replace")

    def __enter__(self) -> "Mosquitto":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Server:
    """The other side: a paho client that may read and write everything, and keeps what devices publish."""

    def __init__(self, broker: Mosquitto) -> None:
        self.came: list[tuple[str, bytes, int]] = []
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = broker.authority.sign(key.public_key(), common_name("server"))
        path = broker.folder / "client.pem"
        path.write_bytes(pem_key(key) + pem(certificate))
        context = ssl.create_default_context(cafile=str(broker.folder / "ca.pem"))
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.check_hostname = False
        context.load_cert_chain(path)
        self._ready = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="server", protocol=mqtt.MQTTv311)
        self._client.tls_set_context(context)
        self._client.on_connect = lambda client, *_: client.subscribe("sb/v1/d/+/up", 1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = lambda _client, _data, got: self.came.append((got.topic, bytes(got.payload), got.qos))
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        assert self._ready.wait(20)

    def publish(self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False) -> None:
        """Send something, and wait until the broker has it."""
        self._client.publish(topic, payload, qos, retain).wait_for_publish(10)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
