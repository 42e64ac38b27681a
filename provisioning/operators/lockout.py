"""Failed logins: each makes the next wait longer, and the tenth locks the name for a day or until an admin ends it.

Counted by name, known or not, so that neither answer nor time tells which names there are. An attempt is counted
before the password is looked at: any number of them at once gets no more guesses.
"""

import hashlib
import hmac

from django.db import transaction

from provisioning.operators.models import Attempts
from provisioning.registry.vault import Vault

FREE = 3  # so many failures cost no wait
FIRST_WAIT_S = 5
LOCK = 10
LOCK_S = 24 * 3600


def wait_s(failures: int) -> int:
    """How long after so many failures in a row the next attempt is looked at."""
    if failures >= LOCK:
        return LOCK_S
    return 0 if failures < FREE else FIRST_WAIT_S << (failures - FREE)


def begin(vault: Vault, name: str, now_ms: int) -> int | None:
    """Count an attempt as if it failed: how many that makes, or None if the name has to wait still."""
    mac = _mac(vault, name)
    with transaction.atomic():
        # names that nobody has would fill the table; what a day ended says nothing any more
        Attempts.objects.filter(last_ms__lt=now_ms - 1000 * LOCK_S).delete()
        Attempts.objects.get_or_create(name_mac=mac)
        row = Attempts.objects.select_for_update().get(name_mac=mac)
        if now_ms < row.last_ms + 1000 * wait_s(row.failures):
            return None
        row.failures += 1
        row.last_ms = now_ms
        row.save()
        return row.failures


def clear(vault: Vault, name: str) -> int:
    """Forget the failures under a name; how many there were."""
    rows = Attempts.objects.filter(name_mac=_mac(vault, name))
    failures = sum(rows.values_list("failures", flat=True))
    rows.delete()
    return failures


def is_locked(vault: Vault, name: str, now_ms: int) -> bool:
    """Whether ten failures have locked the name."""
    row = Attempts.objects.filter(name_mac=_mac(vault, name)).first()
    return row is not None and row.failures >= LOCK and now_ms < row.last_ms + 1000 * LOCK_S


def _mac(vault: Vault, name: str) -> bytes:
    return hmac.new(vault.subkey(b"sealband/1 login names"), name.encode(), hashlib.sha256).digest()
