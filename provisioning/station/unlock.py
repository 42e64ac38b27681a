"""A board's serial port line by line, without mpremote: whether a board is closed, and how a closed one is opened.

Lines and codes are `sealwire.service`. What a board prints is a stranger's text: bounded, and shown only with its
control characters taken out. Opening the port leaves the modem lines alone, so that no board is reset by it.
"""

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import serial

from provisioning import service_tokens
from provisioning.service_tokens import Challenge, ServiceTokenError
from provisioning.station.link import LinkError
from sealwire import service as wire

BAUD = 115_200
LOOK_EVERY_S = 1.0
ASK_EVERY_S = 0.25  # a board that sleeps deeply hears it only in the first moment after each start
ANSWER_S = 60.0  # a board looks once a second, not while it measures or sends, and restarts before it answers
VERDICT_S = 15.0  # one ECDSA verification on the chip
LOOK_S = 4.0  # a board that boots prints something in this time
LOOK_CLOSED_S = 45.0
FREE_S = 120.0  # so long a program of a station that was killed may still hold the port
POLL_S = 0.1
INPUT_MAX = 64 << 10
_CHUNK = 4096
_INTERRUPT = b"\r\x03\x02"  # end a program, leave the raw REPL
_PROMPT = b">>> "
_RUNS = re.compile(rb"sealband: running as ([0-9a-f]{16})\b")
_REFUSED = re.compile(re.escape(wire.REFUSED) + r"([a-z_]{1,24}) (.{0,200})")


class UnlockRefused(Exception):
    """The board did not open.

    Attributes:
        code: the board's word for why, of `sealwire.service`.
    """

    remedy = "ask for a new token, for this board and its new challenge; each refusal is reported by the board"

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"the board refused ({code}): {text}")
        self.code = code


class State(StrEnum):
    """What is behind a port."""

    CLOSED = "closed"  # runs a signed release and gives no REPL
    REPL = "repl"
    SILENT = "silent"


@dataclass(frozen=True)
class Seen:
    """What was seen.

    Attributes:
        state: what is behind the port.
        challenge: of a closed board; None: it gives none, as one that nobody is to unlock, or with an update on trial.
        said: the EUI that such a board says it runs as; b"" if it did not also refuse to open.
    """

    state: State
    challenge: Challenge | None = None
    said: bytes = b""

    @property
    def closed_eui(self) -> bytes:
        """Which closed board it is; b"" if it is none, or does not say."""
        return self.challenge.eui if self.challenge else self.said


def look(port: str, limit_s: float = LOOK_S, *, reset: bool = True, present: Callable[[], bool] = lambda: True) -> Seen:
    """See what a board does; a running program is interrupted, a closed board asked for a challenge.

    Args:
        port: its path.
        limit_s: seconds; `LOOK_CLOSED_S` once it has shown that it runs Sealband.
        reset: press its reset button first, by the modem lines, where there are any.
        present: whether it is still plugged in.

    Raises:
        LinkError: the port cannot be opened, or the board was unplugged.
    """
    begun = time.monotonic()
    asked = 0.0
    said, refused = b"", False
    with _Lines(port, present) as lines:
        if reset:
            lines.reset()
        while (now := time.monotonic()) < begun + limit_s:
            if now - asked >= LOOK_EVERY_S:
                lines.write(_INTERRUPT if not asked else _INTERRUPT[:1] + wire.UNLOCK.encode() + b"\n")
                asked = now
            for line in lines.read():
                if challenge := _challenge(line):
                    return Seen(State.CLOSED, challenge)
                if found := _RUNS.search(line):
                    limit_s, said = LOOK_CLOSED_S, bytes.fromhex(found[1].decode())
                if line.strip().startswith(wire.REFUSED.encode()):
                    limit_s, refused = LOOK_CLOSED_S, True
            if said and refused:
                return Seen(State.CLOSED, None, said)
            if lines.rest.endswith(_PROMPT):
                return Seen(State.REPL)
    # whatever has an identity and gives no REPL counts as closed: a silent board is flashed
    return Seen(State.CLOSED if said or refused else State.SILENT)


def unlock(
    port: str,
    answer: Callable[[Challenge, str], bytes],
    *,
    on_challenge: Callable[[Challenge], object] = lambda challenge: None,
    limit_s: float = ANSWER_S,
) -> Challenge:
    """Open a closed board's REPL until its next reset.

    Args:
        port: its path.
        answer: makes the token for a challenge, given also as the line that the board printed; takes less than the
            two minutes that the board waits.
        on_challenge: called with the challenge before that.
        limit_s: for the challenge, seconds.

    Returns:
        The challenge of the board that is open now.

    Raises:
        UnlockRefused: the board refused, each time with its reason.
        LinkError: it does not answer.
        ServiceTokenError: the challenge is malformed.
    """
    with _Lines(port, lambda: True) as lines:
        challenge, text = _ask(lines, limit_s)
        on_challenge(challenge)
        token = answer(challenge, text)
        lines.write(wire.TOKEN.encode() + token.hex().encode() + b"\n")
        limit = time.monotonic() + VERDICT_S
        while time.monotonic() < limit:
            for line in lines.read():
                if line.strip() == wire.UNLOCKED.encode():
                    return challenge
                _raise_refusal(line)
    raise LinkError("the board did not say whether it takes the token", "try again with a new token")


def wait_until_free(port: str, present: Callable[[], bool], limit_s: float = FREE_S) -> None:
    """Wait until no other program has the port, such as one that a killed station left behind.

    Raises:
        LinkError: one still has it, or the board was unplugged.
    """
    limit = time.monotonic() + limit_s
    while True:
        try:
            descriptor = os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise LinkError("the board was unplugged", "plug it in again", gone=True) from None
        except OSError as error:
            raise LinkError(f"{port}: {error.strerror}", "check the port and who may use it") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as pyserial does for esptool and mpremote
            return
        except OSError:
            if time.monotonic() > limit:
                raise LinkError(f"another program has {port}", "end it") from None
        finally:
            os.close(descriptor)
        if not present():
            raise LinkError("the board was unplugged", "plug it in again", gone=True)
        time.sleep(POLL_S)


def _ask(lines: "_Lines", limit_s: float) -> tuple[Challenge, str]:
    limit = time.monotonic() + limit_s
    asked = 0.0
    while (now := time.monotonic()) < limit:
        if now - asked >= ASK_EVERY_S:
            # the line's end first: whatever is in the board's line so far is no part of this one
            lines.write(b"\n" + wire.UNLOCK.encode() + b"\n")
            asked = now
        for line in lines.read():
            text = line.decode("ascii", errors="replace").strip()
            if text.startswith(wire.CHALLENGE):
                return read_challenge(text), text
            _raise_refusal(line)
        if lines.rest.endswith(_PROMPT):
            raise LinkError("the board's REPL is open already", "nothing is to be done")
    raise LinkError(
        "the board gives no challenge", "check the port; a board that sleeps answers when it is awake, press its reset"
    )


def read_challenge(line: str) -> Challenge:
    """A challenge as the board printed it; raises ServiceTokenError."""
    digits = line.strip().removeprefix(wire.CHALLENGE.rstrip()).strip()
    if not re.fullmatch(r"([0-9a-f]{2}){1,512}", digits):
        raise ServiceTokenError(wire.MALFORMED, "the challenge is not in hex")
    return service_tokens.parse_challenge(bytes.fromhex(digits))


def _challenge(line: bytes) -> Challenge | None:
    text = line.decode("ascii", errors="replace").strip()
    if not text.startswith(wire.CHALLENGE):
        return None
    try:
        return read_challenge(text)
    except ServiceTokenError:
        return None


def _raise_refusal(line: bytes) -> None:
    if found := _REFUSED.fullmatch(line.decode("ascii", errors="replace").strip()):
        raise UnlockRefused(found[1], "".join(c if c.isprintable() else " " for c in found[2]))


class _Lines:
    """A port that is open: whole lines as they come."""

    def __init__(self, port: str, present: Callable[[], bool]) -> None:
        self._present = present
        self.rest = b""  # the line that has not ended
        self._serial = serial.Serial()
        self._serial.port = port
        self._serial.baudrate = BAUD
        self._serial.timeout = POLL_S
        self._serial.write_timeout = 1.0
        self._serial.exclusive = True
        self._serial.dtr = False
        self._serial.rts = False
        try:
            self._serial.open()
        except (OSError, ValueError) as error:  # SerialException is an OSError
            gone = not present() or not os.path.exists(port)
            raise LinkError(
                f"{port} cannot be opened: {_shown(error)}", "check that no other program has it", gone=gone
            ) from None

    def __enter__(self) -> "_Lines":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._serial.close()

    def reset(self) -> None:
        """Pull EN by the automatic reset circuit; a pty has no such lines."""
        with contextlib.suppress(OSError):
            self._serial.rts = True
            time.sleep(0.1)
            self._serial.rts = False

    def write(self, data: bytes) -> None:
        try:
            self._serial.write(data)
        except serial.SerialTimeoutException:
            pass  # a board that does not read; it is asked again
        except OSError as error:
            raise self._lost(error) from None

    def read(self) -> list[bytes]:
        """What lines have ended within a tenth of a second."""
        try:
            data = bytes(self._serial.read(max(1, min(_CHUNK, self._serial.in_waiting))))
        except (OSError, TypeError) as error:  # pyserial: a port that is gone while it is read
            raise self._lost(error) from None
        if not data and not self._present():
            raise LinkError("the board was unplugged", "plug it in again", gone=True)
        *lines, self.rest = (self.rest + data).split(b"\n")
        self.rest = self.rest[-INPUT_MAX:]
        return lines

    def _lost(self, error: Exception) -> LinkError:
        return LinkError(f"the port was lost: {_shown(error)}", "plug the board in again", gone=not self._present())


def _shown(error: Exception) -> str:
    text = str(error)
    return "".join(c if c.isprintable() else " " for c in text[:200])
