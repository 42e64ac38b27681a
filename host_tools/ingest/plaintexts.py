"""Plaintexts of the commands that the server may give a device, and which link carries how much. Pure.

The sync, which is no command, is in `host_tools.ingest.sync`.
"""

import re
from collections.abc import Collection, Mapping

import cbor2

from host_tools.gateway.envelope import Route
from sealwire import settings
from sealwire.frame import FRAME_MAX, OVERHEAD
from sealwire.keys import REKEY_LEN
from sealwire.messages import CONFIGURE, CONSENT, REKEY, REPORT, RETIRE, UPDATE
from sealwire.radio import EU868_FRAME_MAX, downlink_max
from sealwire.records import RECORD_MAX
from sealwire.update import URL_MAX

SEQUENCE_MAX = 2**32 - 1
RECORDS_A_CONSENT = 32  # what the narrowest downlink carries, with a number of two bytes each, is less: 17
DIGEST_LEN = 32

_DATA_RATE = re.compile(r"SF(\d{1,2})BW(\d{3})", re.ASCII)


def update(sequence: int, manifest_digest: bytes, url: str) -> bytes:
    """Fetch and install the release with this manifest.

    Args:
        sequence: of the release, 1 to 2^32 - 1.
        manifest_digest: 32 bytes, the digest that the manifest's signatures cover.
        url: where the manifest is, at most 160 characters of ASCII.

    Raises:
        ValueError: one of them is out of range.
    """
    if not 1 <= sequence <= SEQUENCE_MAX:
        raise ValueError(f"release sequence {sequence} is not in 1 to {SEQUENCE_MAX}")
    if len(manifest_digest) != DIGEST_LEN:
        raise ValueError(f"a manifest digest has {DIGEST_LEN} bytes, not {len(manifest_digest)}")
    if not 1 <= len(url) <= URL_MAX or not url.isascii():
        raise ValueError(f"a URL has at most {URL_MAX} characters of ASCII")
    return _sequence(UPDATE, sequence, manifest_digest, url)


def configure(values: Mapping[int, int]) -> bytes:
    """Change settings; keys and bounds are those of `sealwire.settings`.

    Raises:
        ValueError: there is no such setting, or the value is out of its bounds.
    """
    for key, value in values.items():
        row = settings.lookup(key)
        if row is None or not row[2] <= value <= row[3]:
            raise ValueError(f"setting {key} cannot be {value}")
    return _sequence(CONFIGURE, dict(values))


def consent(records: Collection[int]) -> bytes:
    """Sample these records, and no other.

    Raises:
        ValueError: one is not a record id, or they are too many for a frame.
    """
    for record in records:
        if not 1 <= record <= RECORD_MAX:
            raise ValueError(f"record {record} is not in 1 to {RECORD_MAX}")
    if len(set(records)) > RECORDS_A_CONSENT:
        raise ValueError(f"more than {RECORDS_A_CONSENT} records")
    return _sequence(CONSENT, sorted(set(records)))


def report() -> bytes:
    """Send a status."""
    return _sequence(REPORT)


def rekey(r: bytes) -> bytes:
    """Begin the next epoch with these 16 random bytes."""
    if len(r) != REKEY_LEN:
        raise ValueError(f"a rekey's random part has {REKEY_LEN} bytes, not {len(r)}")
    return _sequence(REKEY, r)


def rekey_random(plaintext: bytes) -> bytes:
    """The random part of a rekey that `rekey` made."""
    return plaintext[-REKEY_LEN:]


def retire() -> bytes:
    """Say so in a receipt, then erase keys and queue."""
    return _sequence(RETIRE)


def answer_max(route: Route | None) -> int:
    """How long a plaintext may be that is sent on this way.

    Args:
        route: None for a device that speaks MQTT itself.
    """
    if route is None:
        return int(FRAME_MAX - OVERHEAD)
    rate = _DATA_RATE.fullmatch(route.data_rate)
    if rate is None or int(rate.group(1)) not in EU868_FRAME_MAX:
        return int(min(EU868_FRAME_MAX.values()) - OVERHEAD)
    return int(downlink_max(int(rate.group(1)), int(rate.group(2))) - OVERHEAD)


def _sequence(*items: object) -> bytes:
    return b"".join(cbor2.dumps(item, canonical=True) for item in items)
