"""`sealband station secure`: the production profile of a chip. How it is planned and burnt is in the station's package.

sealband station secure --build build.toml --flash-key KEY --new-flash-key --port PORT      the plan, nothing is burnt
… --protocol FILE --yes-burn-efuses --confirm MAC                                        carried out
… --rehearsal FILE in place of --port                                                    on simulated eFuses
"""

import hashlib
from pathlib import Path
from typing import Literal

import rich_click as click

from host_tools.cli.output import json_option, print_json, print_table, remark
from provisioning.station import efuses, secure, securebuild
from provisioning.station.efuses import Consent, Efuses, Protocol
from provisioning.station.flash import Flasher
from provisioning.station.secure import Plan, Step

_path = click.Path(path_type=Path)


@click.command("secure")
@click.option("--profile", type=click.Choice(secure.PROFILES), default="production", help="What the chip becomes.")
@click.option("--build", "build_file", type=_path, required=True, help="build.toml of the custom build.")
@click.option("--flash-key", type=_path, required=True, help="This one chip's key for its flash; a file of mode 600.")
@click.option("--new-flash-key", is_flag=True, help="Make that file first.")
@click.option("--port", help="The chip's serial port.")
@click.option("--rehearsal", type=_path, help="A file of simulated eFuses, in place of a chip.")
@click.option("--loader", type=click.Choice(("closed", "secure")), default="closed", help="What becomes of the loader.")
@click.option(
    "--protocol", "protocol_file", type=_path, help="Where what was done is written down; JSON, without keys."
)
@click.option("--yes-burn-efuses", is_flag=True, help="Burn. It cannot be undone.")
@click.option("--confirm", default="", metavar="MAC", help="The MAC address of the chip that may be burnt.")
@json_option
def group(
    profile: str,
    build_file: Path,
    flash_key: Path,
    new_flash_key: bool,
    port: str | None,
    rehearsal: Path | None,
    loader: Literal["closed", "secure"],
    protocol_file: Path | None,
    yes_burn_efuses: bool,
    confirm: str,
    as_json: bool,
) -> None:
    """Show what closes a chip for good, and do it if told so twice: --yes-burn-efuses and --confirm MAC."""
    build = securebuild.load(build_file)
    if new_flash_key:
        securebuild.create_flash_key(flash_key)
    key = securebuild.read_flash_key(flash_key)
    protocol = Protocol.read(protocol_file) if protocol_file else None
    consent = Consent(yes_burn_efuses, confirm)
    if protocol and protocol.done:
        # a closed chip cannot be asked any more who it is
        if confirm and not consent.names(protocol.mac):
            raise secure.SecureRefused(
                f"{protocol_file} is the protocol of {protocol.mac}, not of {confirm!r}", "name one for this chip"
            )
        _tell(as_json, {"mac": protocol.mac, "done": True, "steps": []}, f"Chip {protocol.mac} was finished before.")
        return
    chip = Efuses(build.chip, port=port, rehearsal=rehearsal)
    found = chip.read()
    mac = secure.mac(found).hex(":")
    known = protocol is not None and protocol.knows(mac, build.chip, securebuild.fingerprint(key))
    plan = secure.plan(build.chip, found, digest=build.key_digest, flash_key=key, key_known=known, loader=loader)
    if not as_json:
        _show(plan)
    if not (yes_burn_efuses or confirm):
        _tell(as_json, _document(plan, False), f"Nothing was burnt. To do it: --yes-burn-efuses --confirm {mac}")
        return
    if protocol_file is None:
        raise secure.SecureRefused("there is nowhere to write down what is done", "name a file: --protocol")
    consent.check(plan.mac)
    build_files = {part.file: hashlib.sha256(part.data).hexdigest() for part in build.parts}
    protocol = protocol or Protocol(
        protocol_file, mac, build.chip, build_files, build.key_digest.hex(), securebuild.fingerprint(key)
    )

    def write() -> None:
        assert port is not None
        contents = {part.offset: securebuild.encrypted(part, build.chip, flash_key) for part in build.parts}
        Flasher(port, build.chip).write(contents)

    efuses.carry_out(
        plan,
        chip,
        consent,
        protocol,
        key_file=build.key,
        flash_key=flash_key,
        write_flash=write if port else None,
        on_step=lambda step, outcome: remark(f"{step.name}: {outcome}"),
    )
    _tell(as_json, _document(plan, True), f"Chip {mac} is closed. Now destroy {flash_key}: the chip has its key.")


def _document(plan: Plan, done: bool) -> dict[str, object]:
    return {
        "mac": plan.mac.hex(":"),
        "chip": plan.chip,
        "done": done,
        "stock_lacks": secure.STOCK_LACKS,
        "steps": [_row(step) for step in plan.steps],
    }


def _row(step: Step) -> dict[str, object]:
    state = "there already" if step.state == "done" else "to be burnt"
    return {"step": step.name, "state": state, "undo": "never", "espefuse": " ".join(step.command), "why": step.why}


def _show(plan: Plan) -> None:
    rows: list[tuple[object, ...]] = [(0, "flash written", "", "yes", "")]
    for number, step in enumerate(plan.steps, 1):
        row = _row(step)
        # names alone: a narrow terminal would cut the commands, which follow in full
        rows.append((number, step.name, row["state"], row["undo"], ", ".join(want.fuse for want in step.wants)))
    print_table(("", "step", "state", "undo", "eFuses"), rows, f"{plan.chip} {plan.mac.hex(':')}")
    for number, step in enumerate(plan.steps, 1):
        remark(f"{number}. {step.name} ({step.why}): espefuse {' '.join(step.command)}")
    remark("What MicroPython's own downloads cannot protect, so that a custom build is needed:")
    for text in secure.STOCK_LACKS:
        remark(f"- {text}")


def _tell(as_json: bool, document: dict[str, object], text: str) -> None:
    if as_json:
        print_json(document)
    else:
        remark(text)
