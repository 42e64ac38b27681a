"""The broker of a simulated site, configured as a real one is: authorities of its own, certificates, rules, two doors.

Made by the same code as `sealband broker config`; only the keys are thrown away with the site's folder. The registry
must be open. Certificates are judged by real time, whatever time the site plays.
"""

import ssl
import time
from datetime import UTC, datetime
from pathlib import Path

from host_tools.broker import credentials
from host_tools.broker import folder as folders
from host_tools.broker.folder import Settings
from host_tools.gateway.broker import EmbeddedBroker, MosquittoBroker, free_port
from provisioning import certificates, signers
from provisioning.registry.vault import Vault

HOST = "localhost"
DAYS = 30
INGEST, BRIDGE = "ingest", "bridge"


class SiteBroker:
    """A broker with TLS, client certificates and rules. A context manager.

    Args:
        directory: gets the keys, the certificates and the broker's folder `broker`.
        vault: of the site's registry.
        gateways: EUIs of the site's gateways.
        mosquitto: mosquitto, or else amqtt.

    Attributes:
        host, port: the services' door.
        devices: address of the devices' door.
        shared: the group of ingest workers.
        root, root_key: the devices' authority: its certificate (DER) and the URI of its key.
        services_root: what signed the broker's certificate, for clients: DER.
        authority: PEM file of it.
    """

    def __init__(self, directory: Path, vault: Vault, gateways: tuple[str, ...], *, mosquitto: bool) -> None:
        self._directory = directory
        self._folder = directory / "broker"
        self._vault = vault
        self._now = datetime.now(UTC)
        self.root_key, services_key = (self._key(name) for name in ("devices-root", "services-root"))
        self.root = certificates.create_root(signers.open_signer(self.root_key), "Site", DAYS * 2, self._now)
        self._services_signer = signers.open_signer(services_key)
        self.services_root = certificates.create_root(self._services_signer, "Site's services", DAYS * 2, self._now)
        self.authority = self._pem("services-root.crt", self.services_root)
        self._made: dict[str, Path] = {}
        certificate = directory / "broker.pem"
        self._certify(certificate, None)
        self._settings: Settings = folders.changed(
            None,
            {
                "host_name": HOST,
                "listen": ("127.0.0.1", free_port("127.0.0.1")),
                "services_listen": ("127.0.0.1", free_port("127.0.0.1")),
                "root": self._pem("devices-root.crt", self.root),
                "services_root": self.authority,
                "certificate": certificate,
                "ingest": (INGEST,),
                "bridges": {BRIDGE: gateways},
                "user": folders.own_user(),
            },
        )
        self.devices, self.shared = self._settings.listen, self._settings.shared
        self.host, self.port = HOST, self._settings.services_listen[1]
        self.renew()
        self._broker = (MosquittoBroker if mosquitto else EmbeddedBroker)(folder=self._folder)

    def __enter__(self) -> "SiteBroker":
        self._broker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._broker.stop()

    def stop(self) -> None:
        """End it; `start` goes on with what it has kept."""
        self._broker.stop()

    def start(self) -> None:
        """Serve again."""
        self._broker.start()

    def renew(self) -> None:
        """Let in whom the registry lets in now; also after boards were admitted."""
        from host_tools.broker.renewal import renew

        made = renew(self._folder, self._settings, self._vault, signers.open_signer, actor="site", clock=time.time)
        if not hasattr(self, "_broker"):
            return
        if made.restart:
            self.stop()
            self.start()
        else:
            self._broker.reload()

    def tls(self, service: str) -> ssl.SSLContext:
        """How this service connects: its certificate, and the broker's authority alone."""
        if service not in self._made:
            self._made[service] = self._directory / f"service-{service}.pem"
            self._certify(self._made[service], service)
        context = ssl.create_default_context(cafile=str(self.authority))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._made[service])
        return context

    def _key(self, name: str) -> str:
        path = self._directory / f"{name}.pem"
        signers.create_file_key(path)
        return f"file:{path}"

    def _pem(self, name: str, der: bytes) -> Path:
        path = self._directory / name
        path.write_bytes(certificates.to_pem(der))
        return path

    def _certify(self, path: Path, service: str | None) -> None:
        hosts = [] if service else [HOST, "127.0.0.1"]
        credentials.make(
            self.authority, self._services_signer, path, service=service, hosts=hosts, days=DAYS, now=self._now
        )
