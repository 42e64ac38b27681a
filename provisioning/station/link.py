"""The station's link to one board: the real mpremote as a subprocess, with hex in and one line of hex out.

Knows how a board is asked and how its answer is read; what is asked when is in `provisioning.station.bench`. Whatever a
board prints is a stranger's text: bounded, strictly parsed, and shown only with its control characters taken out.
"""

import contextlib
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import cbor2

from provisioning import tickets
from sealwire import enrolment as wire
from sealwire.frame import EUI_LEN

OUTPUT_MAX = 64 << 10  # bytes of one answer, both streams together
TEXT_MAX = 300  # characters of a board's text in a message
STATUS_TIMEOUT_S = 30.0
ENROL_TIMEOUT_S = 90.0  # three scalar multiplications on the chip, half a second to a second each, and mpremote's own
END_TIMEOUT_S = 5.0
PREFIX = "sealband/1 "
_OK = re.compile(r"sealband/1 ok ([0-9a-f]{2,8192})")
_REFUSED = re.compile(r"sealband/1 refused ([a-z_]{1,24}) (.{0,300})")
_STATUS_FIELDS = {"eui", "model", "ticket", "chain"}


class LinkError(Exception):
    """The board did not answer, or not as a board does. Trying again is harmless."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


class BoardRefused(Exception):
    """The board answered that it will not.

    Attributes:
        code: the board's word for why, of `sealband.enrol`.
    """

    remedy = "see the board's reason; another board may still be enrolled"

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"the board refused ({code}): {text}")
        self.code = code


@dataclass(frozen=True)
class Status:
    """What a board says of itself.

    Attributes:
        eui: EUI-64, 8 bytes.
        model: its model.
        ticket: the ticket that it was enrolled with, 8 bytes, or None.
        chain: whether it has a key chain.
    """

    eui: bytes
    model: str
    ticket: bytes | None
    chain: bool

    @classmethod
    def from_bytes(cls, data: bytes) -> "Status":
        """Parse the answer to `status`; raises LinkError."""
        try:
            row = cbor2.loads(data)
        except Exception:
            # cbor2 lets through whatever building a value out of hostile bytes raises
            raise _not_an_answer("a status that is not CBOR") from None
        if not isinstance(row, dict) or set(row) != _STATUS_FIELDS:
            raise _not_an_answer("a status without its fields")
        eui, model, ticket, chain = row["eui"], row["model"], row["ticket"], row["chain"]
        if not isinstance(eui, bytes) or len(eui) != EUI_LEN:
            raise _not_an_answer("an EUI that is not 8 bytes")
        if ticket is not None and (not isinstance(ticket, bytes) or len(ticket) != wire.TICKET_ID_LEN):
            raise _not_an_answer("a ticket's number that is not 8 bytes")
        try:
            tickets.check_model(model if isinstance(model, str) else "")
        except ValueError:
            raise _not_an_answer("a model's name that is none") from None
        if not isinstance(chain, bool):
            raise _not_an_answer("a status without its fields")
        return cls(eui, model, ticket, chain)


class Link:
    """One board on a serial port.

    Args:
        port: the port's path or name; never one of mpremote's own words.
        mpremote: the command, as an argument list.
        resume: do without the soft reset before each question. The reset stops the application and empties the heap,
            which enrolment needs; a board that cannot do it can be asked all the same.
    """

    def __init__(
        self, port: str, mpremote: Sequence[str] = (sys.executable, "-m", "mpremote"), *, resume: bool = False
    ) -> None:
        if not port or port.startswith("-") or not port.isprintable():
            raise LinkError(f"{_shown(port)!r} is not a serial port", "name a port such as /dev/ttyUSB0")
        self.port = port
        self._mpremote = list(mpremote)
        self._resume = ["resume"] if resume else []

    def status(self) -> Status:
        """Ask who the board is.

        Raises:
            LinkError, BoardRefused.
        """
        return Status.from_bytes(self._ask("enrol.console('status')", STATUS_TIMEOUT_S))

    def enrol(self, ticket: tickets.Ticket, station_nonce: bytes, now_s: int) -> bytes:
        """Have the board enrol itself; returns its signed record, unchecked.

        Args:
            now_s: seconds since 2025-01-01T00:00:00Z.

        Raises:
            LinkError, BoardRefused.
        """
        call = (
            f"enrol.console('enrol', '{ticket.ticket_id.hex()}', '{ticket.public_key.hex()}', "
            f"'{station_nonce.hex()}', {int(now_s)})"
        )
        return self._ask(call, ENROL_TIMEOUT_S)

    def restart(self) -> None:
        """Reset the board, so that it boots as what it is now; raises LinkError."""
        self._run(["reset"], STATUS_TIMEOUT_S)

    def _ask(self, call: str, timeout_s: float) -> bytes:
        source = f"import gc\ngc.collect()\nfrom sealband import enrol\n{call}\n"
        return _answer(self._run([*self._resume, "exec", source], timeout_s))

    def _run(self, words: Sequence[str], timeout_s: float) -> str:
        """What mpremote printed; LinkError if it failed, said too much or took too long."""
        command = [*self._mpremote, "connect", f"port:{self.port}", *words]
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        ) as process:
            try:
                out, error = _read(process, timeout_s)
                status = process.wait(timeout=END_TIMEOUT_S)
            except BaseException as stopped:
                # the whole group, also when it is we who are stopped
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                if isinstance(stopped, subprocess.TimeoutExpired):
                    raise LinkError("mpremote does not end", "check the port") from None
                raise
        if status:
            raise _failed(out, error)
        return out.decode("utf-8", errors="replace")


def _read(process: subprocess.Popen[bytes], timeout_s: float) -> tuple[bytes, bytes]:
    assert process.stdout and process.stderr
    limit = time.monotonic() + timeout_s
    streams = {process.stdout: bytearray(), process.stderr: bytearray()}
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, limit - time.monotonic()))
            if not ready:
                raise LinkError(
                    f"the board did not answer within {timeout_s:.0f} s",
                    "check the cable and that no other program has the port",
                )
            for key, _ in ready:
                chunk = os.read(key.fd, 4096)
                if not chunk:
                    selector.unregister(key.fileobj)
                streams[key.fileobj].extend(chunk)  # type: ignore[index]
            if sum(map(len, streams.values())) > OUTPUT_MAX:
                raise _not_an_answer(f"more than {OUTPUT_MAX} bytes")
    return bytes(streams[process.stdout]), bytes(streams[process.stderr])


def _answer(text: str) -> bytes:
    """The bytes of the one line that is an answer."""
    lines = [line for line in text.splitlines() if line.startswith(PREFIX)]
    if len(lines) != 1:
        raise _not_an_answer(f"{len(lines)} answers: {_shown(text)}")
    if found := _OK.fullmatch(lines[0]):
        digits = found.group(1)
        if len(digits) % 2 == 0:
            return bytes.fromhex(digits)
    if found := _REFUSED.fullmatch(lines[0]):
        raise BoardRefused(found.group(1), _shown(found.group(2)))
    raise _not_an_answer(_shown(lines[0]))


def _failed(out: bytes, error: bytes) -> LinkError:
    text = (error + b"\n" + out).decode("utf-8", errors="replace").strip()
    if "ImportError" in text or "no module named" in text:
        return LinkError(f"the board runs no Sealband: {_shown(text.splitlines()[-1])}", "flash it first")
    if "Traceback" in text:
        return LinkError(f"the board failed: {_shown(text.splitlines()[-1])}", "reset the board and try again")
    last = text.splitlines()[-1] if text else "no text"
    return LinkError(f"mpremote failed: {_shown(last)}", "check the port, the cable and that no other program has it")


def _not_an_answer(what: str) -> LinkError:
    return LinkError(f"the board answered something else: {what}", "check that this is a Sealband board")


def _shown(text: str) -> str:
    """A stranger's text for a message: short, on one line, nothing that moves a terminal's cursor."""
    return "".join(c if c.isprintable() else " " for c in text[:TEXT_MAX]).strip()
