"""What the registry does, under one name: to create it is here, the rest from the modules beside this one.

Each is one transaction with its audit event, decided by pure checks; secrets are kept only through the vault.
"""

import time

from django.db import transaction

from provisioning import registry
from provisioning.registry import audit
from provisioning.registry.batches import batches as batches
from provisioning.registry.batches import issue_batch as issue_batch
from provisioning.registry.batches import quotas as quotas
from provisioning.registry.batches import revoke_batch as revoke_batch
from provisioning.registry.batches import set_quota as set_quota
from provisioning.registry.devices import devices as devices
from provisioning.registry.errors import Clock
from provisioning.registry.errors import RegistryError as RegistryError
from provisioning.registry.imports import ImportResult as ImportResult
from provisioning.registry.imports import Refusal as Refusal
from provisioning.registry.imports import candidate_rows as candidate_rows
from provisioning.registry.imports import import_journal as import_journal
from provisioning.registry.models import AuditEvent, Batch, Device
from provisioning.registry.models import DeviceChain as DeviceChain
from provisioning.registry.vault import Vault


def init_registry(vault: Vault, actor: str = "system", clock: Clock = time.time) -> bool:
    """Create the tables, or bring them up to date; True if the registry is new.

    Raises:
        AuditBroken: it exists and its audit trail does not fit this master key.
    """
    registry.migrate()
    with transaction.atomic():
        if AuditEvent.objects.exists() or Batch.objects.exists() or Device.objects.exists():
            audit.verify(vault)
            return False
        audit.append(vault, audit.FIRST, actor=actor, clock=clock)
    return True


def require_registry() -> None:
    """Raise RegistryError unless the connected database is a registry of this version."""
    if registry.pending_migrations():
        raise RegistryError("the database is not a registry, or one of an older version", "run: sealband registry init")
