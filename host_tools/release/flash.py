"""What goes onto a new board so that it runs a signed release from its first start on, and takes updates.

    boot.py, lib/sealboot/*.mpy   what chooses the slot; never replaced by an update
    slots/a/…                     the release's files
    slots/0                       the boot record: slot a is confirmed, nothing older is taken
    update/trust                  the trust list's payload
    update/provision              for whom updates are, and from where; Wi-Fi, broker, access point
    manifest                      the release's signed envelope, where a station has the board verify it

The boot record is written here from its layout, apart from the device's code (device/lib/sealboot/record.py).
"""

import io
import re
import struct
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from hashlib import sha256
from pathlib import Path
from uuid import UUID

from host_tools.release import build, bundle, files, manifest, tree, trust, verify
from provisioning import cbor
from sealwire.manifest import COMPONENT_APP
from sealwire.update import (
    ENVELOPE_MAX,
    PROVISION_BROKER,
    PROVISION_CA,
    PROVISION_CELLULAR,
    PROVISION_CLASS,
    PROVISION_ORIGINS,
    PROVISION_VENDOR,
    PROVISION_WIFI,
)

PROVISION_MAX = 4096  # bytes; device/lib/sealband/provision.py reads no more
# the one form that devices read; device/lib/sealband/update/address.py says why
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_OCTET = r"(0|[1-9]\d?|1\d\d|2[0-4]\d|25[0-5])"
_HOST = rf"(?=[^:/]{{1,253}}(:|$))(({_LABEL}\.)*[a-z]([a-z0-9-]{{0,61}}[a-z0-9])?|{_OCTET}(\.{_OCTET}){{3}})"
_BROKER = re.compile(_HOST, re.ASCII)
_ORIGIN = re.compile(rf"https?://{_HOST}(:(?P<port>[1-9]\d{{0,4}}))?", re.ASCII)
# IEEE 802.11: an SSID has up to 32 bytes, a WPA2 passphrase 8 to 63 characters
_SSID_MAX = 32
_PASSPHRASE_MIN, _PASSPHRASE_MAX = 8, 63
# 3GPP TS 23.003 section 9.1: an APN's labels, 100 bytes at most with their lengths
_APN = re.compile(rf"(?=.{{1,99}}$)(?i:{_LABEL})(\.(?i:{_LABEL}))*", re.ASCII)
# 3GPP TS 31.101 section 9.5.1: a PIN has 4 to 8 digits
_PIN = re.compile(r"(\d{4,8})?", re.ASCII)
# what may stand between the quotation marks of an AT command
_LOGIN = re.compile(r"[ !#-\[\]-~]{0,64}")

# device/lib/sealboot/record.py: version, counter, active, trial, cold starts, wakes, floor, firmware's floor; twice
# sequence, digest, confirmed; outcome's sequence and code, firmware on trial and its partition; eight bytes of a digest
_RECORD = ">BIBBBBII" + 2 * "I32sB" + "IBI16s"
_RECORD_VERSION = 1
_RECORD_PERSON = b"sealboot\x00"
_CHECK_LEN = 8
_NO_SLOT = 255


class FlashRefused(Exception):
    """No board should be given this."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True)
class Cellular:
    """How a modem gets onto the network.

    Attributes:
        apn: the operator's access point name.
        pin: of the SIM, 4 to 8 digits, or "".
        user: for the access point, or "".
        password: for the access point, or "".

    Raises:
        FlashRefused: a modem could not be told this.
    """

    apn: str
    pin: str = field(default="", repr=False)
    user: str = ""
    password: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not _APN.fullmatch(self.apn):
            raise FlashRefused(f"{self.apn!r} is no access point name", "write labels of letters, digits and hyphens")
        if not _PIN.fullmatch(self.pin):
            raise FlashRefused("the SIM's PIN is not 4 to 8 digits", "correct it")
        for what, value in (("user", self.user), ("password", self.password)):
            if not _LOGIN.fullmatch(value):
                raise FlashRefused(
                    f"the access point's {what} is longer than 64 characters or has some that a modem can't be told",
                    "have the operator give another: printable ASCII without quotation mark and backslash",
                )


@dataclass(frozen=True)
class Provision:
    """What the factory writes down on a board: for its updates, and for links to the broker.

    Attributes:
        vendor: UUID that a manifest must name.
        class_id: UUID of the model that it must name.
        origins: scheme://host[:port] of each server that may be fetched from, lower case.
        wifi: SSID and passphrase ("" for an open network), or None.
        ca_der: the certificate that the servers' and the broker's must be signed by, in DER, or None.
        broker: host and port of the MQTT broker, or None.
        cellular: for a board with a modem, or None.

    Raises:
        FlashRefused: a device could not use it.
    """

    vendor: UUID
    class_id: UUID
    origins: Sequence[str]
    wifi: tuple[str, str] | None = None
    ca_der: bytes | None = None
    broker: tuple[str, int] | None = None
    cellular: Cellular | None = None

    def __post_init__(self) -> None:
        if not self.origins:
            raise FlashRefused("there is no server that a board may fetch from", "name at least one")
        for origin in self.origins:
            match = _ORIGIN.fullmatch(origin)
            if not match or int(match["port"] or 1) > 0xFFFF:
                raise FlashRefused(f"{origin!r} is no origin of a server", "write scheme://host:port, in lower case")
            if origin.startswith("https:") and self.ca_der is None:
                raise FlashRefused(f"{origin} needs the certificate that its own is signed by", "name the CA's")
        if self.wifi:
            ssid, passphrase = self.wifi
            if not 0 < len(ssid.encode()) <= _SSID_MAX:
                raise FlashRefused(f"the Wi-Fi's name is not 1 to {_SSID_MAX} bytes", "correct it")
            if passphrase and not _PASSPHRASE_MIN <= len(passphrase) <= _PASSPHRASE_MAX:
                raise FlashRefused(
                    f"the Wi-Fi's passphrase is not {_PASSPHRASE_MIN} to {_PASSPHRASE_MAX} characters", "correct it"
                )
        if self.broker:
            host, port = self.broker
            if not _BROKER.fullmatch(host) or not 0 < port <= 0xFFFF:
                raise FlashRefused(f"{host}:{port} is no broker's address", "write host:port, in lower case")
            if self.ca_der is None:
                raise FlashRefused("the broker needs the certificate that its own is signed by", "name the CA's")
        if len(self.encode()) > PROVISION_MAX:
            raise FlashRefused(
                f"what boards are given for updates is longer than {PROVISION_MAX} bytes", "name fewer servers"
            )

    def encode(self) -> bytes:
        """The provisioned file."""
        fields: dict[int, object] = {
            PROVISION_VENDOR: self.vendor.bytes,
            PROVISION_CLASS: self.class_id.bytes,
            PROVISION_ORIGINS: list(self.origins),
        }
        if self.wifi:
            fields[PROVISION_WIFI] = list(self.wifi)
        if self.ca_der is not None:
            fields[PROVISION_CA] = self.ca_der
        if self.broker:
            fields[PROVISION_BROKER] = list(self.broker)
        if self.cellular:
            fields[PROVISION_CELLULAR] = list(astuple(self.cellular))
        return cbor.dumps(fields)


def flash_tree(
    release_folder: Path,
    trust_list: bytes,
    out: Path,
    *,
    device: Path,
    provision: Provision,
    now_s: int | None = None,
    with_manifest: bool = False,
) -> list[Path]:
    """Make the folder that goes onto a new board.

    Args:
        release_folder: as `sealband release build` made it, signed since.
        trust_list: the trust list's file; the board starts with it.
        out: the folder to be made.
        device: the folder of device code, for what boots.
        provision: what the board is told for its updates.
        now_s: seconds since 2025, where the time is known.
        with_manifest: put the envelope there, too, for a station.

    Returns:
        The files in `out`, relative to it, sorted.

    Raises:
        FlashRefused: the release breaks a rule of the trust list, or is not for the board that is provisioned.
        tree.FolderRefused: there is something at `out`.
        manifest.ManifestError, trust.TrustError, files.FileRefused: a file is not what it is named.
        bundle.CompileFailed: what boots cannot be compiled.
        OSError: a file cannot be read or written.
    """
    tree.refuse_existing(out)
    envelope = files.read(release_folder / build.MANIFEST, ENVELOPE_MAX)
    release = manifest.decode(envelope).release
    if release.component != COMPONENT_APP:
        raise FlashRefused("it is no release of an application", "name one: sealband release build without --firmware")
    image = files.read(release_folder / build.IMAGES[COMPONENT_APP], build.IMAGE_MAX)
    report = verify.verify(
        envelope, trust_list, image, vendor=provision.vendor, class_id=provision.class_id, now_s=now_s
    )
    if not report.ok:
        broken = "; ".join(f"{rule.name} ({rule.text})" for rule in report.rules if rule.holds is False)
        raise FlashRefused(f"the release breaks a rule: {broken}", "see sealband release verify")
    contents = _slot(image, "slots/a/")
    contents |= _boot(device)
    contents["slots/0"] = boot_record(release.sequence, release.digest)
    contents["update/trust"] = trust.decode(trust_list).payload
    contents["update/provision"] = provision.encode()
    if with_manifest:
        contents["manifest"] = envelope
    with tree.whole(out) as beside:
        beside.chmod(0o700)  # it holds the Wi-Fi's passphrase and the SIM's PIN
        tree.write(beside, contents)
    return sorted(map(Path, contents))


def boot_record(sequence: int, digest: bytes) -> bytes:
    """One half of the boot record of a board that runs a confirmed release from slot a, the other slot being empty."""
    body = struct.pack(
        _RECORD,
        _RECORD_VERSION,
        1,  # the first that was written
        0,  # slot a runs
        _NO_SLOT,  # none is on trial
        0,
        0,
        sequence,  # nothing up to it is taken
        0,
        sequence,
        digest,
        1,
        0,
        bytes(len(digest)),
        0,
        0,
        0,
        0,
        b"",
    )
    return body + sha256(_RECORD_PERSON + body).digest()[:_CHECK_LEN]


def _slot(image: bytes, prefix: str) -> dict[str, bytes]:
    # verified before: plain files with names that may stand in a slot, nothing else
    found = {}
    with tarfile.open(fileobj=io.BytesIO(image), mode="r:") as tar:
        for entry in tar:
            file = tar.extractfile(entry)
            assert file is not None
            found[prefix + entry.name] = file.read()
    return found


def _boot(device: Path) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(prefix="sealband-flash-") as scratch:
        names = bundle.compile_boot(device, Path(scratch))
        found = {name.as_posix(): (Path(scratch) / name).read_bytes() for name in names}
    if "boot.py" not in found or "lib/sealboot/__init__.mpy" not in found:
        raise FlashRefused(f"{device} has no boot.py or no lib/sealboot", "name the folder of device code")
    return found
