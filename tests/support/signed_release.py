"""A small release in a folder, made apart from `release build`: image by CPython's tarfile, keys of its own."""

import io
import json
import tarfile
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from host_tools.release import manifest, trust
from host_tools.release.cose import sign1
from provisioning import signers
from sealwire import manifest as wire

VENDOR, MODEL = "sealband.example", "virtual-wearable"
FILES = {"app.mpy": b"application" * 50, "lib/sealband/node.mpy": b"node" * 300, "main.py": b"import app\n"}


def make_signers(count: int) -> list[signers.FileSigner]:
    """So many keys, in memory."""
    return [signers.FileSigner(ec.generate_private_key(ec.SECP256R1())) for _ in range(count)]


def keys(of: list[signers.FileSigner]) -> tuple[bytes, ...]:
    """Their public keys as a trust list has them."""
    return tuple(signer.public_key[1:] for signer in of)


def trust_file(
    releases: list[signers.FileSigner],
    roots: list[signers.FileSigner],
    *,
    threshold: int = 2,
    expires: int | None = None,
    version: int = 1,
) -> bytes:
    """A trust list's file, signed by all of its roots."""
    listed = trust.TrustList(version, threshold, keys(releases), len(roots), keys(roots), expires)
    data = trust.draft(listed)
    for root in roots:
        data = trust.sign(data, root)
    return data


def image(files: dict[str, bytes]) -> bytes:
    """The archive of these files, in the order of the mapping."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def release(content: bytes, sequence: int = 2, *, model: str = MODEL, version: str = "1.1.0") -> manifest.Release:
    """What a manifest says of an image."""
    digest = sha256(content).digest()
    vendor, class_id = manifest.identifiers(VENDOR, model)
    return manifest.Release(
        component=wire.COMPONENT_APP,
        vendor=vendor,
        class_id=class_id,
        sequence=sequence,
        digest=digest,
        size=len(content),
        uri=manifest.full_uri(digest),
        text=manifest.Text(VENDOR, model, version),
    )


def signed(envelope: bytes, by: list[signers.FileSigner]) -> bytes:
    """The envelope with a signature by each."""
    for signer in by:
        envelope = manifest.with_signature(envelope, sign1(signer, manifest.signature_payload(envelope)))
    return envelope


def write(folder: Path, files: dict[str, bytes] | None = None, sequence: int = 2, version: str = "1.1.0") -> Path:
    """A release's folder as `release build` leaves it, unsigned."""
    folder.mkdir()
    files = FILES if files is None else files
    content = image(files)
    made = release(content, sequence, version=version)
    (folder / "app.tar").write_bytes(content)
    (folder / "manifest.suit").write_bytes(manifest.encode(made))
    description = {
        "vendor": VENDOR,
        "model": MODEL,
        "version": version,
        "component": "app",
        "sequence": sequence,
        "digest": made.digest.hex(),
        "size": made.size,
        "manifest": manifest.decode(manifest.encode(made)).manifest_digest.hex(),
        "files": [{"name": n, "size": len(c), "sha256": sha256(c).hexdigest()} for n, c in files.items()],
    }
    (folder / "release.json").write_text(json.dumps(description))
    return folder
