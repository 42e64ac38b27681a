"""The registry's tables: batches, tickets, devices, their key chains, and the audit trail. Holds no logic.

Key material is only ever here as `*_wrapped`, sealed by `provisioning.registry.vault`.
"""

from typing import Any, NoReturn

from django.db import models
from django.db.models import F, Q


class Batch(models.Model):
    """So many tickets, issued together for one model of board."""

    model = models.CharField(max_length=32)
    quota = models.PositiveIntegerField()
    created_at = models.DateTimeField()
    name = models.CharField(max_length=32, unique=True)
    signing_key = models.BinaryField(max_length=65)  # public; 04, x, y
    parameters = models.JSONField(default=dict)  # public


class Ticket(models.Model):
    """The right to enrol one board; its private key is destroyed when the board's record was imported."""

    class State(models.TextChoices):
        ISSUED = "issued"
        USED = "used"
        REVOKED = "revoked"

    ticket_id = models.BinaryField(max_length=8, unique=True)
    batch = models.ForeignKey(Batch, on_delete=models.PROTECT, related_name="tickets")
    public_key = models.BinaryField(max_length=65, unique=True)
    private_wrapped = models.BinaryField(max_length=128, null=True)
    state = models.CharField(max_length=8, choices=State.choices, default=State.ISSUED)
    changed_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(state__in=["issued", "used", "revoked"]), name="ticket_state_known"),
            # a ticket that is spent or revoked keeps no secret, and one that is open has it
            models.CheckConstraint(
                condition=Q(state="issued", private_wrapped__isnull=False)
                | (~Q(state="issued") & Q(private_wrapped__isnull=True)),
                name="ticket_secret_only_while_issued",
            ),
        ]


class Device(models.Model):
    """One enrolled board."""

    class State(models.TextChoices):
        ACTIVE = "active"
        SUSPENDED = "suspended"
        RETIRED = "retired"

    eui = models.BinaryField(max_length=8, unique=True)
    public_key = models.BinaryField(max_length=65, unique=True)
    device_nonce = models.BinaryField(max_length=16, unique=True)
    model = models.CharField(max_length=32)
    state = models.CharField(max_length=9, choices=State.choices, default=State.ACTIVE)
    ticket = models.OneToOneField(Ticket, on_delete=models.PROTECT, related_name="device")
    record_digest = models.BinaryField(max_length=32)  # SHA-256 of the signed record, to know it again
    enrolled_at = models.DateTimeField()
    release = models.BigIntegerField(default=0)  # release sequence that it last said it runs

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=["active", "suspended", "retired"]), name="device_state_known"
            ),
        ]

    @property
    def eui_hex(self) -> str:
        """The EUI-64 as people and topics write it: 16 lower-case hex digits."""
        return bytes(self.eui).hex()


class DeviceChain(models.Model):
    """The server's half of a device's key chain: CK of the newest epoch that a frame was opened in."""

    device = models.OneToOneField(Device, on_delete=models.CASCADE, related_name="chain")
    newest_epoch = models.BigIntegerField(default=0)
    ck_wrapped = models.BinaryField(max_length=128)
    previous_ck_wrapped = models.BinaryField(max_length=128, null=True)  # CK[newest_epoch - 1] …
    previous_until = models.DateTimeField(null=True)  # … until then
    # Restored from a backup: downlinks in the epochs before this one may have been sent already, so none is sent there.
    downlink_from_epoch = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(newest_epoch__gte=0, newest_epoch__lt=2**32), name="chain_epoch_in_range"
            ),
            models.CheckConstraint(
                condition=Q(previous_ck_wrapped__isnull=True, previous_until__isnull=True)
                | Q(previous_ck_wrapped__isnull=False, previous_until__isnull=False),
                name="chain_previous_has_an_end",
            ),
        ]


class EpochKey(models.Model):
    """A pseudonym to look for: one row for each epoch from e-1 to e+3 of each device. Holds no key."""

    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="epoch_keys")
    epoch = models.BigIntegerField()
    epoch_bits = models.PositiveSmallIntegerField()  # epoch mod 8
    did = models.BinaryField(max_length=2)
    failures = models.PositiveIntegerField(default=0)
    downlink_ctr = models.PositiveIntegerField(default=0)  # next to use

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["device", "epoch"], name="epoch_key_once"),
            models.CheckConstraint(
                condition=Q(epoch__gte=0, epoch__lt=2**32, epoch_bits=F("epoch") % 8), name="epoch_key_bits_match"
            ),
            models.CheckConstraint(condition=Q(downlink_ctr__lte=65536), name="epoch_key_downlink_ctr_in_range"),
        ]
        indexes = [models.Index(fields=["epoch_bits", "did"], name="epoch_key_candidates")]


class JournalImport(models.Model):
    """How far a station's journal was imported, so that one that was cut or rewritten since then is seen."""

    journal = models.BinaryField(max_length=16, unique=True)  # the random name in its first entry
    entries = models.BigIntegerField()
    head = models.BinaryField(max_length=32)  # digest of the last of them


class DataKey(models.Model):
    """The one key under which the vault seals values, itself wrapped under the master key."""

    wrapped = models.BinaryField(max_length=1024)
    master = models.CharField(max_length=64)  # short name of the master key that wraps it
    changed_at = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="data_key_only_one")]


class AppendOnly(Exception):
    """Somebody tried to change or delete what may only be added to."""


class AuditEvent(models.Model):
    """One event of the audit trail; each holds a MAC over itself and the one before. Written by `audit.append` only."""

    sequence = models.BigIntegerField(primary_key=True)  # 1, 2, 3 … without a gap
    at_ms = models.BigIntegerField()  # Unix time, milliseconds
    event = models.CharField(max_length=48)
    actor = models.CharField(max_length=64)
    subject = models.CharField(max_length=64)
    details = models.TextField()  # canonical JSON, exactly what the MAC covers
    mac = models.BinaryField(max_length=32)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert; refuse to overwrite."""
        kwargs["force_insert"] = True
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse."""
        raise AppendOnly("audit events are never deleted")


class AuditHead(models.Model):
    """The one row that says where the audit trail ends, so that a cut tail is seen."""

    sequence = models.BigIntegerField()
    mac = models.BinaryField(max_length=32)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="audit_head_only_one")]
