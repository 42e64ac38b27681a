"""The store of frames: what is written in the transaction of one batch, and what is read back for a sync.

The replay guard is the table's own constraint on (device, epoch, ctr). Frames are inserted in one statement that
skips what is there already and names what it stored, so two workers, two gateways and a crash between the commit and
the broker's acknowledgement all come to the same answer. No function here begins or ends a transaction.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import Count

from host_tools.ingest.models import Contact, Frame, Refusal
from provisioning.registry.models import Device
from provisioning.registry.vault import Vault
from sealwire.frame import CTR_MAX
from sealwire.messages import SYNC_BITMAP_LEN

FRAMES_A_STATEMENT = 64
VAULTS_MAX = 4096

# (device, epoch, ctr)
Number = tuple[int, int, int]

_FRAME_COLUMNS = (
    "device_id",
    "epoch",
    "ctr",
    "received_at_ms",
    "message_type",
    "fault",
    "t_first",
    "t_last",
    "payload_wrapped",
    "link",
    "gateway",
    "rssi",
    "snr",
)


@dataclass(frozen=True, slots=True)
class Row:
    """A frame as the table holds it; see `models.Frame`."""

    device: int
    epoch: int
    ctr: int
    received_at_ms: int
    message_type: int | None
    fault: str
    t_first: int | None
    t_last: int | None
    payload_wrapped: bytes
    link: str
    gateway: str
    rssi: float | None
    snr: float | None

    @property
    def number(self) -> Number:
        """What makes it the same frame again."""
        return self.device, self.epoch, self.ctr

    def columns(self) -> tuple[Any, ...]:
        """Values in the order of the insert statement."""
        return (
            *self.number,
            self.received_at_ms,
            self.message_type,
            self.fault,
            self.t_first,
            self.t_last,
            self.payload_wrapped,
            self.link,
            self.gateway,
            self.rssi,
            self.snr,
        )


class Payloads:
    """Seals plaintexts for the table and opens them again, each device's under a key of its own.

    Attributes:
        vault: the registry's.
    """

    def __init__(self, vault: Vault) -> None:
        self.vault = vault
        self._vaults: dict[bytes, Vault] = {}

    def wrap(self, plaintext: bytes, eui: bytes, epoch: int, ctr: int) -> bytes:
        """Seal a plaintext; bound to its frame's number, so that no row can be given another row's."""
        return self._of(eui).wrap(plaintext, _payload_label(eui, epoch, ctr))

    def unwrap(self, wrapped: bytes, eui: bytes, epoch: int, ctr: int) -> bytes:
        """Open a plaintext again; VaultError if it is not this frame's."""
        return self._of(eui).unwrap(wrapped, _payload_label(eui, epoch, ctr))

    def _of(self, eui: bytes) -> Vault:
        vault = self._vaults.get(eui)
        if vault is None:
            if len(self._vaults) >= VAULTS_MAX:
                self._vaults.clear()
            vault = self._vaults[eui] = self.vault.derived(b"frames" + eui)
        return vault


def _payload_label(eui: bytes, epoch: int, ctr: int) -> bytes:
    return b"frame" + eui + epoch.to_bytes(4, "big") + ctr.to_bytes(2, "big")


def insert(rows: Iterable[Row]) -> set[Number]:
    """Store the frames that are not stored yet; returns which."""
    # one order for all writers, so that two of them wait for each other only one way
    ordered = sorted({row.number: row for row in rows}.values(), key=lambda row: row.number)
    stored: set[Number] = set()
    place = f"({', '.join(['%s'] * len(_FRAME_COLUMNS))})"
    with connection.cursor() as cursor:
        for start in range(0, len(ordered), FRAMES_A_STATEMENT):
            part = ordered[start : start + FRAMES_A_STATEMENT]
            cursor.execute(
                f"INSERT INTO {Frame._meta.db_table} ({', '.join(_FRAME_COLUMNS)})"  # noqa: S608 no input in it
                f" VALUES {', '.join([place] * len(part))}"
                " ON CONFLICT (device_id, epoch, ctr) DO NOTHING RETURNING device_id, epoch, ctr",
                [value for row in part for value in row.columns()],
            )
            stored.update(cursor.fetchall())
    return stored


def stored_counters(device: int, epoch: int, at_most: int = CTR_MAX) -> list[int]:
    """The newest stored counters of an epoch, newest first: as many as a sync can speak of.

    Args:
        at_most: only counters up to this one.
    """
    with connection.cursor() as cursor:
        # one for every answer: written out, it costs a tenth of what building the query does
        cursor.execute(
            f"SELECT ctr FROM {Frame._meta.db_table} WHERE device_id = %s AND epoch = %s AND ctr <= %s"  # noqa: S608
            " ORDER BY ctr DESC LIMIT %s",
            (device, epoch, at_most, SYNC_BITMAP_LEN + 1),
        )
        return [ctr for (ctr,) in cursor.fetchall()]


def last_answers(devices: Iterable[int]) -> dict[int, tuple[int, str]]:
    """When each device was last answered or an answer was promised it, Unix milliseconds, and over which link."""
    times: dict[int, tuple[int, str]] = defaultdict(lambda: (0, ""))
    # two workers to which the same frame is replayed must not both answer it
    rows = Contact.objects.select_for_update().filter(device_id__in=set(devices)).order_by("pk")
    times.update((device, (at, link)) for device, at, link in rows.values_list("pk", "promised_at_ms", "promised_link"))
    return times


def note_promised(devices: Mapping[int, str], at_ms: int) -> None:
    """Say of these devices that they will be answered, over this link: no other worker is to do it meanwhile."""
    for link in sorted(set(devices.values())):
        concerned = [device for device, over in devices.items() if over == link]
        Contact.objects.filter(device_id__in=concerned).update(promised_at_ms=at_ms, promised_link=link)


def lock_contacts(devices: Iterable[int]) -> None:
    """Let no other worker answer these devices before this transaction ends."""
    list(Contact.objects.select_for_update().filter(device_id__in=set(devices)).order_by("pk").values_list("pk"))


def note_heard(heard: Iterable[Row]) -> None:
    """Say of each device that this frame, one a device, is the last that was heard of it."""
    Contact.objects.bulk_create(
        (
            Contact(
                device_id=row.device,
                heard_at_ms=row.received_at_ms,
                epoch=row.epoch,
                ctr=row.ctr,
                link=row.link,
                gateway=row.gateway,
                rssi=row.rssi,
                snr=row.snr,
            )
            for row in sorted(heard, key=lambda row: row.device)
        ),
        update_conflicts=True,
        unique_fields=["device"],
        update_fields=["heard_at_ms", "epoch", "ctr", "link", "gateway", "rssi", "snr"],
    )


def note_answered(synced: Iterable[int], commanded: Iterable[int], at_ms: int) -> None:
    """Say of these devices that they are answered now: with a sync, or with a command in its place."""
    for devices, is_command in ((set(synced), False), (set(commanded), True)):
        if devices:
            Contact.objects.filter(device_id__in=devices).update(synced_at_ms=at_ms, commanded=is_command)


def note_releases(releases: Mapping[int, int]) -> None:
    """Keep the release sequence that each device says it runs."""
    for device, release in sorted(releases.items()):
        Device.objects.filter(pk=device).exclude(release=release).update(release=release)


def count_refusals(reasons: Counter[str], at_ms: int) -> None:
    """Add to the refusals by reason."""
    table = Refusal._meta.db_table
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {table} (reason, count, last_at_ms) VALUES (%s, %s, %s) ON CONFLICT (reason)"  # noqa: S608
            f" DO UPDATE SET count = {table}.count + excluded.count, last_at_ms = excluded.last_at_ms",
            [(reason, count, at_ms) for reason, count in sorted(reasons.items())],
        )


def refusals() -> Mapping[str, int]:
    """How often something was refused, by reason."""
    return dict(Refusal.objects.order_by("reason").values_list("reason", "count"))


def contacts() -> list[dict[str, Any]]:
    """When each device was last heard and answered (Unix seconds), over what, and how many of its frames are stored.

    `number` is the device's primary key.
    """
    rows = Contact.objects.select_related("device").annotate(frames=Count("device__frames")).order_by("device__eui")
    return [
        {
            "device": row.device.label,
            "heard_at": row.heard_at_ms / 1000,
            "answered_at": row.synced_at_ms / 1000,
            "link": row.link,
            "gateway": row.gateway,
            "rssi": row.rssi,
            "snr": row.snr,
            "epoch": row.epoch,
            "frames": row.frames,
            "release": row.device.release,
            "number": row.device_id,
        }
        for row in rows
    ]
