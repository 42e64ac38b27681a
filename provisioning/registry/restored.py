"""The mark that the connected registry was restored from a backup: the audit trail has it, and nothing else.

In such a registry a device's `downlink_from_epoch` of 0 means that no epoch is known yet in which nothing was sent
before; any other value is the first such epoch. So what is imported again after a restore is judged with the same care.
"""

import time
from collections.abc import Callable

from provisioning.registry import audit
from provisioning.registry.models import AuditEvent, DeviceChain, EpochKey
from provisioning.registry.vault import Vault

EVENT = "sys_restore"
# Counters that a version before there were dated ones used after a loss. The lost server may have gone on there, in an
# epoch that a device still is in: a restored one leaves out all of them.
EARLIER_FIRST, EARLIER_END = 0x8000, 0xA000


def mark(
    vault: Vault, *, actor: str = "system", clock: Callable[[], float] = time.time, **details: audit.Detail
) -> None:
    """Note that it was restored just now, in the caller's transaction."""
    if restored_at() is None:
        earlier = EpochKey.objects.filter(downlink_ctr__gte=EARLIER_FIRST, downlink_ctr__lt=EARLIER_END)
        earlier.update(downlink_ctr=EARLIER_END)
    DeviceChain.objects.update(downlink_from_epoch=0)
    audit.append(vault, EVENT, subject="registry", actor=actor, clock=clock, **details)


def restored_at() -> float | None:
    """When it was restored last, Unix seconds; None if it never was."""
    at_ms = AuditEvent.objects.filter(event=EVENT).order_by("-sequence").values_list("at_ms", flat=True).first()
    return None if at_ms is None else at_ms / 1000
