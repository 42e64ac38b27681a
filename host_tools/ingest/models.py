"""Tables of the store: frames that were opened, who heard them, when devices were heard, commands, refusals,
what an application's own ids mean. No logic.

What a wearer's device said is only ever here as `payload_wrapped`, sealed by the registry's vault. In the clear stand
who, when and over which link: what finding, counting and refusing need.
"""

from datetime import UTC, datetime

from django.db import models
from django.db.models import Q

from provisioning.registry.models import Device


class Frame(models.Model):
    """One frame that was opened. (device, epoch, ctr) is unique: that is the replay guard, and nothing else is."""

    class Link(models.TextChoices):
        LORA = "lora"
        MQTT = "mqtt"  # the device's own topic: LTE or Wi-Fi
        BLE = "ble"  # a courier carried it

    # no index of its own: the unique constraint begins with it
    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="frames", db_index=False)
    epoch = models.BigIntegerField()
    ctr = models.PositiveIntegerField()
    received_at_ms = models.BigIntegerField()  # Unix time
    message_type = models.PositiveSmallIntegerField(null=True)  # null: not a message of this version
    fault = models.CharField(max_length=24, blank=True)  # why it is not to be believed; empty as a rule
    t_first = models.BigIntegerField(null=True)  # seconds since 2025-01-01 UTC
    t_last = models.BigIntegerField(null=True)
    payload_wrapped = models.BinaryField(max_length=512)
    link = models.CharField(max_length=4, choices=Link.choices)
    gateway = models.CharField(max_length=16, blank=True)  # or courier
    rssi = models.FloatField(null=True)  # dBm
    snr = models.FloatField(null=True)  # dB

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["device", "epoch", "ctr"], name="frame_once"),
            models.CheckConstraint(
                condition=Q(epoch__gte=0, epoch__lt=2**32, ctr__gte=0, ctr__lt=2**16), name="frame_number_in_range"
            ),
            models.CheckConstraint(condition=Q(link__in=["lora", "mqtt", "ble"]), name="frame_link_known"),
        ]
        indexes = [models.Index(fields=["device", "t_first"], name="frame_by_time")]

    @property
    def received_at(self) -> datetime:
        """When the gateway or the broker had it, UTC."""
        return datetime.fromtimestamp(self.received_at_ms / 1000, UTC)


class Reception(models.Model):
    """That a gateway heard a stored frame.

    A frame that is repeated, by its device or by an attacker, has several of one gateway; `receptions.RECEPTIONS_MAX`
    bounds them.
    """

    # no index of its own: the unique constraint begins with it
    frame = models.ForeignKey(Frame, on_delete=models.CASCADE, related_name="receptions", db_index=False)
    gateway = models.CharField(max_length=16)
    received_at_ms = models.BigIntegerField()  # Unix time
    rssi = models.FloatField()  # dBm
    snr = models.FloatField()  # dB
    frequency_hz = models.BigIntegerField()
    data_rate = models.CharField(max_length=9)  # SF7BW125
    region = models.CharField(max_length=5)
    context = models.BinaryField(max_length=128)  # what the gateway wants to see again in the answer
    answered = models.BooleanField(default=False)  # this gateway was the first to be asked to send the answer

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["frame", "gateway", "received_at_ms"], name="reception_once"),
        ]


class Contact(models.Model):
    """When a device was last heard, over what, and when and how it was last answered."""

    device = models.OneToOneField(Device, on_delete=models.CASCADE, primary_key=True, related_name="contact")
    heard_at_ms = models.BigIntegerField()  # Unix time
    synced_at_ms = models.BigIntegerField(default=0)  # when it was last answered …
    commanded = models.BooleanField(default=False)  # … and whether that was a command in place of a sync
    promised_at_ms = models.BigIntegerField(default=0)  # when a worker last took it on itself to answer …
    promised_link = models.CharField(max_length=4, blank=True)  # … over this link
    epoch = models.BigIntegerField()
    ctr = models.PositiveIntegerField()
    link = models.CharField(max_length=4)
    gateway = models.CharField(max_length=16, blank=True)
    rssi = models.FloatField(null=True)
    snr = models.FloatField(null=True)


class Command(models.Model):
    """Something that a device is to do. It is sent until its receipt comes, each time with a counter of its own."""

    class State(models.TextChoices):
        QUEUED = "queued"
        SENT = "sent"  # at least once; waits for its receipt
        DONE = "done"
        FAILED = "failed"  # refused by the device, or no receipt came
        SUPERSEDED = "superseded"  # withdrawn, or a newer one took its place

    # no index of its own: the two below begin with it
    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="commands", db_index=False)
    kind = models.PositiveSmallIntegerField()  # type of the downlink message
    plaintext_wrapped = models.BinaryField(max_length=512)
    plaintext_len = models.PositiveSmallIntegerField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    tries = models.PositiveSmallIntegerField(default=0)
    too_long = models.PositiveIntegerField(default=0)  # answers that could not carry it
    sendings = models.BinaryField(max_length=64, default=b"")  # epoch (4 B) and counter (2 B) of each, the last at last
    result = models.PositiveSmallIntegerField(null=True)  # the receipt's code
    created_at_ms = models.BigIntegerField()  # Unix time
    sent_at_ms = models.BigIntegerField(default=0)
    ended_at_ms = models.BigIntegerField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=["queued", "sent", "done", "failed", "superseded"]), name="command_state_known"
            ),
            models.CheckConstraint(
                condition=Q(state__in=["queued", "sent"], ended_at_ms__isnull=True)
                | (~Q(state__in=["queued", "sent"]) & Q(ended_at_ms__isnull=False)),
                name="command_ended_has_a_time",
            ),
        ]
        indexes = [
            models.Index(fields=["device", "id"], name="command_of_device"),
            # what every batch asks for: as good as empty, as a rule
            models.Index(fields=["device"], condition=Q(state__in=["queued", "sent"]), name="command_open"),
        ]


class Refusal(models.Model):
    """How often something was refused for this reason since the database was made."""

    reason = models.CharField(max_length=32, primary_key=True)
    count = models.BigIntegerField()
    last_at_ms = models.BigIntegerField()


class Meaning(models.Model):
    """What an id of an application's own stands for. Rows are added and never changed."""

    class Kind(models.TextChoices):
        RECORD = "record"
        EVENT = "event"

    kind = models.CharField(max_length=6, choices=Kind.choices)
    number = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=32)
    unit = models.CharField(max_length=16, blank=True)
    scale = models.SmallIntegerField(default=0)
    defined_at_ms = models.BigIntegerField()  # Unix time

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["kind", "number"], name="meaning_once"),
            models.UniqueConstraint(fields=["kind", "name"], name="meaning_name_once"),
            models.CheckConstraint(
                condition=Q(kind__in=["record", "event"], number__gte=64, number__lte=255, scale__gte=-9, scale__lte=9),
                name="meaning_in_range",
            ),
        ]
