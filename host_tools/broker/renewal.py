"""A broker's folder from the registry: who is let in now, whose certificates are trusted, which ones are revoked.

Needs the connected database. What the files are is decided in `folder`.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from host_tools.broker import folder as folders
from host_tools.broker.folder import Settings, Written
from host_tools.ingest import broker_list
from provisioning import certificates
from provisioning.registry import audit, issuers
from provisioning.registry.errors import RegistryError
from provisioning.registry.models import Batch, Issuer
from provisioning.registry.vault import Vault
from provisioning.signers import Signer

LIST_DAYS = 7  # a revocation list is good for; mosquitto refuses everybody after that


def renew(
    folder: Path,
    settings: Settings,
    vault: Vault,
    open_signer: Callable[[str], Signer],
    *,
    days: int = LIST_DAYS,
    actor: str = "system",
    clock: Callable[[], float] = time.time,
) -> Written:
    """Write the folder by what the registry says now.

    Args:
        open_signer: opens the keys of `settings.issuing_keys`.
        days: for how long the revocation lists are valid.

    Raises:
        TrustError, RulesError, FolderError, RegistryError, SignerError, OSError: see `folder.write`.
    """
    # a name that is mistyped would leave the stolen key trusted, and nobody would notice
    unknown = sorted(set(settings.without) - set(Batch.objects.values_list("name", flat=True)))
    if unknown:
        raise RegistryError(f"there is no batch {unknown[0]!r}", "see: sealband registry batches")
    now = clock()
    at = datetime.fromtimestamp(now, UTC)
    rows = Issuer.objects.filter(ends_at__gt=at).exclude(batch__name__in=settings.without).order_by("id")
    trusted = [bytes(row.certificate) for row in rows]
    crl: bytes | None = None
    if not trusted:
        pass  # nobody whose list could be asked for, and a list that nobody asks for needs no key here
    elif settings.issuing_keys:
        made = [
            der
            for uri in settings.issuing_keys
            for der in issuers.revocation_list(open_signer(uri), days=days, clock=clock)
        ]
        crl = b"".join(map(certificates.to_pem, made))
        audit.append(vault, "crl_made", actor=actor, clock=clock, lists=len(made), days=days)
    elif settings.crl:
        crl = settings.crl.read_bytes()
    listed = broker_list.document(now)
    acl = broker_list.acl(listed, folders.services_rules(settings))
    allowed = sum(device["allow"] for device in listed["devices"].values())
    written = folders.write(folder, settings, acl, allowed, trusted, crl, at)
    refused = len(listed["devices"]) - allowed
    audit.append(vault, "broker_list_made", actor=actor, clock=clock, allowed=allowed, refused=refused)
    return written
