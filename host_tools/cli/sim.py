"""`sealband sim`: the virtual board; the radio medium is in `host_tools.cli.ether`."""

import contextlib
import hashlib
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import rich_click as click

import boards
from host_tools.cli import CommandFailed, LazyGroup
from host_tools.cli.addresses import HostPort
from host_tools.cli.output import json_option, print_json_line, remark
from host_tools.cli.stop import stoppable
from host_tools.release.bundle import compile_tree
from host_tools.sim import script
from host_tools.sim.board import HEAP, BoardError, VirtualBoard
from host_tools.sim.clock import SimClock
from host_tools.sim.outfit import outfit
from host_tools.sim.wearer import Wearer


class _Sim(LazyGroup):
    parts = {
        "day": "A day of two wearers, and what arrived of it.",
        "energy": "How long a cell lasts: a day, part by part.",
        "ether": "The radio medium, and simulated gateways on it.",
        "modem": "A simulated cellular modem on a serial port.",
    }


class Mac(click.ParamType):  # type: ignore[type-arg]
    """Twelve hex digits, with or without colons; arrives as six bytes."""

    name = "mac"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        if isinstance(value, bytes):
            return value
        digits = str(value).replace(":", "").replace("-", "")
        if not re.fullmatch(r"[0-9A-Fa-f]{12}", digits):
            self.fail(f"{value!r} is not a MAC address of twelve hex digits", param, ctx)
        return bytes.fromhex(digits)


@click.group(cls=_Sim)
def group() -> None:
    """Virtual boards and the radio medium."""


@group.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--name", help="Of the board, also on the ether; default: the directory's name.")
@click.option("--mac", type=Mac(), help="Default: made from the name.")
@click.option("--board", "definition", default="VIRTUAL", show_default=True, help="Which board definition it follows.")
@click.option(
    "--install",
    "device",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Compile this folder of device code and put it into the flash first.",
)
@click.option(
    "--tree",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Put this folder into the flash as it is, in place of everything there.",
)
@click.option(
    "--wifi", nargs=2, metavar="SSID KEY", help="There is an access point; the board reaches what this host does."
)
@click.option("--ether", type=HostPort(), help="The radio medium, as `sealband sim ether` prints it.")
@click.option("--modem", help="The serial port of a modem, as `sealband sim modem` prints it.")
@click.option("--heap", default=HEAP, show_default=True, help="As MicroPython's -X heapsize=.")
@click.option("--seed", type=int, help="Of the wearer; default: made from the name.")
@click.option(
    "--script",
    "script_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What the wearer does, a TOML file: walks, falls, an SOS, the band taken off.",
)
@click.option(
    "--speed",
    type=click.FloatRange(0.01, 1000),
    help="Virtual seconds a real second; default: the clock in SEALBAND_SIM_CLOCK, or 1.",
)
@click.option("--link", type=click.Path(path_type=Path), help="Make this symbolic link to the serial port.")
@click.option("--control", is_flag=True, help="Take on, cut, reset, wifi-up, wifi-down or stop from standard input.")
@click.option("--quiet", is_flag=True, help="Do not print the board's console.")
@json_option
def board(
    directory: Path,
    name: str | None,
    mac: bytes | None,
    definition: str,
    device: Path | None,
    tree: Path | None,
    wifi: tuple[str, str] | None,
    ether: tuple[str, int] | None,
    modem: str | None,
    heap: str,
    seed: int | None,
    script_file: Path | None,
    speed: float | None,
    link: Path | None,
    control: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run a virtual board until stopped: MicroPython on a serial port, flash and NVS kept in DIRECTORY."""
    if device is not None and tree is not None:
        raise click.UsageError("--install and --tree both fill the flash: name one")
    called = name or directory.resolve().name
    digest = hashlib.sha256(called.encode()).digest()
    clock = SimClock.from_environment() if speed is None else SimClock.start(speed)
    described = boards.load(definition)
    followed = None if script_file is None else script.load(script_file)
    wearer = Wearer(int.from_bytes(digest[6:10], "big") if seed is None else seed, script=followed)
    fitted = outfit(described, wearer, clock)

    with stoppable() as stopping, ExitStack() as running:

        def show(line: str) -> None:
            try:
                if as_json:
                    print_json_line({"event": "line", "line": line})
                else:
                    print("".join(c if c.isprintable() else "�" for c in line), flush=True)
            except OSError:
                stopping.set()  # whoever read this has left

        virtual = VirtualBoard(
            directory,
            name=called,
            mac=mac or bytes((digest[0] & 0xFC | 2, *digest[1:6])),  # locally administered, one station
            clock=clock,
            **fitted.arguments,
            ether=ether,
            heap=heap,
            layout=described.flash_layout(),
            chip=described.chip,
            wifi={"ssid": wifi[0], "key": wifi[1]} if wifi else None,
            modem=modem,
            modem_key=described.modem.power_key if described.modem else None,
            on_line=None if quiet else show,
        )
        if tree is not None:
            virtual.install(tree, clean=True)
        if device is not None:
            with TemporaryDirectory() as folder:
                compile_tree(device, Path(folder) / "tree", described)
                virtual.install(Path(folder) / "tree")
        running.enter_context(virtual)
        running.enter_context(_linked(link, virtual.port))
        if as_json:
            print_json_line({"event": "port", "port": virtual.port, "name": called})
        else:
            remark(f"{called}: mpremote connect {virtual.port}")
        if control:
            threading.Thread(target=_control, args=(virtual, stopping), daemon=True).start()
        stopping.wait()


def _control(virtual: VirtualBoard, stopping: threading.Event) -> None:
    verbs: dict[str, Callable[[], None]] = {
        "on": virtual.power_on,
        "cut": virtual.power_cut,
        "reset": virtual.reset,
        "wifi-up": partial(setattr, virtual, "wifi_up", True),
        "wifi-down": partial(setattr, virtual, "wifi_up", False),
        "stop": stopping.set,
    }
    for line in sys.stdin:
        verb = verbs.get(line.strip())
        if verb is None:
            remark(f"not a command: {line.strip()[:40]!r}; there are: {', '.join(verbs)}")
            continue
        try:
            verb()
        except BoardError as error:
            remark(f"{line.strip()}: {error}")
    stopping.set()


@contextmanager
def _linked(link: Path | None, port: str) -> Iterator[None]:
    if link is None:
        yield
        return
    if link.is_symlink():
        link.unlink()  # of a board that was killed
    try:
        link.symlink_to(port)
    except OSError as error:
        raise CommandFailed(f"cannot make the link {link}: {error.strerror}", "name another path") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if os.readlink(link) == port:
                link.unlink()
