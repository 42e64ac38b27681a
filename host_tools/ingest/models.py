"""The store's tables: frames that were opened, when each device was last heard, refusals by reason. Holds no logic.

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
    gateway = models.CharField(max_length=16, blank=True)
    rssi = models.FloatField(null=True)  # dBm
    snr = models.FloatField(null=True)  # dB

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["device", "epoch", "ctr"], name="frame_once"),
            models.CheckConstraint(
                condition=Q(epoch__gte=0, epoch__lt=2**32, ctr__gte=0, ctr__lt=2**16), name="frame_number_in_range"
            ),
            models.CheckConstraint(condition=Q(link__in=["lora", "mqtt"]), name="frame_link_known"),
        ]
        indexes = [models.Index(fields=["device", "t_first"], name="frame_by_time")]

    @property
    def received_at(self) -> datetime:
        """When the gateway or the broker had it, UTC."""
        return datetime.fromtimestamp(self.received_at_ms / 1000, UTC)


class Contact(models.Model):
    """When a device was last heard, over what, and when it was last answered."""

    device = models.OneToOneField(Device, on_delete=models.CASCADE, primary_key=True, related_name="contact")
    heard_at_ms = models.BigIntegerField()  # Unix time
    synced_at_ms = models.BigIntegerField(default=0)
    epoch = models.BigIntegerField()
    ctr = models.PositiveIntegerField()
    link = models.CharField(max_length=4)
    gateway = models.CharField(max_length=16, blank=True)
    rssi = models.FloatField(null=True)
    snr = models.FloatField(null=True)


class Refusal(models.Model):
    """How often something was refused for this reason since the database was made."""

    reason = models.CharField(max_length=32, primary_key=True)
    count = models.BigIntegerField()
    last_at_ms = models.BigIntegerField()
