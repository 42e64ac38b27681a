"""The tables of operators. Holds no logic.

No password, code, session or token is here: only argon2id hashes, MACs, and TOTP secrets sealed by the vault. What a
role or a session permits is under a MAC too, so that whoever can write to the database gives nobody a role.
"""

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models
from django.db.models import Q

from provisioning.operators.roles import Role

NAME_MAX = 32


class Operator(AbstractBaseUser):
    """Somebody, or some script's owner, who may act."""

    name = models.CharField(max_length=NAME_MAX, unique=True)
    is_active = models.BooleanField(default=True)
    must_change = models.BooleanField(default=False)  # somebody else chose the password
    totp_wrapped = models.BinaryField(max_length=128)  # the secret, or nothing, under the vault
    totp_step = models.BigIntegerField(default=0)  # the last time step whose code was taken
    created_at = models.DateTimeField()

    objects = BaseUserManager()
    USERNAME_FIELD = "name"
    REQUIRED_FIELDS = []


class Grant(models.Model):
    """One role of an operator, from when to when; never deleted, since what somebody once was still matters."""

    operator = models.ForeignKey(Operator, on_delete=models.PROTECT, related_name="grants")
    role = models.CharField(max_length=8)
    granted_at_ms = models.BigIntegerField()
    granted_by = models.CharField(max_length=NAME_MAX)  # "" is the system: the first admin
    ended_at_ms = models.BigIntegerField(null=True)
    mac = models.BinaryField(max_length=32)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(role__in=[role.value for role in Role]), name="grant_role_known"),
            models.UniqueConstraint(
                fields=["operator", "role"], condition=Q(ended_at_ms__isnull=True), name="grant_once_at_a_time"
            ),
        ]


class RecoveryCode(models.Model):
    """A code that stands in for the second factor, once."""

    operator = models.ForeignKey(Operator, on_delete=models.CASCADE, related_name="recovery_codes")
    mac = models.BinaryField(max_length=32)


class Attempts(models.Model):
    """Failed logins under a name, whether there is such an operator or not: nobody learns it from the answers."""

    name_mac = models.BinaryField(max_length=32, unique=True)
    failures = models.PositiveIntegerField(default=0)
    last_ms = models.BigIntegerField(default=0)


class Credential(models.Model):
    """A session, or a token for scripts; what was given out is not here, only its MAC."""

    class Kind(models.TextChoices):
        SESSION = "session"
        TOKEN = "token"  # noqa: S105

    number = models.BinaryField(max_length=8, unique=True)  # random, names it
    kind = models.CharField(max_length=7, choices=Kind.choices)
    operator = models.ForeignKey(Operator, on_delete=models.CASCADE, related_name="credentials")
    label = models.CharField(max_length=64, default="")
    scope = models.JSONField(default=list)  # actions, of a token
    second_factor = models.BooleanField()
    created_at_ms = models.BigIntegerField()
    expires_at_ms = models.BigIntegerField()
    used_at_ms = models.BigIntegerField()
    ended = models.BooleanField(default=False)
    mac = models.BinaryField(max_length=32)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=["session", "token"]), name="credential_kind_known"),
        ]
