"""Steps in the life of a device that concern its commands: rekey, retire, and what ends with the device.

The states are the registry's (`provisioning.registry.devices`); here they are brought together with the queue of
commands and the key chains, which the registry does not know. `Lifecycle.heard` and `follow` run in ingest's
transaction, everything else is a transaction of its own.
"""

import os
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress

from django.db import transaction

from host_tools.ingest import plaintexts
from host_tools.ingest.chains import Chains
from host_tools.ingest.commands import Commands, Order, withdraw
from host_tools.ingest.models import Command
from host_tools.ingest.observer import Ended
from provisioning.registry import audit, devices
from provisioning.registry.errors import RegistryError
from provisioning.registry.models import Device
from provisioning.registry.vault import Vault
from sealwire.keys import REKEY_LEN
from sealwire.messages import REKEY, RESULT_DONE, RETIRE

_OPEN = (Command.State.QUEUED, Command.State.SENT)


class Lifecycle:
    """The steps, over the connected database.

    Args:
        vault: of the registry.
        clock: Unix seconds.
        actor: who takes the steps, for the audit trail.
    """

    def __init__(self, vault: Vault, clock: Callable[[], float] = time.time, actor: str = "ingest") -> None:
        self._vault = vault
        self._clock = clock
        self._actor = actor
        self._chains = Chains(vault, clock)
        self._commands = Commands(vault, clock)

    # what operators do

    def rekey(self, eui: bytes) -> int:
        """Have a device begin its next epoch with random bytes of ours; returns the command's number.

        Raises:
            RegistryError: it is not heard, or a rekey is under way.
        """
        with transaction.atomic():
            row = devices.served(eui, "rekey")
            if Command.objects.filter(device=row, kind=REKEY, state__in=_OPEN).exists():
                raise RegistryError(f"a rekey of {row.eui_hex} is under way", "wait for its receipt")
            r = self._chains.expected_rekey(row.pk) or os.urandom(REKEY_LEN)
            order = Order(row.pk, eui, REKEY, plaintexts.rekey(r))
            number = self._commands.queue([order])[row.pk]
            audit.append(
                self._vault,
                "operator_action",
                subject=row.eui_hex,
                actor=self._actor,
                clock=self._clock,
                step="rekey",
                command=number,
            )
        return number

    def retire(self, eui: bytes, reason: str = "") -> int:
        """Have a device erase itself; returns the command's number. It is retired when its receipt comes.

        Again for a device that is told already: the command is sent anew.

        Raises:
            RegistryError: it is over already.
        """
        with transaction.atomic():
            row = devices.retiring(eui, self._vault, reason=reason, actor=self._actor, clock=self._clock)
            self._withdraw(row)
            return self._commands.queue([Order(row.pk, eui, RETIRE, plaintexts.retire())])[row.pk]

    def revoke(self, eui: bytes, reason: str = "") -> None:
        """Refuse a device for good; see `devices.revoke`."""
        devices.revoke(eui, self._vault, reason=reason, actor=self._actor, clock=self._clock)
        self._withdraw(devices.find(eui, lock=False))

    def write_off(self, eui: bytes, reason: str = "") -> None:
        """Retire a device that cannot answer; see `devices.write_off`."""
        devices.write_off(eui, self._vault, reason=reason, actor=self._actor, clock=self._clock)
        self._withdraw(devices.find(eui, lock=False))

    # what devices do

    def heard(self, enrolled: Collection[int]) -> None:
        """Frames of these devices, which were not heard before, were opened."""
        if enrolled:
            # a trail that somebody damaged is found by `audit verify`; it must not cost anybody's readings
            with suppress(audit.AuditBroken), transaction.atomic():
                devices.activate(enrolled, self._vault, clock=self._clock)

    def follow(self, ended: Iterable[Ended]) -> None:
        """Retire the devices whose receipt says that they erase themselves."""
        for one in ended:
            if one.kind == RETIRE and one.code == RESULT_DONE:
                with suppress(audit.AuditBroken), transaction.atomic():
                    devices.ended(one.device, self._vault, clock=self._clock)

    def _withdraw(self, row: Device) -> None:
        withdraw(Command.objects.filter(device=row), int(self._clock() * 1000))
