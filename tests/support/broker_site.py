"""A broker's folder with certificates of every kind, right and wrong, made by the project's own issuing code."""

import secrets
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import paho.mqtt.client as mqtt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from host_tools.broker import credentials, rules
from host_tools.broker import folder as folders
from host_tools.broker.folder import Settings, Written
from host_tools.broker.mosquitto import Limits
from host_tools.gateway.broker import EmbeddedBroker, MosquittoBroker, free_port
from provisioning import certificates
from provisioning.signers import FileSigner

Broker = EmbeddedBroker | MosquittoBroker
MODEL = "virtual-wearable"
ROOT, OTHER_ROOT, SERVICES, ISSUER, OTHER_ISSUER, UNKNOWN = (ec.generate_private_key(ec.SECP256R1()) for _ in range(6))
BATCH, OTHER_BATCH = "B1", "B2"
WAIT_S = 10.0
CLOSED = "closed"  # the broker ended the connection without a word


@dataclass(frozen=True)
class Peer:
    """Somebody with a certificate.

    Attributes:
        pem: the file of key and certificate.
        serial: of the certificate.
    """

    pem: Path
    serial: int


class BrokerSite:
    """Two batches of devices, two bridges, one ingest worker, and whoever an attack needs."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self.folder, self.home = folder, folder / "broker"
        self.now = datetime.now(UTC).replace(microsecond=0)
        begun = self.now - timedelta(days=400)
        self.root = certificates.create_root(FileSigner(ROOT), "Devices", 7300, begun)
        self.other_root = certificates.create_root(FileSigner(OTHER_ROOT), "Somebody", 7300, begun)
        self.services_root = certificates.create_root(FileSigner(SERVICES), "Services", 7300, begun)
        self.issuer, self.other_issuer, self.unknown = (
            certificates.create_issuer(root, FileSigner(key), FileSigner(own).public_key, batch, MODEL, 600, 30, begun)
            for root, key, own, batch in (
                (self.root, ROOT, ISSUER, BATCH),
                (self.root, ROOT, OTHER_ISSUER, OTHER_BATCH),
                (self.other_root, OTHER_ROOT, UNKNOWN, BATCH),
            )
        )
        for name, der in (("root", self.root), ("services", self.services_root), ("other", self.other_root)):
            (folder / f"{name}.crt").write_bytes(certificates.to_pem(der))
        self.server(folder / "server.pem", "localhost")
        self.settings = folders.changed(
            None,
            {
                "host_name": "localhost",
                "listen": ("127.0.0.1", free_port("127.0.0.1")),
                "services_listen": ("127.0.0.1", free_port("127.0.0.1")),
                "root": folder / "root.crt",
                "services_root": folder / "services.crt",
                "certificate": folder / "server.pem",
                "ingest": ("ingest",),
                "bridges": {"bridge-a": ("00005e1000000001",), "bridge-b": ("00005e1000000002",)},
                "limits": limits or Limits(),
                "user": folders.own_user(),
            },
        )
        self.allowed: dict[str, str] = {}
        self.revoked: set[int] = set()

    def server(self, path: Path, *hosts: str) -> None:
        credentials.make(
            self.folder / "services.crt",
            FileSigner(SERVICES),
            path,
            service=None,
            hosts=list(hosts),
            days=30,
            now=self.now,
        )

    def device(
        self,
        eui: bytes,
        *,
        batch: str = BATCH,
        at: timedelta = timedelta(0),
        unknown: bool = False,
        allow: bool = True,
    ) -> Peer:
        """A certificate as a station would have it made, at this time from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        csr = x509.CertificateSigningRequestBuilder().subject_name(common_name(eui.hex())).sign(key, SHA256())
        issuer, signer = (self.issuer, ISSUER) if batch == BATCH else (self.other_issuer, OTHER_ISSUER)
        if unknown:
            issuer, signer = self.unknown, UNKNOWN
        der = certificates.issue(csr.public_bytes(Encoding.DER), eui, issuer, FileSigner(signer), self.now + at)
        if allow:
            self.allowed[eui.hex()] = batch
        return self._peer(eui.hex(), key, der)

    def forged(self, subject: x509.Name) -> Peer:
        """What who stole the first batch's issuing key would make: this subject."""
        key, issuer = ec.generate_private_key(ec.SECP256R1()), x509.load_der_x509_certificate(self.issuer)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - timedelta(minutes=1))
            .not_valid_after(self.now + timedelta(days=1))
            .sign(ISSUER, SHA256())
        )
        return self._peer("forged", key, made.public_bytes(Encoding.DER))

    def service(self, name: str) -> Peer:
        path = self.folder / f"{name}-{secrets.token_hex(4)}.pem"
        credentials.make(
            self.folder / "services.crt", FileSigner(SERVICES), path, service=name, hosts=[], days=30, now=self.now
        )
        return Peer(path, x509.load_pem_x509_certificate(path.read_bytes()).serial_number)

    def _peer(self, name: str, key: ec.EllipticCurvePrivateKey, der: bytes) -> Peer:
        path = self.folder / f"{name}-{secrets.token_hex(4)}.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(private + x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM))
        return Peer(path, x509.load_der_x509_certificate(der).serial_number)

    def crl(self, days: int = 7, *, at: timedelta = timedelta(0), both: bool = True) -> bytes:
        now = datetime.now(UTC) + at
        lists = [(self.issuer, ISSUER), (self.other_issuer, OTHER_ISSUER)][: 2 if both else 1]
        revoked = dict.fromkeys(self.revoked, now)
        made = [
            certificates.crl(issuer, FileSigner(key), revoked if issuer == self.issuer else {}, days, now)
            for issuer, key in lists
        ]
        return b"".join(map(certificates.to_pem, made))

    def acl(self) -> str:
        devices = [
            rules.Client(f"CN={eui},OU={batch}", (f"sb/v1/d/{eui}/up",), (f"sb/v1/d/{eui}/down",))
            for eui, batch in self.allowed.items()
        ]
        return rules.acl(devices) + folders.services_rules(self.settings)

    def write(self, settings: Settings | None = None, crl: bytes | None = None) -> Written:
        issuers = (self.issuer, self.other_issuer)
        return folders.write(
            self.home,
            settings or self.settings,
            self.acl(),
            len(self.allowed),
            issuers,
            crl or self.crl(),
            datetime.now(UTC),
        )

    @contextmanager
    def broker(self, kind: type[Broker]) -> Iterator[Broker]:
        self.write()
        with kind(folder=self.home) as running:
            yield running

    # from the client's side

    def context(self, peer: Peer | None, authority: str = "services.crt") -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.folder / authority))
        if peer:
            context.load_cert_chain(peer.pem)
        return context

    def refusal(self, peer: Peer | None, *, door: str = "devices", context: ssl.SSLContext | None = None) -> str:
        """The TLS error that a connection of this peer ends with; empty: it does not end so."""
        try:
            with (
                socket.create_connection(self._door(door), WAIT_S) as raw,
                (context or self.context(peer)).wrap_socket(raw, server_hostname="localhost") as link,
            ):
                link.settimeout(2)
                # in TLS 1.3 the alert comes after the client's last word; who says more may get a reset in its place
                link.recv(1)
        except TimeoutError:
            return ""
        except ssl.SSLError as error:
            return str(error)
        except ConnectionError:
            pass
        return CLOSED

    def connack(self, peer: Peer, packet: bytes, *, door: str = "devices") -> bytes:
        """What the broker answers to this first packet."""
        with (
            socket.create_connection(self._door(door), WAIT_S) as raw,
            self.context(peer).wrap_socket(raw, server_hostname="localhost") as link,
        ):
            link.sendall(packet)
            try:
                return link.recv(4)
            except OSError:
                return b""

    def _door(self, door: str) -> tuple[str, int]:
        return self.settings.listen if door == "devices" else self.settings.services_listen

    def client(self, peer: Peer, *, door: str = "devices", name: str = "", clean: bool = True) -> "Client":
        return Client(self.context(peer), self._door(door), name or secrets.token_hex(4), clean)


class Client:
    """A paho client (MQTT 3.1.1) that collects what it gets."""

    def __init__(self, context: ssl.SSLContext, door: tuple[str, int], name: str, clean: bool = True) -> None:
        self.got: list[tuple[str, bytes]] = []
        self.lost = threading.Event()
        self._answered = threading.Event()
        self._codes: list[bool] = []
        self._connected = threading.Event()
        self.mqtt = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, clean_session=clean)
        self.mqtt.tls_set_context(context)
        self.mqtt.on_message = lambda _client, _data, message: self.got.append((message.topic, bytes(message.payload)))
        self.mqtt.on_connect = self._on_connect
        self.mqtt.on_subscribe = self._on_subscribe
        self.mqtt.on_disconnect = lambda *_: self.lost.set()
        self.mqtt.reconnect_delay_set(60, 60)  # who was ended stays away
        self.mqtt.connect("localhost", door[1], keepalive=30)
        self.mqtt.loop_start()
        assert self._connected.wait(WAIT_S), "not let in"

    def _on_connect(self, *arguments: object) -> None:
        if not arguments[3].is_failure:  # type: ignore[attr-defined]
            self._connected.set()

    def _on_subscribe(self, *arguments: object) -> None:
        self._codes = [code.is_failure for code in arguments[3]]  # type: ignore[attr-defined]
        self._answered.set()

    def subscribe(self, topic: str) -> bool:
        """Whether it was granted."""
        self._answered.clear()
        self.mqtt.subscribe(topic, qos=1)
        assert self._answered.wait(WAIT_S), "no SUBACK"
        return not any(self._codes)

    def publish(self, topic: str, payload: bytes) -> None:
        """QoS 1, and wait for the broker's acknowledgement: it has passed the message on, or dropped it, by then."""
        self.mqtt.publish(topic, payload, qos=1).wait_for_publish(WAIT_S)

    def wait(self, count: int) -> list[tuple[str, bytes]]:
        limit = time.monotonic() + WAIT_S
        while len(self.got) < count:
            assert time.monotonic() < limit, f"{len(self.got)} of {count} messages"
            time.sleep(0.01)
        return self.got

    def close(self) -> None:
        self.mqtt.disconnect()
        self.mqtt.loop_stop()


def common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def name_of(unit: str, text: str, kind: x509.ObjectIdentifier = NameOID.ORGANIZATIONAL_UNIT_NAME) -> x509.Name:
    return x509.Name([x509.NameAttribute(kind, unit), x509.NameAttribute(NameOID.COMMON_NAME, text)])
