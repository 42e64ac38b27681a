"""`sealband release sign` and `verify`, which host_tools.cli.release takes into its group. What they do is in
host_tools.release."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import rich_click as click

import boards
from host_tools.cli import CommandFailed
from host_tools.cli.connection import key_file_option, optional_database_option
from host_tools.cli.guard import enter_if_at_hand
from host_tools.cli.output import json_option, print_json, remark
from host_tools.cli.trust import confirm
from host_tools.release import build, files, manifest
from host_tools.release import sign as signing
from host_tools.release import verify as verifying
from provisioning import signers
from sealwire.messages import EPOCH_2025
from sealwire.update import ENVELOPE_MAX, TRUST_MAX

_release = click.argument("release", metavar="FOLDER|FILE", type=click.Path(path_type=Path))
_image = click.option("--image", type=click.Path(path_type=Path), help="The image, if it is not beside the manifest.")


@click.command("sign")
@_release
@click.option("--key", "key", required=True, metavar="URI", help="file:PATH or pkcs11:… (see the README).")
@click.option(
    "--previous", type=click.Path(path_type=Path), help="The release before: its folder, to show what changed."
)
@_image
@click.option("--yes", is_flag=True, help="Do not ask.")
@optional_database_option
@key_file_option
@json_option
def sign(
    release: Path,
    key: str,
    previous: Path | None,
    image: Path | None,
    yes: bool,
    database: str | None,
    key_file: Path,
    as_json: bool,
) -> None:
    """Show a release, then add one signature to it. Needs no registry; where one is at hand, it asks who may."""
    entered = enter_if_at_hand(database, key_file, "release.sign")
    candidate = signing.open_release(release, image)
    before = signing.open_release(previous) if previous else None
    changes = signing.changes(before, candidate) if before else ()
    if not as_json:
        _show(candidate, before, changes)
    confirm("Sign this release?", yes, as_json)
    signer = signers.open_signer(key)
    envelope = signing.sign(candidate, signer)
    files.replace(candidate.path, envelope, expected=candidate.envelope)
    if entered:
        from provisioning.registry import audit

        audit.append(
            entered.vault,
            "ota_signed",
            subject=candidate.parsed.manifest_digest.hex(),
            actor=entered.actor,
            model=candidate.text.model,
            sequence=candidate.parsed.release.sequence,
            key=signers.kid(signer.public_key).hex(),
        )
    count = len(candidate.parsed.signatures) + 1
    if as_json:
        print_json(
            {
                **_facts(candidate),
                "files": [{"name": e.name, "size": e.size, "sha256": e.sha256.hex()} for e in candidate.entries],
                "previous": before and before.parsed.release.sequence,
                "changes": [vars(change) for change in changes] if before else None,
                "signed_by": signers.kid(signer.public_key).hex(),
                "signatures": count,
            }
        )
    else:
        remark(f"Signed by {signers.kid(signer.public_key).hex()}: {count} in all. Check with: sealband release verify")


@click.command("verify")
@_release
@click.option("--trust", "trust_list", required=True, type=click.Path(path_type=Path), help="The trust list's file.")
@_image
@click.option("--model", help="Whom it must be for: a model, as in board.toml.")
@json_option
def verify(release: Path, trust_list: Path, image: Path | None, model: str | None, as_json: bool) -> int:
    """Say of each rule whether a release keeps it. Exit status 1 if it breaks one."""
    vendor = class_id = None
    if model is not None:
        vendor, class_id = manifest.identifiers(_vendor(model), model)
    folder = release if release.is_dir() else release.parent
    envelope = files.read(release / build.MANIFEST if release.is_dir() else release, ENVELOPE_MAX + 1)
    beside = _image_beside(folder, envelope)
    if image is None and beside is not None and (release.is_dir() or beside.exists()):
        image = beside
    report = verifying.verify(
        envelope,
        files.read(trust_list, TRUST_MAX + 1),
        files.read(image, build.IMAGE_MAX) if image else None,
        vendor=vendor,
        class_id=class_id,
        now_s=int(time.time()) - EPOCH_2025,
    )
    if as_json:
        print_json(
            {
                "ok": report.ok,
                "rules": [vars(rule) for rule in report.rules],
                "signatures": [vars(signature) for signature in report.signatures],
            }
        )
    else:
        words = {True: "holds", False: "BROKEN", None: "–"}
        _print_lines((words[rule.holds], rule.name, rule.text) for rule in report.rules)
        remark("Every rule that was looked at holds." if report.ok else f"Broken: {', '.join(report.broken)}.")
    return 0 if report.ok else 1


def _facts(candidate: signing.Candidate) -> dict[str, object]:
    release, text = candidate.parsed.release, candidate.text
    return {
        "model": text.model,
        "vendor": text.vendor,
        "version": text.version,
        "sequence": release.sequence,
        "component": release.component.decode(),
        "vendor_id": str(release.vendor),
        "class_id": str(release.class_id),
        "image": release.digest.hex(),
        "size": release.size,
        "delivery": release.uri,
        "manifest": candidate.parsed.manifest_digest.hex(),
    }


def _show(candidate: signing.Candidate, before: signing.Candidate | None, changes: tuple[signing.Change, ...]) -> None:
    then = _facts(before) if before else {}
    facts = {**_facts(candidate), "files": len(candidate.entries), "signatures": len(candidate.parsed.signatures)}
    _print_lines(
        (name, f"{value} (before: {then[name]})" if name in ("version", "sequence", "size") and then else value)
        for name, value in facts.items()
    )
    if before is None:
        _print_lines((entry.name, entry.size, entry.sha256.hex()[:16]) for entry in candidate.entries)
        remark("What changed since the last release is shown with --previous FOLDER.")
        return
    print(f"Since release {before.parsed.release.sequence} ({before.parsed.release.digest.hex()}):")
    _print_lines(
        (c.what, c.name, c.before, "→", c.after, f"({(c.after or 0) - (c.before or 0):+} bytes)") for c in changes
    )
    same = len(candidate.entries) - sum(change.after is not None for change in changes)
    remark(f"{len(changes)} files differ, {same} do not.")


def _print_lines(rows: Iterable[Sequence[object]]) -> None:
    """Rows in columns, nothing cut off: people compare digests by their last digits, too."""
    cells = [[_safe(cell) for cell in row] for row in rows]
    if not cells:
        return
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _safe(cell: object) -> str:
    # control characters would let a file's text move the cursor of whoever looks at it
    return "".join(c if c.isprintable() else "�" for c in ("–" if cell is None else str(cell)))


def _image_beside(folder: Path, envelope: bytes) -> Path | None:
    """Where the image of a release lies; None if the manifest can't be read, which is then told by its own rule."""
    try:
        return folder / build.IMAGES[manifest.decode(envelope).release.component]
    except manifest.ManifestError:
        return None


def _vendor(model: str) -> str:
    for name in boards.names():
        board = boards.load(name)
        if board.model == model:
            return board.vendor
    raise CommandFailed(f"no board is of the model {model!r}", "name a model of boards/*/board.toml")
