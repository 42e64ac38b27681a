"""What devices carried out of what they were told and what matters to whoever reads their values: consent and settings.

From the commands that ended with a receipt; a device keeps `commands.KEPT_MAX` of them, so old ones are forgotten.
Statuses say the same from the device's side (`STATUS_CONSENT`). Changes nothing.
"""

from dataclasses import dataclass

import cbor2

from host_tools.ingest.commands import Commands
from host_tools.ingest.models import Command
from provisioning.registry.vault import Vault
from sealwire.messages import CONFIGURE, CONSENT


@dataclass(frozen=True, slots=True)
class CarriedOut:
    """One command that a device did.

    Attributes:
        device: as readings name it.
        unix_s: when its receipt came.
        consent: the records that may be sampled since; None: it was no consent.
        settings: values by key of `sealwire.settings`; empty: it set none.
    """

    device: str
    unix_s: float
    consent: frozenset[int] | None
    settings: dict[int, int]


def carried_out(vault: Vault) -> list[CarriedOut]:
    """All of them, by time."""
    commands = Commands(vault, lambda: 0.0)
    rows = Command.objects.filter(kind__in=(CONSENT, CONFIGURE), state=Command.State.DONE, ended_at_ms__isnull=False)
    found = []
    for row in rows.select_related("device").order_by("ended_at_ms", "pk"):
        plaintext = commands.read(row)
        body = None if plaintext is None else cbor2.loads(plaintext[1:])
        at = (row.ended_at_ms or 0) / 1000
        if row.kind == CONSENT and isinstance(body, list):
            found.append(CarriedOut(row.device.label, at, frozenset(body), {}))
        elif row.kind == CONFIGURE and isinstance(body, dict):
            found.append(CarriedOut(row.device.label, at, None, body))
    return found
