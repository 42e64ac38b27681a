"""A registry in a temporary SQLite file, with devices whose keys the test knows. For tests and benches of ingest.

Import it before anything of `host_tools.ingest` that has models, and take those from here: it connects Django.

Devices are put into the tables as an import leaves them; `Wearable` seals what such a device would send, from the
text of the wire format (`tests.support.frames`), and opens what it is answered.
"""

import os
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cbor2
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from django.db import connections

from host_tools.gateway.envelope import Downlink, Uplink, uplink_topic
from provisioning import keys, registry
from provisioning.registry.vault import Vault, chain_label
from tests.support.frames import seal_uplink

registry.setup(":memory:", extra_apps=("host_tools.ingest", "host_tools.rollout"))

from host_tools.ingest import chains, export, intake, models, readings, store, worker  # noqa: E402
from host_tools.ingest.intake import Arrival, Intake, Outcome  # noqa: E402
from provisioning.registry import services  # noqa: E402
from provisioning.registry.models import AuditEvent, Batch, Device, DeviceChain, EpochKey, Ticket  # noqa: E402

__all__ = [
    "AuditEvent",
    "Device",
    "DeviceChain",
    "EpochKey",
    "chains",
    "export",
    "intake",
    "models",
    "readings",
    "store",
    "worker",
]

NOW = 1_790_000_000.0  # 2026-09-21, Unix seconds
T0 = int(NOW) - 1735689600 - 600  # ten minutes before, as messages count
MASTER_KEY = bytes(range(32))
GATEWAY = "00005eff0000a101"
OTHER_GATEWAY = "00005eff0000a102"


class Clock:
    """A clock that a test moves."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass
class Wearable:
    """A device's keys and what it does with them."""

    pk: int
    eui: bytes
    root: bytes
    ctr: dict[int, int] = field(default_factory=dict)

    def ck(self, epoch: int) -> bytes:
        ck = self.root
        for _ in range(epoch):
            ck = keys.ratchet(ck)
        return ck

    def keys(self, epoch: int) -> keys.EpochKeys:
        return keys.epoch_keys(self.ck(epoch), self.eui)

    def seal(self, plaintext: bytes, epoch: int = 0, ctr: int | None = None, *, hello: bool = False) -> bytes:
        """A frame; counters go up by themselves."""
        if ctr is None:
            ctr = self.ctr.get(epoch, 0)
        self.ctr[epoch] = max(self.ctr.get(epoch, 0), ctr + 1)
        return seal_uplink(self.keys(epoch), self.eui, epoch, ctr, plaintext, hello=hello)

    def open(self, frame: bytes, epoch: int = 0) -> tuple[int, list[Any]]:
        """(downlink counter, items of the message) of an answer, opened from the text of the wire format."""
        own = self.keys(epoch)
        assert frame[0] == 0b11100000 | epoch % 8
        assert frame[1:3] == own.did
        head, ctr = frame[:1], frame[3:5]
        nonce = (int.from_bytes(own.id, "big") ^ int.from_bytes(ctr, "big")).to_bytes(13, "big")
        aad = cbor2.dumps(["Encrypt0", bytes.fromhex("a1010a"), head + self.eui + epoch.to_bytes(4, "big") + ctr])
        return int.from_bytes(ctr, "big"), sequence(AESCCM(own.kd, tag_length=8).decrypt(nonce, frame[5:], aad))


def sequence(data: bytes) -> list[Any]:
    """The items of a CBOR sequence."""
    items, position = [], 0
    while position < len(data):
        item = cbor2.loads(data[position:])
        items.append(item)
        position += len(cbor2.dumps(item, canonical=True))
    return items


def message(*items: Any) -> bytes:
    """The plaintext of these items."""
    return b"".join(cbor2.dumps(item, canonical=True) for item in items)


def telemetry(*values: int | None, record: int = 1, interval_s: int = 10, t0: int = T0) -> bytes:
    """A telemetry message of one series, given by its values."""
    differences, last = [], 0
    for value in values:
        differences.append(None if value is None else value - last)
        last = last if value is None else value
    return message(0, t0, [record, interval_s, *differences])


@cache
def _template() -> TemporaryDirectory[str]:
    folder = TemporaryDirectory(prefix="sealband-template-")
    registry.setup(Path(folder.name, "registry.db"), extra_apps=("host_tools.ingest", "host_tools.rollout"))
    services.init_registry(Vault(MASTER_KEY))
    connections.close_all()
    return folder


class Fleet:
    """A registry of its own for one test; `close` when done."""

    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        self.path = folder / "registry.db"
        self.clock = clock or Clock()
        self.vault = Vault(MASTER_KEY)
        for file in Path(_template().name).iterdir():
            shutil.copy(file, folder / file.name)
        registry.setup(self.path, extra_apps=("host_tools.ingest", "host_tools.rollout"))

    def add(self, eui: bytes | None = None, root: bytes | None = None, model: str = "test-band") -> Wearable:
        """Enrol a device, as an import and its first frame leave it."""
        eui, root = eui or b"\x02" + os.urandom(7), root or os.urandom(32)
        now = datetime.fromtimestamp(self.clock() - 86400, UTC)
        batch, _ = Batch.objects.get_or_create(
            name="test", defaults={"model": model, "quota": 10000, "created_at": now, "signing_key": bytes(65)}
        )
        ticket = Ticket.objects.create(
            ticket_id=os.urandom(8), batch=batch, public_key=os.urandom(65), state=Ticket.State.USED, changed_at=now
        )
        device = Device.objects.create(
            eui=eui,
            public_key=os.urandom(65),
            device_nonce=os.urandom(16),
            model=model,
            state=Device.State.ACTIVE,
            active_at=now,
            ticket=ticket,
            record_digest=os.urandom(32),
            enrolled_at=now,
        )
        DeviceChain.objects.create(device=device, ck_wrapped=self.vault.wrap(root, chain_label(eui, 0)))
        EpochKey.objects.bulk_create(services.candidate_rows(device, root, 0))
        return Wearable(device.pk, eui, root)

    def intake(self, **options: Any) -> Intake:
        return Intake(self.vault, self.clock, **options)

    def on_disk(self) -> bytes:
        """Every byte that the database has on disk."""
        return b"".join(path.read_bytes() for path in sorted(self.path.parent.glob(self.path.name + "*")))

    def close(self) -> None:
        connections.close_all()


def process(intake: Intake, *messages: tuple[str, bytes], redelivered: bool = False) -> Outcome:
    """One batch of (topic, payload)."""
    return intake.process([Arrival(topic, payload, intake._clock(), redelivered) for topic, payload in messages])


def uplink(
    frame: bytes, gateway: str = GATEWAY, *, at: float = NOW, tmst_us: int = 1_000_000, snr: float = 7.5
) -> tuple[str, bytes]:
    """(topic, payload) of a frame that a gateway heard."""
    heard = Uplink(
        frame=frame,
        gateway=gateway,
        rssi=-71.0,
        snr=snr,
        frequency_hz=868_100_000,
        data_rate="SF7BW125",
        region="EU868",
        context=b"\0" + tmst_us.to_bytes(4, "big"),
        received_at=at,
    )
    return uplink_topic(gateway), heard.to_bytes()


def own_topic(wearable: Wearable, frame: bytes) -> tuple[str, bytes]:
    """(topic, payload) of a frame that a device brings to the broker itself."""
    return f"sb/v1/d/{wearable.eui.hex()}/up", frame


def downlink(publication: tuple[str, bytes]) -> Downlink:
    """What a gateway was told to send."""
    return Downlink.from_bytes(publication[1])


def start_us(answer: Downlink) -> int:
    """When its first gateway sends it, by the clock of a packet forwarder."""
    return (int.from_bytes(answer.routes[0].context[1:], "big") + 1000 * answer.delay_ms) % 2**32
