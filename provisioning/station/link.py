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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cbor2

from provisioning import tickets
from sealwire import enrolment as wire
from sealwire.frame import EUI_LEN

MPREMOTE = (sys.executable, "-P", "-m", "mpremote")
OUTPUT_MAX = 64 << 10  # bytes of one answer, both streams together
TEXT_MAX = 300  # characters of a board's text in a message
STATUS_TIMEOUT_S = 30.0
EXAMINE_TIMEOUT_S = 90.0  # every file of the release is hashed on the chip, and each sensor started
POLL_S = 0.25  # how often is looked whether the port is still there
ENROL_TIMEOUT_S = 90.0  # three scalar multiplications on the chip, half a second to a second each, and mpremote's own
END_TIMEOUT_S = 5.0
PREFIX = "sealband/1 "
_OK = re.compile(r"sealband/1 ok ([0-9a-f]{2,8192})")
_REFUSED = re.compile(r"sealband/1 refused ([a-z_]{1,24}) (.{0,300})")
_STATUS_FIELDS = {"eui", "model", "ticket", "chain"}
_SELFTEST_FIELDS = {"flash", "free", "heap", "random", "radio", "sensors", "release", "slot"}
_SENSORS_MAX = 32
_TEST_OK = "ok"
_PATH = re.compile(r"/[a-z0-9/._-]{1,60}")


class LinkError(Exception):
    """The board did not answer, or not as a board does. Trying again is harmless.

    Attributes:
        gone: its port is not there any more.
    """

    def __init__(self, what: str, remedy: str, *, gone: bool = False) -> None:
        super().__init__(what)
        self.remedy = remedy
        self.gone = gone


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
        row = _cbor(data, "a status")
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


@dataclass(frozen=True)
class SelfTest:
    """What a board found when it tested itself.

    Attributes:
        flash: bytes of its flash.
        free: of them, free bytes of the file system.
        heap: free bytes.
        faults: part → why it is not well, for "random", "radio" and each sensor by its name.
        release: sequence and digest of what runs.
        slot: which slot that is.
    """

    flash: int
    free: int
    heap: int
    faults: Mapping[str, str]
    release: tuple[int, bytes]
    slot: int

    @classmethod
    def from_bytes(cls, data: bytes) -> "SelfTest":
        """Parse the answer to `run`; raises LinkError."""
        row = _cbor(data, "a self-test")
        if not isinstance(row, dict) or set(row) != _SELFTEST_FIELDS or not isinstance(row["sensors"], dict):
            raise _not_an_answer("a self-test without its fields")
        numbers = [row[name] for name in ("flash", "free", "heap", "slot")]
        if any(type(number) is not int or number < 0 for number in numbers) or len(row["sensors"]) > _SENSORS_MAX:
            raise _not_an_answer("a self-test with a number that is none")
        results = {"random": row["random"], "radio": row["radio"], **row["sensors"]}
        if not all(isinstance(name, str) and isinstance(found, str) for name, found in results.items()):
            raise _not_an_answer("a self-test whose results are no text")
        faults = {_shown(name): _shown(found) for name, found in results.items() if found != _TEST_OK}
        flash, free, heap, slot = numbers
        return cls(flash, free, heap, faults, _release(row["release"]), slot)


class Link:
    """One board on a serial port.

    Args:
        port: the port's path or name; never one of mpremote's own words.
        present: whether the board is still there, asked while it is waited for.
        mpremote: the command, as an argument list.
        resume: do without the soft reset before each question. The reset stops the application and empties the heap,
            which enrolment needs; a board that cannot do it can be asked all the same.
    """

    def __init__(
        self,
        port: str,
        mpremote: Sequence[str] = MPREMOTE,
        *,
        resume: bool = False,
        present: Callable[[], bool] = lambda: True,
    ) -> None:
        if not port or port.startswith("-") or not port.isprintable():
            raise LinkError(f"{_shown(port)!r} is not a serial port", "name a port such as /dev/ttyUSB0")
        self.port = port
        self._mpremote = list(mpremote)
        self._resume = ["resume"] if resume else []
        self._present = present

    def status(self) -> Status:
        """Ask who the board is.

        Raises:
            LinkError, BoardRefused.
        """
        return Status.from_bytes(self._ask("enrol.console('status')", timeout_s=STATUS_TIMEOUT_S)[0])

    def verify(self, envelope: str) -> tuple[int, bytes]:
        """Have the board verify the release that it holds, by its own trust list.

        Args:
            envelope: path of the manifest's envelope on the board.

        Returns:
            The release's sequence and digest.

        Raises:
            LinkError, BoardRefused.
        """
        if not _PATH.fullmatch(envelope):
            raise ValueError("not a path on a board")
        answer = self._ask(f"selftest.console('release', '{envelope}')", timeout_s=EXAMINE_TIMEOUT_S)[0]
        return _release(_cbor(answer, "a release"))

    def selftest(self) -> SelfTest:
        """Have the board test itself; raises LinkError, BoardRefused."""
        return SelfTest.from_bytes(self._ask("selftest.console('run')", timeout_s=EXAMINE_TIMEOUT_S)[0])

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
        return self._ask(call, timeout_s=ENROL_TIMEOUT_S)[0]

    def csr(self) -> bytes:
        """The PKCS#10 request for the board's TLS key, DER; raises LinkError, BoardRefused."""
        return self._ask("enrol.console('csr')", timeout_s=ENROL_TIMEOUT_S)[0]

    def store_certificate(self, certificate: bytes) -> bytes:
        """Put the certificate (DER) beside the board's TLS key; what the board says that it has, SHA-256.

        Raises:
            LinkError, BoardRefused.
        """
        return self._ask(f"enrol.console('certificate', '{certificate.hex()}')", timeout_s=STATUS_TIMEOUT_S)[0]

    def seal(self) -> tuple[bytes, bytes]:
        """A sealed frame and the claim secret; raises LinkError, BoardRefused."""
        frame, claim = self._ask("enrol.console('seal')", "enrol.console('claim')", timeout_s=STATUS_TIMEOUT_S)
        return frame, claim

    def claim(self) -> bytes:
        """The claim secret alone; raises LinkError, BoardRefused."""
        return self._ask("enrol.console('claim')", timeout_s=STATUS_TIMEOUT_S)[0]

    def close(self, service_key: bytes) -> None:
        """Close the board's REPL with its next reset, and reset it.

        Args:
            service_key: whose tokens open it again, 65 bytes; b"": nobody's.

        Raises:
            LinkError, BoardRefused.
        """
        call = f"enrol.console('service', '{service_key.hex()}')"
        self._ask(call, timeout_s=STATUS_TIMEOUT_S, then=("reset",))

    def restart(self) -> None:
        """Reset the board, so that it boots as what it is now; raises LinkError."""
        self._run(["reset"], STATUS_TIMEOUT_S)

    def _ask(self, *calls: str, timeout_s: float, then: Sequence[str] = ()) -> list[bytes]:
        """The answer to each of these calls, in one session; raises for the first that is refused."""
        # a release's modules are in one file; a board with plain files has no module that says so
        lines = ["try:", " import pack", "except ImportError:", " pass", "import gc", "gc.collect()"]
        for call in calls:
            lines += [f"from sealband import {call.split('.')[0]}", call]
        source = "\n".join(lines) + "\n"
        return _answers(self._run([*self._resume, "exec", source, *then], timeout_s), len(calls))

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
                out, error = _read(process, timeout_s, self._present)
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


def _read(process: subprocess.Popen[bytes], timeout_s: float, present: Callable[[], bool]) -> tuple[bytes, bytes]:
    assert process.stdout and process.stderr
    limit = time.monotonic() + timeout_s
    streams = {process.stdout: bytearray(), process.stderr: bytearray()}
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            left = limit - time.monotonic()
            ready = selector.select(max(0.0, min(left, POLL_S)))
            if not ready and not present():
                raise LinkError("the board was unplugged", "plug it in again", gone=True)
            if not ready and left <= 0:
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


def _answers(text: str, count: int) -> list[bytes]:
    """The bytes of the lines that are answers."""
    lines = [line for line in text.splitlines() if line.startswith(PREFIX)]
    for line in lines:
        if found := _REFUSED.fullmatch(line):
            raise BoardRefused(found.group(1), _shown(found.group(2)))
    if len(lines) != count:
        raise _not_an_answer(f"{len(lines)} answers: {_shown(text)}")
    answers = []
    for line in lines:
        found = _OK.fullmatch(line)
        if not found or len(found.group(1)) % 2:
            raise _not_an_answer(_shown(line))
        answers.append(bytes.fromhex(found.group(1)))
    return answers


def _cbor(data: bytes, what: str) -> Any:
    try:
        return cbor2.loads(data)
    except Exception:
        # cbor2 lets through whatever building a value out of hostile bytes raises
        raise _not_an_answer(f"{what} that is not CBOR") from None


def _release(row: Any) -> tuple[int, bytes]:
    if not isinstance(row, list) or len(row) != 2 or type(row[0]) is not int or not isinstance(row[1], bytes):
        raise _not_an_answer("a release that is none")
    return row[0], row[1]


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
