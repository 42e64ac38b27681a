"""Who may speak to the brokers: every device that is known and whether it is let in, in the forms that brokers take.

    document()   JSON for programs: each device with its state, its two topics, its certificates' subject and SHA-256
    acl()        mosquitto's `acl_file`, for `use_subject_as_username`: what it does not name it refuses. Not by the
                 common name: an issuing key is bound to its batch by the subject's OU alone, so a stolen one could
                 make a certificate that has the name of another batch's device.

A device that is suspended, revoked or retired is in the first as refused, and not in the second. Reads the registry;
`write` replaces files whole. What a broker does with them is the broker's configuration.
"""

import json
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from host_tools.ingest.answers import device_downlink_topic
from provisioning import wholefile
from provisioning.registry.devices import HEARD
from provisioning.registry.models import Certificate, Device

FORMAT = "sealband/1 broker list"


def document(now: float) -> dict[str, Any]:
    """The whole list.

    Args:
        now: Unix seconds.
    """
    digests: defaultdict[int, list[str]] = defaultdict(list)
    for device, digest in Certificate.objects.filter(revoked_at=None).values_list("device_id", "digest"):
        digests[device].append(bytes(digest).hex())
    rows = Device.objects.filter(former=None).select_related("ticket__batch").order_by("eui")
    return {
        "format": FORMAT,
        "made_at": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
        "devices": {
            row.eui_hex: {
                "allow": row.state in HEARD,
                "state": row.state,
                "subject": f"CN={row.eui_hex},OU={row.ticket.batch.name}",
                "publish": [device_uplink_topic(bytes(row.eui))],
                "subscribe": [device_downlink_topic(bytes(row.eui))],
                "certificates": sorted(digests[row.pk]),
            }
            for row in rows
        },
    }


def device_uplink_topic(eui: bytes) -> str:
    """Where a device that speaks MQTT itself publishes."""
    return f"sb/v1/d/{eui.hex()}/up"


def acl(listed: dict[str, Any], others: str = "") -> str:
    """The rules for mosquitto.

    Args:
        listed: what `document` returned.
        others: rules of those who are no devices (ingest, gateways), as they stand in their own file.
    """
    lines = [f"# {FORMAT}, made at {listed['made_at']}; written anew as a whole, so do not edit it", others.rstrip()]
    for device in listed["devices"].values():
        if device["allow"]:
            lines += ["", f"user {device['subject']}"]
            lines += [f"topic write {topic}" for topic in device["publish"]]
            lines += [f"topic read {topic}" for topic in device["subscribe"]]
    return "\n".join(lines) + "\n"


def to_json(listed: dict[str, Any]) -> str:
    """The list as its file holds it."""
    return json.dumps(listed, indent=1) + "\n"


def write(path: Path, content: bytes) -> None:
    """Replace a file whole, or leave it as it is; readable by its owner and group, as brokers run under their own user.

    Raises:
        OSError: the disk refuses.
    """
    wholefile.replace(path, content, 0o640)
