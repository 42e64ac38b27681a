"""Asks devices for a receipt, after the registry was restored: dated.py says what it proves.

What is sent is a configure of nothing. A device refuses that and says so in a receipt, which is all that is wanted.
"""

from collections.abc import Collection

from host_tools.ingest import plaintexts
from host_tools.ingest.commands import Commands, Order
from host_tools.ingest.models import Command
from provisioning.registry.models import Device
from sealwire.messages import CONFIGURE


def ask(queue: Commands, devices: Collection[int]) -> None:
    """Queue something that gives a receipt for each of these devices that has no command waiting anyway."""
    if not devices:
        return
    waiting = Command.objects.filter(device_id__in=devices, state__in=(Command.State.QUEUED, Command.State.SENT))
    silent = set(devices) - set(waiting.values_list("device_id", flat=True))
    rows = Device.objects.filter(pk__in=silent).values_list("pk", "eui")
    queue.queue([Order(device, bytes(eui), CONFIGURE, plaintexts.configure({})) for device, eui in rows])
