"""A whole installation in one process: registry, releases, broker, radio medium, gateway, ingest, for boards to join.

Puts the real parts together and takes them apart again, whatever happens; decides nothing and shows nothing. Used by
the demo and by the end-to-end tests. One process can have one site after another, not two at once: the database
connection is Django's, which is one for a process.
"""

import contextlib
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boards
from host_tools.gateway.bridge import Bridge
from host_tools.gateway.broker import EmbeddedBroker
from host_tools.ingest import definitions
from host_tools.release.flash import Cellular
from host_tools.sim.board import VirtualBoard
from host_tools.sim.clock import SimClock
from host_tools.sim.ether import Ether
from host_tools.sim.forwarder import Forwarder
from host_tools.sim.outfit import Outfit, outfit
from host_tools.sim.pipeline import Pipeline
from host_tools.sim.site_broker import BRIDGE, DAYS, INGEST, SiteBroker
from host_tools.sim.wearer import Wearer
from provisioning import certificates, registry, signers
from provisioning.registry import masters
from provisioning.registry.vault import Vault
from provisioning.station import bench
from provisioning.station.journal import CERTIFIED, Journal
from provisioning.station.link import Link
from provisioning.tickets import TicketFile

if TYPE_CHECKING:
    from host_tools.ingest.intake import Refusal, Stored
    from host_tools.ingest.worker import IngestWorker
    from host_tools.rollout.service import Rollouts
    from provisioning.registry.services import ImportResult

GATEWAY = "00005e1000000001"
ROOT = Path(__file__).resolve().parents[2]
DEVICE = ROOT / "device"
LOCK = ROOT / "requirements.lock"
APPS = ("host_tools.ingest", "host_tools.rollout")
NO_WAY_DB = 250.0
WIFI = ("ward", "sealed-by-the-band")


class SiteError(Exception):
    """The installation cannot be set up here; `remedy` says what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


class Site:
    """The installation. A context manager; on leaving, everything that it started ends.

    Args:
        directory: gets `registry.db`, the keys, the journal and a folder for each board.
        clock: the virtual clock of everything in it.
        on_frame: called, in the ingest thread, for each frame that was stored.
        on_refused: called there for each that was refused.
        loss: chance that a receiver misses a packet, 0 to 1.
        seed: makes loss, fading and wearers repeatable.
        mosquitto: run mosquitto, with certificates and rules as in earnest, in place of the embedded broker.
        app: an application in place of the example `device/app.py`; what its own records and events are called is read
            from a `records.py` beside it.
        model: name of the board definition.
        gateways: how many hear the boards, 1 to 9.
        region: whose rules the ether holds every packet against; None: nobody's.

    Attributes:
        ether, bridge, worker, vault, pipeline, rollouts: the running parts.
        forwarders: the gateways; `forwarder` is the first.
        broker: the broker.
        boards: the virtual boards, in the order in which they joined.
        enrolled: EUI in hex of those that were enrolled, by their name.
    """

    broker: EmbeddedBroker | SiteBroker
    ether: Ether
    bridge: Bridge
    forwarders: list[Forwarder]
    worker: "IngestWorker"
    vault: Vault
    pipeline: Pipeline
    rollouts: "Rollouts"

    def __init__(
        self,
        directory: Path,
        clock: SimClock,
        *,
        on_frame: "Callable[[Stored], None] | None" = None,
        on_refused: "Callable[[Refusal], None] | None" = None,
        loss: float = 0.0,
        seed: int = 0,
        mosquitto: bool = False,
        app: Path | None = None,
        model: str = "VIRTUAL",
        gateways: int = 1,
        region: str | None = None,
    ) -> None:
        self.directory = directory
        self.clock = clock
        self.boards: list[VirtualBoard] = []
        self.enrolled: dict[str, str] = {}
        self._board = boards.load(model)
        self._callbacks = {"on_frame": on_frame, "on_refused": on_refused}
        self._loss = loss
        self._seed = seed
        self._mosquitto = mosquitto
        self._app = app
        self._gateways = tuple(f"{GATEWAY[:-1]}{number + 1}" for number in range(gateways))
        self._region = region
        self._secured: SiteBroker | None = None
        self._undo = ExitStack()

    def __enter__(self) -> "Site":
        try:
            self._start()
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _start(self) -> None:
        if not (DEVICE / "lib").is_dir() or not LOCK.is_file():
            raise SiteError("the device code is not beside this package", "run it in a clone of the repository")
        self.directory.mkdir(parents=True, exist_ok=True)
        self.pipeline = self._undo.enter_context(Pipeline(self.directory, self._board, DEVICE, LOCK, self.clock.now))
        self._tree = self.directory / "firmware"
        first = self.pipeline.release(1, "1.0", self._app)
        self.pipeline.publish(first)
        self._open_registry()
        if self._mosquitto:
            self._secured = SiteBroker(self.directory, self.vault, self._gateways, mosquitto=True)
        self.pipeline.flash_tree(first, self._tree, WIFI, **self._links())
        broker: EmbeddedBroker | SiteBroker = self._secured or EmbeddedBroker()
        self._undo.enter_context(broker)
        self.broker = broker
        self.ether = self._undo.enter_context(Ether(self.clock, seed=self._seed, loss=self._loss, region=self._region))
        self._undo.callback(lambda: self.worker.stop())
        self.start_worker()
        secured = self._secured
        prepare = (lambda client: client.tls_set_context(secured.tls(BRIDGE))) if secured else None
        self.bridge = Bridge("127.0.0.1", 0, broker.host, broker.port, self.clock.now, prepare=prepare)
        self._undo.enter_context(self.bridge)
        assert self.ether.address is not None
        self.forwarders = []
        for gateway in self._gateways:
            forwarder = Forwarder(gateway, ("127.0.0.1", self.bridge.udp_port), self.ether.address, self.clock)
            self.forwarders.append(self._undo.enter_context(forwarder))
            if not forwarder.wait_connected():
                raise SiteError(
                    "the simulated gateway does not reach the bridge", "look whether loopback UDP is blocked"
                )

    def _links(self) -> dict[str, Any]:
        """What boards are told for links to the broker."""
        if self._secured is None:
            return {}
        return {
            "ca_der": self._secured.services_root,
            "broker": (self._secured.host, self._secured.devices[1]),
            "cellular": Cellular("sealband.example"),
        }

    def start_worker(self) -> None:
        """Start ingest; also again, after `worker.stop()`."""
        from host_tools.ingest.answers import COPIES_S
        from host_tools.ingest.worker import IngestWorker
        from host_tools.rollout.service import Rollouts
        from host_tools.rollout.tracker import Tracker

        secured = self._secured
        tracker = Tracker(self.vault, self.clock.now)
        self.rollouts = Rollouts(self.vault, "site", self.clock.now)
        self.worker = IngestWorker(
            self.broker.host,
            self.broker.port,
            self.vault,
            self.clock.now,
            newest_release=tracker.newest_release,
            observers=[tracker],
            # where nobody else can have heard it, an answer need not wait for what others heard
            copies_s=COPIES_S if len(self._gateways) > 1 else 0.0,
            shared=secured.shared if secured else "ingest",
            tls=secured.tls(INGEST) if secured else None,
            **self._callbacks,  # type: ignore[arg-type]
        )
        self.worker.start()

    @property
    def forwarder(self) -> Forwarder:
        """The first gateway."""
        return self.forwarders[0]

    def _open_registry(self) -> None:
        key_file, batch_key = self.directory / "master.key", self.directory / "batches.pem"
        masters.create_master(key_file)
        registry.setup(self.directory / "registry.db", extra_apps=APPS)
        self._undo.callback(_disconnect)
        from provisioning.registry import keyring, services

        self.vault = keyring.create_vault(f"file:{key_file}")
        services.init_registry(self.vault, actor="site", clock=self.clock.now)
        self._define()
        signers.create_file_key(batch_key)
        self._signer = signers.open_signer(f"file:{batch_key}")

    def _define(self) -> None:
        """Take over what the application's own records and events are called: its `records.py`, if there is one."""
        from host_tools.ingest import meanings

        path = (self._app or DEVICE / "app.py").with_name(definitions.FILE)
        if path.is_file():
            definition = definitions.read(path.read_text(encoding="utf-8", errors="replace"), path.name)
            meanings.define(self.vault, definition, self.clock.now, "site")

    def issue(self, count: int) -> TicketFile:
        """A batch of so many tickets for this site's model, also in `tickets.json`.

        With mosquitto it has an issuing certificate, so its boards get certificates for the broker.
        """
        from provisioning.registry import issuers, services

        path = self.directory / "tickets.json"
        file = services.issue_batch(
            self.vault, self._signer, self._board.model, count, out=path, actor="site", clock=self.clock.now
        )
        if self._secured is None:
            return file
        self._issuer = signers.create_file_key(self.directory / "issuing.pem")
        path = self.directory / "tickets-with-issuer.json"
        issuers.create_issuer(
            self.vault,
            file.batch,
            self._secured.root,
            signers.open_signer(self._secured.root_key),
            self._issuer.public_key,
            self._signer,
            days=DAYS,
            device_days=DAYS // 2,
            out=path,
            actor="site",
        )
        self._secured.renew()
        return TicketFile.from_bytes(path.read_bytes())

    def board(
        self,
        name: str,
        mac: bytes,
        wearer: Wearer,
        *,
        fit: Callable[[Outfit], Outfit] = lambda fitted: fitted,
        **settings: Any,
    ) -> VirtualBoard:
        """A new virtual board on this wearer, with release 1 installed, running and not enrolled.

        Args:
            fit: may put something else in the place of the parts that the board is to have.
        """
        fitted = fit(outfit(self._board, wearer, self.clock))
        board = VirtualBoard(
            self.directory / name,
            name=name,
            mac=mac,
            clock=self.clock,
            **fitted.arguments,
            ether=self.ether.address,
            wifi=dict(zip(("ssid", "key"), WIFI, strict=True)),
            **settings,
        )
        board.install(self._tree)
        self._undo.enter_context(board)
        self.boards.append(board)
        return board

    def cover(self, name: str, covered: bool) -> None:
        """Take the board of this name out of all gateways' range, or bring it back."""
        for forwarder in self.forwarders:
            self.ether.set_path_loss(name, forwarder.radio_name, None if covered else NO_WAY_DB)

    def enrol(self, board: VirtualBoard, tickets: TicketFile, journal: Path | None = None) -> bench.Enrolled:
        """Give the board its identity through the real mpremote, and boot it; by default in the site's journal."""
        with Journal.open(journal or self.directory / "journal.jsonl", clock=self.clock.now) as opened:
            link = Link(board.port)
            done = bench.enrol(link, tickets, opened, clock=self.clock.now, restart=not tickets.issuer)
            if tickets.issuer:
                self._certify(link, tickets, done, opened)
                link.restart()
        self.enrolled[board.name] = done.record.eui.hex()
        return done

    def _certify(self, link: Link, tickets: TicketFile, done: bench.Enrolled, journal: Journal) -> None:
        # by real time, as the broker judges
        eui, now = done.record.eui, datetime.now(UTC)
        certificate = certificates.issue(link.csr(), eui, tickets.issuer, self._issuer, now, tickets.batch)
        link.store_certificate(certificate)
        ticket = done.record.ticket_id.hex()
        journal.append(CERTIFIED, ticket=ticket, eui=eui.hex(), certificate=certificate.hex())

    def take(self, journal: Path | None = None) -> "ImportResult":
        """Import a station's journal into the registry."""
        from provisioning.registry import services

        path = journal or self.directory / "journal.jsonl"
        result = services.import_journal(path, self.vault, actor="site", clock=self.clock.now)
        if isinstance(self.broker, SiteBroker):
            self.broker.renew()
        return result


def _disconnect() -> None:
    from django.db import connections

    with contextlib.suppress(Exception):
        connections.close_all()
