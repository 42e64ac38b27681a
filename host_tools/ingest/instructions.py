"""What operators ask of a device that goes on as it is: settings, what may be sampled, a status. Checked, then queued.

Rekey and retire, which change what the registry knows, are in `lifecycle`; updates are `host_tools.rollout`'s.
"""

import time
from collections.abc import Callable, Collection, Mapping

from django.db import transaction

from host_tools.ingest import plaintexts
from host_tools.ingest.commands import Commands, Order
from host_tools.ingest.vocabulary import STANDARD, Vocabulary
from provisioning.registry import audit, devices
from provisioning.registry.vault import Vault
from sealwire import settings
from sealwire.messages import CONFIGURE, CONSENT, REPORT
from sealwire.names import DOWNLINK_NAMES


class InstructionRefused(Exception):
    """What is asked for is nothing that a device could do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


class Instructions:
    """The instructions, over the connected database.

    Args:
        vault: of the registry.
        clock: Unix seconds.
        actor: who gives them, for the audit trail.
    """

    def __init__(self, vault: Vault, clock: Callable[[], float] = time.time, actor: str = "ingest") -> None:
        self._vault = vault
        self._clock = clock
        self._actor = actor
        self._commands = Commands(vault, clock)

    def configure(self, eui: bytes, values: Mapping[str, int]) -> int:
        """Change settings, all of these or none; returns the command's number.

        Args:
            values: by the names of `sealwire.settings`.

        Raises:
            InstructionRefused: there is no such setting, or the value is out of its bounds.
            RegistryError: the device is not served.
            QueueFull: it has too many commands waiting.
        """
        rows = {row[1]: row for row in settings.SETTINGS}
        for name, value in values.items():
            if name not in rows:
                raise InstructionRefused(f"there is no setting {name!r}", f"there are {', '.join(rows)}")
            _, _, low, high, _ = rows[name]
            if not low <= value <= high:
                raise InstructionRefused(f"{name} cannot be {value}", f"give {low} to {high}")
        if not values:
            raise InstructionRefused("no setting is named", "give some as NAME=VALUE")
        return self._queue(eui, CONFIGURE, plaintexts.configure({rows[name][0]: v for name, v in values.items()}))

    def consent(self, eui: bytes, records: Collection[int]) -> int:
        """Say what a device may sample from now on, nothing else; returns the command's number.

        One that was not carried out yet is withdrawn.

        Args:
            records: record ids; none: it samples nothing.

        Raises:
            InstructionRefused: one is not a record id.
            RegistryError: the device is not served.
        """
        try:
            plaintext = plaintexts.consent(records)
        except ValueError as error:
            raise InstructionRefused(str(error), "see the table of records, sealwire/records.py") from error
        return self._queue(eui, CONSENT, plaintext)

    def report(self, eui: bytes) -> int:
        """Ask for a status; returns the command's number.

        Raises:
            RegistryError: the device is not served.
        """
        return self._queue(eui, REPORT, plaintexts.report())

    def _queue(self, eui: bytes, kind: int, plaintext: bytes) -> int:
        name = DOWNLINK_NAMES[kind]
        with transaction.atomic():
            row = devices.served(eui, name)
            number = self._commands.queue([Order(row.pk, eui, kind, plaintext)])[row.pk]
            # not what it says: that may tell something of the wearer
            audit.append(
                self._vault,
                "operator_action",
                subject=row.eui_hex,
                actor=self._actor,
                clock=self._clock,
                step=name,
                command=number,
            )
        return number


def record_id(text: str, vocabulary: Vocabulary = STANDARD) -> int:
    """The id of a record by its name, or by its number as text.

    Raises:
        InstructionRefused: there is none.
    """
    if text.isascii() and text.isdigit() and len(text) <= len("255"):
        return int(text)
    number = vocabulary.record_id(text)
    if number is not None:
        return number
    names = ", ".join(name for _, name in vocabulary.rows())
    raise InstructionRefused(f"there is no record {text!r}", f"give numbers, or names: {names}")
