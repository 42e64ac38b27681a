"""Carries out the plan of `provisioning.station.secure` with the real espefuse, step by step.

Before a step the eFuses are as the plan knows them; after it they are read again, and must differ in what the step was
for and in nothing else. What was done is in the protocol, a JSON file, before the next step begins; it holds no key. So
a run that was broken off is taken up by planning again: what is burnt is recognised, and a hidden key is known by the
protocol. Nothing is burnt without both words of consent.
"""

import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provisioning import wholefile
from provisioning.station import secure
from provisioning.station.flash import FlashError, run
from provisioning.station.secure import DIGEST_KEY, FLASH_KEY, Fuse, Plan, SecureRefused, Step

ESPEFUSE = (sys.executable, "-P", "-m", "espefuse")
TIMEOUT_S = 90.0
FORMAT = "sealband/1 secure protocol"
PROTOCOL_MAX = 1 << 20
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_PROTECTION = frozenset({"WR_DIS", "RD_DIS"})  # protecting anything is a bit in one of these


@dataclass(frozen=True)
class Consent:
    """Both words without which nothing is burnt.

    Attributes:
        burn: the operator said that eFuses may be burnt.
        mac: the chip that they named, as text.
    """

    burn: bool
    mac: str

    def check(self, mac: bytes) -> None:
        """Refuse unless both were said for this chip."""
        if not self.burn:
            raise SecureRefused("eFuses cannot be unburnt, and burning was not allowed", "say so: --yes-burn-efuses")
        if not self.names(mac.hex(":")):
            raise SecureRefused(f"the chip is {mac.hex(':')}, and that was not confirmed", "--confirm with its MAC")

    def names(self, mac: str) -> bool:
        """Whether this chip is the one that they named."""
        return self.mac.lower().replace("-", ":") == mac


class Efuses:
    """One chip's eFuses, through espefuse.

    Args:
        chip: as a board definition names it.
        port: its serial port; or
        rehearsal: a file of simulated eFuses in place of a chip.
        espefuse: the command, as an argument list.
    """

    def __init__(
        self,
        chip: str,
        *,
        port: str | None = None,
        rehearsal: Path | None = None,
        espefuse: Sequence[str] = ESPEFUSE,
    ) -> None:
        if (port is None) == (rehearsal is None):
            raise SecureRefused("neither a chip nor a rehearsal", "name --port or --rehearsal, one of them")
        self.chip = chip
        self._espefuse = list(espefuse)
        self._port = port
        self._rehearsal = rehearsal
        self._entered = False

    def read(self) -> dict[str, Fuse]:
        """All of them; raises SecureRefused."""
        return secure.fuses(self._run(["summary", "--format", "json"]))

    def burn(self, command: Sequence[str]) -> None:
        """One command of espefuse that burns; raises SecureRefused."""
        self._run(command)

    def left_loader(self) -> None:
        """Another tool has restarted the chip: the next call must bring it into its loader again."""
        self._entered = False

    def _run(self, command: Sequence[str]) -> str:
        words = [*self._espefuse, "--chip", self.chip, "--do-not-confirm"]
        if self._rehearsal is not None:
            words += ["--virt", "--path-efuse-file", str(self._rehearsal)]
        else:
            # the chip stays in its loader from the first call on: after the last step it could not enter it again
            words += ["--port", str(self._port), "--before", "no-reset" if self._entered else "default-reset"]
            words += ["--after", "no-reset"]
        try:
            status, text = run([*words, *command], TIMEOUT_S)
        except FlashError as error:
            raise SecureRefused(str(error), error.remedy) from error
        if status:
            raise SecureRefused(
                f"espefuse {command[0]}: {_shown(text)}",
                "look at the chip with espefuse summary; a chip whose loader is closed answers nothing any more",
            )
        self._entered = True
        return text


@dataclass
class Protocol:
    """What was done with one chip, in a file.

    Attributes:
        path: the file.
        mac, chip: whose it is.
        build: file → SHA-256.
        key_digest: what the chip was told of the secure boot key, hex.
        flash_key: fingerprint of the flash key.
        steps: name, outcome and time of each.
        done: all of it.
    """

    path: Path
    mac: str
    chip: str
    build: dict[str, str]
    key_digest: str
    flash_key: str
    steps: list[dict[str, Any]] = field(default_factory=list)
    done: bool = False

    def knows(self, mac: str, chip: str, flash_key: str) -> bool:
        """Whether that key was burnt into that chip, and compared, by an earlier run.

        Raises:
            SecureRefused: the protocol is another chip's.
        """
        if (mac, chip) != (self.mac, self.chip):
            raise SecureRefused(f"{self.path} is the protocol of {self.chip} {self.mac}", "name one for this chip")
        burnt = any(row.get("step") == "flash key" and row.get("outcome") == "burnt" for row in self.steps)
        return burnt and flash_key == self.flash_key

    def note(self, name: str, outcome: str, clock: Callable[[], float]) -> None:
        """Add a step, and be on disk."""
        self.steps.append({"step": name, "outcome": outcome, "at": round(clock())})
        self.write()

    def write(self) -> None:
        """Put it on disk, whole or not at all."""
        document = {"format": FORMAT} | {name: value for name, value in vars(self).items() if name != "path"}
        wholefile.replace(self.path, json.dumps(document, indent=1).encode())

    @classmethod
    def read(cls, path: Path) -> "Protocol | None":
        """The protocol in that file; None: there is none.

        Raises:
            SecureRefused: it is something else.
        """
        try:
            with path.open("rb") as file:
                row = json.loads(file.read(PROTOCOL_MAX))
        except FileNotFoundError:
            return None
        except ValueError:
            row = None
        if not isinstance(row, dict) or row.pop("format", None) != FORMAT or not _is_protocol(row):
            raise SecureRefused(f"{path} is no protocol of this command", "name another file")
        return cls(path, **row)


def carry_out(
    plan: Plan,
    efuses: Efuses,
    consent: Consent,
    protocol: Protocol,
    *,
    key_file: Path,
    flash_key: Path,
    write_flash: Callable[[], object] | None = None,
    on_step: Callable[[Step, str], object] = lambda step, outcome: None,
    clock: Callable[[], float] = time.time,
) -> None:
    """Do what is open in a plan.

    Args:
        plan: as it was shown.
        consent: what the operator said.
        protocol: takes down every step; of this chip.
        key_file: the secure boot key's public half.
        flash_key: the file of the chip's flash key.
        write_flash: writes the build, encrypted, before anything is burnt; None in a rehearsal.
        on_step: called after each step with its outcome.
        clock: Unix seconds.

    Raises:
        SecureRefused: consent is missing, the chip is another, or what is read back is not what was wanted: nothing
            more is done then.
    """
    consent.check(plan.mac)
    now = efuses.read()
    if secure.mac(now) != plan.mac:
        raise SecureRefused("the chip on the port is another than was planned for", "plan again")
    protocol.write()
    if write_flash is not None and not plan.starts_encrypted:
        write_flash()
        efuses.left_loader()
        protocol.note("flash written", "done", clock)
    files = {DIGEST_KEY: str(key_file), FLASH_KEY: str(flash_key)}
    for step in plan.steps:
        if step.state == "done":
            on_step(step, "there already")
            continue
        protocol.note(step.name, "begun", clock)
        efuses.burn([files.get(word, word) for word in step.command])
        before, now = now, efuses.read()
        if difference := _difference(step, before, now):
            protocol.note(step.name, f"stopped: {difference}", clock)
            raise SecureRefused(
                f"step {step.name}: {difference}", "set this board aside: it is not what the plan says it is"
            )
        protocol.note(step.name, "burnt", clock)
        on_step(step, "burnt")
    protocol.done = True
    protocol.write()


def _is_protocol(row: Mapping[str, Any]) -> bool:
    kinds = {"mac": str, "chip": str, "build": dict, "key_digest": str, "flash_key": str, "steps": list, "done": bool}
    return (
        set(row) == set(kinds)
        and all(isinstance(row[name], kind) for name, kind in kinds.items())
        and all(isinstance(step, dict) for step in row["steps"])
        and _MAC.fullmatch(row["mac"]) is not None
    )


def _difference(step: Step, before: Mapping[str, Fuse], after: Mapping[str, Fuse]) -> str:
    """What is not as the step wanted it; empty: all is."""
    for want in step.wants:
        # the key was read back and compared by an earlier step when it is hidden here
        if want.state(after, key_known=want.data is None) != "done":
            return f"{want.fuse} is not what was burnt"
    # a protection bit is shared by several fields
    other = [
        name
        for name in before
        if name not in step.fuses | _PROTECTION and (name not in after or before[name].data != after[name].data)
    ]
    return f"{', '.join(other)} changed too" if other else ""


def _shown(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "rror" in line or "ailed" in line or "annot" in line]
    chosen = (errors or lines or ["it said nothing"])[-1]
    if errors and errors[-1].rstrip(":").lower() == "error":
        chosen = lines[-1]
    return "".join(c if c.isprintable() else " " for c in chosen[:300])
