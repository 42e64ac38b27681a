"""The registry's tables: batches, tickets, devices, their key chains and claims, and the audit trail. Holds no logic.

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
    service_key = models.BinaryField(max_length=65, default=b"")  # public: its tokens open these boards' local ports


class ModelQuota(models.Model):
    """How many tickets for one model of board may be open at once, and be issued in a day; no row, no limit."""

    model = models.CharField(max_length=32, unique=True)
    open_max = models.PositiveIntegerField()
    a_day_max = models.PositiveIntegerField(null=True)


class Issuer(models.Model):
    """The certificate of the key that signs the TLS certificates of a batch's devices; the newest one counts."""

    batch = models.ForeignKey(Batch, on_delete=models.PROTECT, related_name="issuers")
    certificate = models.BinaryField(max_length=4096)  # DER
    public_key = models.BinaryField(max_length=65)
    created_at = models.DateTimeField()
    ends_at = models.DateTimeField()


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
    """One identity of a board: what was made of one ticket. A board that is enrolled again gets another one."""

    class State(models.TextChoices):
        ENROLLED = "enrolled"  # admitted, and not heard of yet
        ACTIVE = "active"
        SUSPENDED = "suspended"  # refused until it is resumed
        RETIRING = "retiring"  # told to retire, and heard until its receipt comes
        REVOKED = "revoked"  # refused for good; the server has destroyed its keys
        RETIRED = "retired"  # ended; the server has destroyed its keys

    eui = models.BinaryField(max_length=8)
    public_key = models.BinaryField(max_length=65, unique=True)
    device_nonce = models.BinaryField(max_length=16, unique=True)
    model = models.CharField(max_length=32)
    state = models.CharField(max_length=9, choices=State.choices, default=State.ENROLLED)
    changed_at = models.DateTimeField(null=True)  # when it came into this state
    ticket = models.OneToOneField(Ticket, on_delete=models.PROTECT, related_name="device")
    record_digest = models.BinaryField(max_length=32)  # SHA-256 of the signed record, to know it again
    enrolled_at = models.DateTimeField()
    active_at = models.DateTimeField(null=True)  # when its first frame was opened
    proven_at = models.DateTimeField(null=True)  # when a frame that it sealed at the station was opened
    release = models.BigIntegerField(default=0)  # release sequence that it last said it runs
    # null: the board's present identity, which its EUI means. 1, 2 …: it was the first, second … and another followed.
    former = models.PositiveIntegerField(null=True)
    reenrol_at = models.DateTimeField(null=True)  # retired, and since then another identity may follow

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=["enrolled", "active", "suspended", "retiring", "revoked", "retired"]),
                name="device_state_known",
            ),
            models.UniqueConstraint(fields=["eui"], condition=Q(former__isnull=True), name="device_eui_once"),
            models.UniqueConstraint(fields=["eui", "former"], name="device_former_once"),
            models.CheckConstraint(
                condition=Q(former__isnull=True, reenrol_at__isnull=True) | Q(state="retired"),
                name="device_former_is_retired",
            ),
        ]

    @property
    def eui_hex(self) -> str:
        """The EUI-64 as people and topics write it: 16 lower-case hex digits."""
        return bytes(self.eui).hex()

    @property
    def label(self) -> str:
        """What tells it from all others: the EUI, and of an identity that another followed `.1`, `.2` … behind it."""
        return self.eui_hex if self.former is None else f"{self.eui_hex}.{self.former}"


class Certificate(models.Model):
    """A TLS certificate of a device; the certificate itself is the device's, and not kept."""

    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="certificates")
    issuer = models.ForeignKey(Issuer, on_delete=models.PROTECT, related_name="certificates")
    serial = models.CharField(max_length=40)  # lower-case hex
    digest = models.BinaryField(max_length=32, unique=True)  # SHA-256 of its DER
    ends_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["issuer", "serial"], name="certificate_serial_once")]


class Claim(models.Model):
    """Whose a device is. Of the secret on its label there is a digest only."""

    device = models.OneToOneField(Device, on_delete=models.CASCADE, primary_key=True, related_name="claim")
    digest = models.BinaryField(max_length=32)
    account = models.CharField(max_length=64, blank=True)  # wearer or account; empty: nobody's
    claimed_at = models.DateTimeField(null=True)
    failures = models.PositiveSmallIntegerField(default=0)  # wrong secrets in a row
    locked_until = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(account="", claimed_at__isnull=True) | (~Q(account="") & Q(claimed_at__isnull=False)),
                name="claim_has_a_time",
            ),
        ]


class DeviceChain(models.Model):
    """The server's half of a device's key chain: CK of the newest epoch that a frame was opened in."""

    device = models.OneToOneField(Device, on_delete=models.CASCADE, related_name="chain")
    newest_epoch = models.BigIntegerField(default=0)
    ck_wrapped = models.BinaryField(max_length=128)
    previous_ck_wrapped = models.BinaryField(max_length=128, null=True)  # CK[newest_epoch - 1] …
    previous_until = models.DateTimeField(null=True)  # … until then
    # The device was sent a rekey in the newest epoch: if it carries it out, it goes on with this CK[newest_epoch + 1]
    # in place of the ratchet's. Wrapped with it, the command's random part: it is the same until the epoch is over.
    rekeyed_wrapped = models.BinaryField(max_length=128, null=True)
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
    rekeyed = models.BooleanField(default=False)  # of the chain that a rekey would begin
    failures = models.PositiveIntegerField(default=0)
    downlink_ctr = models.PositiveIntegerField(default=0)  # next to use

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["device", "epoch", "rekeyed"], name="epoch_key_once"),
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
