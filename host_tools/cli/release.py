"""`sealband release`: from source to a published release. What the commands do is in host_tools.release.

sealband release build --board LILYGO_T_BEAM --sequence 8 --version 1.3.0 --out out/8 --previous www
sealband release sign out/8 --key URI             each signer
sealband release verify out/8 --trust trust-1.cbor
sealband release publish www --release out/8 --trust trust-1.cbor
sealband release serve www
sealband release tree out/8 --board LILYGO_T_BEAM --trust trust-1.cbor --origin http://updates.example --out tree
"""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import rich_click as click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

import boards
from host_tools.cli import CommandFailed
from host_tools.cli.connection import key_file_option, optional_database_option
from host_tools.cli.guard import enter_if_at_hand
from host_tools.cli.output import json_option, print_json, print_json_line, print_table, remark
from host_tools.cli.release_signing import sign, verify
from host_tools.cli.stop import stoppable
from host_tools.release import build as building
from host_tools.release import bundle, files, flash, manifest, repository
from host_tools.release.serve import LOOPBACK, RepositoryServer
from sealwire.messages import EPOCH_2025
from sealwire.update import TRUST_MAX

ROOT = Path(__file__).resolve().parents[2]
BROKER_PORT = 8883  # secure-mqtt, IANA
_path = click.Path(path_type=Path)


@click.group("release")
def group() -> None:
    """Build, sign, verify, publish and serve releases."""


group.add_command(sign)
group.add_command(verify)


@group.command()
@click.option("--board", "name", required=True, metavar="NAME", help="For which board: a folder of boards/.")
@click.option("--device", type=_path, default=ROOT / "device", help="Device code; default: the source's.")
@click.option("--app", type=_path, help="An application in place of the folder's app.py.")
@click.option("--firmware", type=_path, help="An ESP32 application image, in place of device code.")
@click.option("--sequence", type=click.IntRange(1, 0xFFFFFFFF), help="Above that of every release before.")
@click.option("--version", required=True, metavar="TEXT", help="For people.")
@click.option("--previous", type=_path, help="A release, a folder of them or a repository, to be above of.")
@click.option("--lock", type=_path, default=ROOT / "requirements.lock", help="For the SBOM; default: the source's.")
@click.option("--out", required=True, type=_path, help="The folder to be made.")
@json_option
def build(
    name: str,
    device: Path,
    app: Path | None,
    firmware: Path | None,
    sequence: int | None,
    version: str,
    previous: Path | None,
    lock: Path,
    out: Path,
    as_json: bool,
) -> None:
    """Build a release: image, SBOM, unsigned manifest. The same source and tools give the same bytes.

    The SBOM has a time only if SOURCE_DATE_EPOCH says it.
    """
    order = building.Order(boards.load(name), sequence, version, out, lock, previous, _source_date())
    if firmware is not None:
        if app is not None:
            raise click.UsageError("--firmware and --app are for different releases")
        built = building.build_firmware(order, firmware)
    else:
        built = _build_app(order, device, app, quiet=as_json)
    release = built.release
    if as_json:
        print_json(
            {
                "folder": str(built.folder),
                "model": order.board.model,
                "version": version,
                "component": release.component.decode(),
                "sequence": release.sequence,
                "digest": release.digest,
                "size": release.size,
                "delivered": built.delivered,
                "manifest": built.manifest_digest,
                "files": len(built.entries),
            }
        )
        return
    # in lines, since nothing of a digest may be cut off
    print(f"model     {order.board.model}")
    print(f"version   {version}")
    print(f"sequence  {release.sequence}")
    print(f"image     {release.digest.hex()}")
    print(f"manifest  {built.manifest_digest.hex()}")
    remark(f"{len(built.entries)} files, {release.size} bytes; {built.delivered} bytes to be fetched.")
    remark(f"Not signed yet: sealband release sign {built.folder} --key URI")


@group.command()
@click.argument("directory", type=_path)
@click.option("--release", "folder", required=True, type=_path, help="The signed release's folder.")
@click.option(
    "--trust",
    "trust_lists",
    required=True,
    multiple=True,
    type=_path,
    help="The newest trust list's file; with others before it, if there are: --trust again.",
)
@click.option(
    "--last",
    type=click.IntRange(0, repository.PATCHES_MAX),
    default=repository.PATCHES,
    show_default=True,
    help="From how many of the last releases there are to be patches.",
)
@optional_database_option
@key_file_option
@json_option
def publish(
    directory: Path,
    folder: Path,
    trust_lists: tuple[Path, ...],
    last: int,
    database: str | None,
    key_file: Path,
    as_json: bool,
) -> None:
    """Put a signed release into DIRECTORY, as static files for any web server.

    Needs no registry; where one is at hand, it asks who may.
    """
    entered = enter_if_at_hand(database, key_file, "release.publish")
    lists = [files.read(path, TRUST_MAX) for path in trust_lists]
    done = repository.publish(directory, folder, lists, now_s=int(time.time()) - EPOCH_2025, keep=last)
    if entered:
        from provisioning.registry import audit

        audit.append(
            entered.vault,
            "ota_published",
            subject=done.parsed.manifest_digest.hex(),
            actor=entered.actor,
            sequence=done.parsed.release.sequence,
            files=len(done.added),
        )
    path = (done.folder / building.MANIFEST).relative_to(directory).as_posix()
    if as_json:
        print_json(
            {
                "folder": str(done.folder),
                "path": path,
                "sequence": done.parsed.release.sequence,
                "manifest": done.parsed.manifest_digest,
                "full": done.full,
                "patches": {str(sequence): size for sequence, size in done.patches.items()},
                "trust": done.trust,
                "added": done.added,
            }
        )
        return
    rows = [("full image", done.full, "")]
    rows += [(f"patch from release {base}", size, f"{size / done.full:.1%}") for base, size in done.patches.items()]
    print_table(("delivered", "bytes", "of the full image"), rows, title=path)
    remark(f"{len(done.added)} files added." if done.added else "It was all there already; nothing was changed.")


@group.command()
@click.argument("folder", type=_path)
@click.option("--board", "name", required=True, metavar="NAME", help="For which board: a folder of boards/.")
@click.option("--trust", "trust_list", required=True, type=_path, help="The trust list's file; boards start with it.")
@click.option("--origin", "origins", required=True, multiple=True, metavar="URL", help="Where updates come from.")
@click.option("--ca", type=_path, help="The certificate that the servers' are signed by, DER; needed for https.")
@click.option("--wifi", metavar="SSID", help="The Wi-Fi for updates; the passphrase comes from --wifi-passphrase.")
@click.option("--wifi-passphrase", type=_path, help="The file whose first line is the Wi-Fi's passphrase.")
@click.option("--broker", metavar="HOST[:PORT]", help="The MQTT broker, for boards with Wi-Fi or a modem; port 8883.")
@click.option("--apn", metavar="NAME", help="The access point of the SIM's operator, for boards with a modem.")
@click.option("--apn-user", metavar="NAME", default="", help="The user's name there, if it wants one.")
@click.option("--apn-password", type=_path, help="The file whose first line is the password there.")
@click.option("--sim-pin", type=_path, help="The file whose first line is the SIM's PIN.")
@click.option(
    "--device", type=_path, default=ROOT / "device", help="Device code, for what boots; default: the source's."
)
@click.option("--out", required=True, type=_path, help="The folder to be made.")
@json_option
def tree(
    folder: Path,
    name: str,
    trust_list: Path,
    origins: tuple[str, ...],
    ca: Path | None,
    wifi: str | None,
    wifi_passphrase: Path | None,
    broker: str | None,
    apn: str | None,
    apn_user: str,
    apn_password: Path | None,
    sim_pin: Path | None,
    device: Path,
    out: Path,
    as_json: bool,
) -> None:
    """Make what a station puts onto new boards, of the signed release in FOLDER. The release is verified first."""
    if wifi_passphrase is not None and wifi is None:
        raise click.UsageError("--wifi-passphrase needs --wifi")
    if apn is None and (apn_user or apn_password is not None or sim_pin is not None):
        raise click.UsageError("--apn-user, --apn-password and --sim-pin need --apn")
    board = boards.load(name)
    vendor, class_id = manifest.identifiers(board.vendor, board.model)
    provision = flash.Provision(
        vendor,
        class_id,
        origins,
        (wifi, _first_line(wifi_passphrase)) if wifi is not None else None,
        files.read(ca, TRUST_MAX) if ca is not None else None,
        _broker(broker) if broker is not None else None,
        flash.Cellular(apn, _first_line(sim_pin), apn_user, _first_line(apn_password)) if apn is not None else None,
    )
    made = flash.flash_tree(
        folder,
        files.read(trust_list, TRUST_MAX),
        out,
        device=device,
        provision=provision,
        now_s=int(time.time()) - EPOCH_2025,
        with_manifest=True,
    )
    if as_json:
        print_json({"folder": str(out), "model": board.model, "files": [path.as_posix() for path in made]})
    else:
        remark(f"{len(made)} files in {out}, for {board.model}: sealband station run --tree {out}")


@group.command()
@click.argument("directory", type=_path)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any that is free.")
@click.option("--host", default=LOOPBACK, show_default=True, help="Address to listen on; 0.0.0.0 for boards on Wi-Fi.")
@json_option
def serve(directory: Path, port: int, host: str, as_json: bool) -> None:
    """Serve a repository until stopped, for trying it out."""

    def show(line: str) -> None:
        if as_json:
            print_json_line({"event": "request", "line": line})
        else:
            remark(line)

    with stoppable() as stopping, RepositoryServer(directory, port, host=host, log=show) as server:
        if as_json:
            print_json_line({"event": "ready", "url": server.url})
        else:
            print(server.url, flush=True)
        stopping.wait()


def _first_line(path: Path | None) -> str:
    if path is None:
        return ""
    return files.read(path, 256).decode("utf-8", errors="replace").split("\n")[0].rstrip("\r")


def _broker(text: str) -> tuple[str, int]:
    host, mark, port = text.partition(":")
    if mark and not (port.isascii() and port.isdigit() and len(port) <= 5):
        raise click.UsageError(f"--broker: {text!r} is no HOST[:PORT]")
    return host, int(port) if mark else BROKER_PORT


def _build_app(order: building.Order, device: Path, app: Path | None, *, quiet: bool) -> building.Built:
    columns = (TextColumn("compile"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[name]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as progress:
        task = progress.add_task("compile", total=len(bundle.sources(device, order.board, app)), name="")
        return building.build_app(
            order, device, app, lambda path: progress.update(task, advance=1, name=path.as_posix())
        )


def _source_date() -> datetime | None:
    # reproducible-builds.org, "SOURCE_DATE_EPOCH"
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    try:
        return datetime.fromtimestamp(int(text), UTC)
    except (ValueError, OverflowError, OSError):
        raise CommandFailed(
            f"SOURCE_DATE_EPOCH is no time: {text!r}", "set it to seconds since 1970, or not at all"
        ) from None
