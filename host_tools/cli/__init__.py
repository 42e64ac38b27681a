"""The command `sealband`: its sub-commands, and what becomes of an error. Every other file here is one command group.

A file of this folder named in `COMMANDS` exposes a click group or command called `group`. It is imported only when it
is asked for, so that a part that cannot be loaded (a missing extra, a broken installation) takes no other with it.

Exit status: 0 done, 1 refused or failed, 2 used wrongly. An error is one line of what was wrong and one of what to do
next, on standard error; with `--json` it is one JSON object with `error` and `remedy`.
"""

import importlib
import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import rich_click as click
from click.exceptions import Abort, ClickException, UsageError

TRACEBACK = "SEALBAND_TRACEBACK"
OUR_PACKAGES = ("boards", "host_tools", "provisioning", "sealwire")

# file in this folder, and its one line in the list of commands (so that listing them imports nothing)
COMMANDS = {
    "registry": "Make the registry, issue tickets, import records, list devices.",
    "operator": "Who may do what: operators, logins, tokens for scripts.",
    "audit": "Show, check and export the audit trail.",
    "station": "Give boards their identity.",
    "broker": "The MQTT broker: mosquitto's configuration, certificates, rules.",
    "gateway": "Serve LoRa packet forwarders.",
    "ingest": "Open frames and store readings.",
    "courier": "Carry frames of devices whose labels you hold, over Bluetooth.",
    "readings": "Show and export readings.",
    "release": "Build, sign, verify, publish and serve releases.",
    "trust": "Keys, and the list of who may sign releases.",
    "rollout": "Bring a release onto devices, and watch it.",
    "device": "Run and test an application while it is being written.",
    "doctor": "What is missing on this machine, and what to do.",
    "sim": "Virtual boards and the radio medium.",
    "demo": "Two virtual wearables, from the factory to an update.",
}


class CommandFailed(Exception):
    """A command cannot be done: what was wrong, and what to do about it."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.remedy = remedy


class LazyGroup(click.RichGroup):
    """A group whose sub-commands lie in other files, which are imported when they are used.

    Attributes:
        parts: command name → its one line of help. Command `x` is the attribute `group` of `host_tools.cli.x`.
    """

    parts: dict[str, str] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        present = [name for name in self.parts if importlib.util.find_spec(f"{__name__}.{name}")]
        return sorted({*super().list_commands(ctx), *present})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        if own or cmd_name not in self.list_commands(ctx):
            return own
        try:
            part: click.Command = importlib.import_module(f"{__name__}.{cmd_name}").group
        except Exception as error:
            return _unavailable(cmd_name, error)
        part.name = cmd_name
        return part


def _unavailable(name: str, error: Exception) -> click.Command:
    """Stands for a command whose file cannot be imported: it is listed, and says why when it is used."""

    def refuse() -> None:
        raise CommandFailed(
            f"the command {name} cannot be loaded: {type(error).__name__}: {error}",
            "install Sealband again with all that it needs: make clean demo",
        ) from error

    return click.RichCommand(
        name=name,
        callback=refuse,
        help="(cannot be loaded)",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )


class _Root(LazyGroup):
    parts = COMMANDS


@click.group(cls=_Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sealband")
def sealband() -> None:
    """Sealed readings, device-made keys and signed updates for MicroPython wearables."""


def explain(error: BaseException) -> tuple[str, str]:
    """What was wrong and what to do next, each one line, for an error that a command ended with.

    Errors of this project's packages carry their text; `error.remedy` (str) is used where it exists. Errors of the
    operating system are put into words. Anything else is a defect of ours and says so.
    """
    what = " ".join(str(error).split()) or type(error).__name__
    remedy = str(getattr(error, "remedy", "") or "")
    if isinstance(error, UsageError):
        command = error.ctx.command_path if error.ctx else "sealband"
        return error.format_message(), f"see {command} --help"
    if isinstance(error, ClickException):
        return error.format_message(), remedy
    if isinstance(error, OSError) and not _is_ours(error):
        name = f"{error.filename}: " if error.filename else ""
        return name + (error.strerror or what), remedy or _os_remedy(error)
    if _is_ours(error):
        return what, remedy or "see --help of this command"
    return f"unexpected {type(error).__name__}: {what}", f"this is a defect; {TRACEBACK}=1 shows where"


def _is_ours(error: BaseException) -> bool:
    return type(error).__module__.split(".")[0] in OUR_PACKAGES


def _os_remedy(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "check the path"
    if isinstance(error, PermissionError):
        return "check who owns it and its mode"
    if isinstance(error, ConnectionError):
        return "check that the server runs and its address"
    return "check the path, the address and the space left"


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: this process's) and return its exit status; raises nothing."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status: Any = sealband.main(arguments, prog_name="sealband", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, Abort):
        return _report("stopped before it was done", "", arguments, 1)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BrokenPipeError:
        # the reader has left, as `head` does: nothing is wrong, and there is nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        return _report(*explain(error), arguments, error.exit_code if isinstance(error, ClickException) else 1)
    return status if isinstance(status, int) else 0


def _report(what: str, remedy: str, arguments: list[str], status: int) -> int:
    from host_tools.cli.output import shown

    # an error may quote what a stranger's file, device or server said
    what, remedy = shown(what), shown(remedy)
    if "--json" in arguments:
        print(json.dumps({"error": what, "remedy": remedy}), file=sys.stderr)
        return status
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    print(f"\x1b[31merror:\x1b[0m {what}" if colour else f"error: {what}", file=sys.stderr)
    if remedy:
        print(f"to do: {remedy}", file=sys.stderr)
    return status


def main() -> None:
    """The console script."""
    sys.exit(run())
