"""Claims: who shows the secret on a device's label may have it, once, until it is released.

The registry holds a digest of each secret. Wrong tries are counted a device; after `FAILURES_MAX` in a row its claims
are locked for `LOCK`. That a label is wrong, its device unknown or not there any more is one and the same answer.
"""

import hmac
import time
from datetime import timedelta

from django.db import transaction

from provisioning import keys, labels
from provisioning.registry import audit, devices
from provisioning.registry.errors import Clock, RegistryError, moment
from provisioning.registry.models import Claim, Device
from provisioning.registry.vault import Vault

FAILURES_MAX = 5
LOCK = timedelta(hours=1)
ACCOUNT_MAX = 64


class ClaimRefused(RegistryError):
    """The label does not open this device to anybody now."""


def claim(label: str, account: str, vault: Vault, *, actor: str = "system", clock: Clock = time.time) -> Device:
    """Give a device to whoever shows its label.

    Args:
        label: the text of the label's QR code.
        account: wearer or account, 1 to 64 printable characters.

    Raises:
        LabelError: the text is no label's.
        ClaimRefused: wrong, locked, or claimed by somebody.
        RegistryError: the account's name is none.
    """
    if not 1 <= len(account) <= ACCOUNT_MAX or not account.isprintable():
        raise RegistryError(f"an account's name is 1 to {ACCOUNT_MAX} printable characters", "give another name")
    shown = labels.parse(label)
    with transaction.atomic():
        refusal, device = _try(shown, account, vault, actor, clock)
    if refusal is not None or device is None:
        # after the commit: what was counted must stay counted
        raise refusal or _wrong()
    return device


def release(eui: bytes, vault: Vault, *, actor: str = "system", clock: Clock = time.time) -> str:
    """Take a device from whoever claimed it, and lift a lock; returns who that was, "" for nobody.

    Raises:
        RegistryError: it is not enrolled.
    """
    with transaction.atomic():
        row = Claim.objects.select_for_update().filter(device=devices.find(eui)).first()
        if row is None or not (row.account or row.failures or row.locked_until):
            return ""
        account = row.account
        row.account, row.claimed_at, row.failures, row.locked_until = "", None, 0, None
        row.save()
        audit.append(vault, "device_claim_released", subject=eui.hex(), actor=actor, clock=clock, account=account)
    return account


def _try(
    shown: labels.Label, account: str, vault: Vault, actor: str, clock: Clock
) -> tuple[ClaimRefused | None, Device | None]:
    now = moment(clock)
    row = (
        Claim.objects.select_for_update(of=("self",))
        .select_related("device")
        .filter(device__eui=shown.eui, device__former=None)
        .first()
    )

    def refused(reason: str) -> None:
        audit.append(vault, "device_claim_refused", subject=shown.eui.hex(), actor=actor, clock=clock, reason=reason)

    fits = hmac.compare_digest(keys.claim_digest(shown.eui, shown.claim), bytes(row.digest) if row else bytes(32))
    if row is None or row.device.state not in devices.PRESENT or row.device.model.lower() != shown.model:
        refused("unknown")
        return _wrong(), None
    if row.locked_until is not None and row.locked_until > now:
        refused("locked")
        text = (
            f"claims of {shown.eui.hex()} are locked until {row.locked_until:%Y-%m-%d %H:%M} UTC: too many were wrong"
        )
        return ClaimRefused(text, "wait, or have it released: sealband registry release-claim EUI"), None
    if not fits:
        row.failures += 1
        if row.failures >= FAILURES_MAX:
            row.failures, row.locked_until = 0, now + LOCK
        row.save()
        refused("wrong")
        return _wrong(), None
    row.failures, row.locked_until = 0, None
    if row.account:
        row.save()
        refused("claimed")
        text = f"{shown.eui.hex()} was claimed on {row.claimed_at:%Y-%m-%d} and not released since"
        return ClaimRefused(text, "have it released first: sealband registry release-claim EUI"), None
    row.account, row.claimed_at = account, now
    row.save()
    audit.append(vault, "device_claimed", subject=shown.eui.hex(), actor=actor, clock=clock, account=account)
    return None, row.device


def _wrong() -> ClaimRefused:
    return ClaimRefused("this label fits no device that can be claimed", "scan the label on the device itself again")
