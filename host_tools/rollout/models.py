"""Rollouts' tables: releases, who is to get them, and how far each device is. Holds no logic and nothing of wearers."""

from django.db import models
from django.db.models import Q

from host_tools.ingest.models import Command
from host_tools.rollout.plan import State
from provisioning.registry.models import Device


class Release(models.Model):
    """A published release. (model, component, sequence) names one manifest for ever."""

    model = models.CharField(max_length=32)
    component = models.CharField(max_length=8)  # app, fw
    sequence = models.BigIntegerField()
    version = models.CharField(max_length=64, blank=True)  # for people
    manifest_digest = models.BinaryField(max_length=32)  # what the signatures cover
    image_digest = models.BinaryField(max_length=32)
    size = models.BigIntegerField()  # of the image, bytes
    url = models.CharField(max_length=160)  # of the manifest
    published_at_ms = models.BigIntegerField()  # Unix time; when a rollout first named it

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["model", "component", "sequence"], name="release_once"),
            models.CheckConstraint(condition=Q(sequence__gt=0, sequence__lt=2**32), name="release_sequence_in_range"),
        ]


class Rollout(models.Model):
    """A release on its way to devices. Of one model, one at a time is under way."""

    class State(models.TextChoices):
        ACTIVE = "active"
        PAUSED = "paused"
        DONE = "done"  # nothing left to do, for now: a device that joins makes it active again
        ABORTED = "aborted"
        REPLACED = "replaced"  # by a newer one

    release = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="rollouts")
    model = models.CharField(max_length=32)  # the release's, for the constraint
    state = models.CharField(max_length=8, choices=State.choices, default=State.ACTIVE)
    everybody = models.BooleanField()  # all devices of the model, those to come included
    created_by = models.CharField(max_length=64)
    created_at_ms = models.BigIntegerField()
    changed_at_ms = models.BigIntegerField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=["active", "paused", "done", "aborted", "replaced"]), name="rollout_state_known"
            ),
            # two people who create one at the same moment: one of them is refused
            models.UniqueConstraint(
                fields=["model"], condition=Q(state__in=["active", "paused"]), name="rollout_one_under_way"
            ),
        ]


class RolloutDevice(models.Model):
    """How far a device is with a rollout's release."""

    rollout = models.ForeignKey(Rollout, on_delete=models.CASCADE, related_name="devices", db_index=False)
    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="rollouts")
    state = models.CharField(max_length=11, choices=[(state.value, state.value) for state in State])
    reason = models.CharField(max_length=32, blank=True)  # of a closed list; why it is not further
    orders = models.PositiveSmallIntegerField(default=0)  # commands that were queued for it
    endings = models.PositiveSmallIntegerField(default=0)  # how often it came to an end; the audit trail has the first
    command = models.ForeignKey(Command, on_delete=models.SET_NULL, null=True, related_name="+")  # the last of them
    next_at_ms = models.BigIntegerField(null=True)  # when the server does something of itself; null: the device's turn
    # number of the device's newest message that was followed: an older one changes nothing
    told_epoch = models.BigIntegerField(default=-1)
    told_ctr = models.IntegerField(default=-1)
    changed_at_ms = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["rollout", "device"], name="rollout_device_once"),
            models.CheckConstraint(
                condition=Q(state__in=[state.value for state in State]), name="rollout_device_state_known"
            ),
        ]
        indexes = [
            models.Index(fields=["rollout", "state"], name="rollout_by_state"),
            models.Index(fields=["next_at_ms"], condition=Q(next_at_ms__isnull=False), name="rollout_next"),
        ]
