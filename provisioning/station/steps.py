"""The steps of one board on one port, from "who are you?" to a closed board with a label.

    identify  esptool: chip, flash, MAC; what the journals know of it
    flash     MicroPython and the file system with the signed release, in one go; only before a board has an identity
    verify    the board checks the release's signatures and the files in its slot
    selftest  flash, random numbers, radio, sensors
    enrol     ticket, identity, record in the journal (`provisioning.station.bench`)
    certify   request from the board, certificate by the batch's issuing key, kept by the board
    seal      a first frame
    label     files whole on disk
    close     the REPL is closed, the board restarts to its work

`Job.run` may be stopped anywhere, also by a power cut, and run again: what the journal has is not done twice, and what
it has not is done again. A board with an identity is never flashed: that would erase the identity.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from provisioning import certificates, wholefile
from provisioning.enrolment import EnrolmentRefused, Record
from provisioning.labels import Label, LabelError
from provisioning.signers import Signer, SignerError
from provisioning.station import bench, unlock
from provisioning.station.bench import StationRefused, enrolled_before
from provisioning.station.flash import BAUD, Chip, Flasher, FlashError
from provisioning.station.journal import CERTIFIED, DONE, LABELLED, SEALED
from provisioning.station.ledger import Ledger, Standing
from provisioning.station.link import BoardRefused, Link, LinkError
from provisioning.station.unlock import Seen, State
from provisioning.tickets import TicketFile
from sealwire import frame as wire_frame

ENVELOPE = "/manifest"  # where the release's envelope lies on a board
FLASH_ATTEMPTS = 2
LABEL_FORMATS = ("png", "svg", "zpl")


class Step(StrEnum):
    """What is being done; these words stand in the journal."""

    IDENTIFY = "identify"
    FLASH = "flash"
    VERIFY = "verify"
    SELFTEST = "selftest"
    ENROL = "enrol"
    CERTIFY = "certify"
    SEAL = "seal"
    LABEL = "label"
    CLOSE = "close"


class Reason(StrEnum):
    """Why a board failed; closed, so that failures can be counted."""

    UNPLUGGED = "unplugged"
    NO_ANSWER = "no_answer"
    WRONG_MODEL = "wrong_model"
    BAD_FLASH = "bad_flash"
    BAD_RELEASE = "bad_release"
    SENSOR = "sensor"
    RADIO = "radio"
    RANDOM = "random"
    FLASH_SIZE = "flash_size"
    NO_TICKET = "no_ticket"
    DUPLICATE_EUI = "duplicate_eui"
    DUPLICATE_KEY = "duplicate_key"
    DUPLICATE_NONCE = "duplicate_nonce"
    ENROLLED_BEFORE = "enrolled_before"
    BOARD_REFUSED = "board_refused"
    BAD_RECORD = "bad_record"
    CERTIFICATE = "certificate"
    BAD_FRAME = "bad_frame"
    LABEL = "label"
    STATION = "station"


class StepFailed(Exception):
    """A board did not get through.

    Attributes:
        step: where it stopped.
        reason: why, one of `Reason`.
        eui, ticket: hex, "" where not known.
        remedy: what to do.
    """

    def __init__(self, step: Step, reason: Reason, what: str, remedy: str, eui: str = "", ticket: str = "") -> None:
        super().__init__(what)
        self.step = step
        self.reason = reason
        self.remedy = remedy
        self.eui = eui
        self.ticket = ticket


@dataclass(frozen=True)
class Setup:
    """What this station does to each board.

    Attributes:
        tickets: of the batch.
        chip: which the boards have.
        flash_size: bytes that they have at least.
        radio: whether they have one.
        parts: address in the flash → what belongs there.
        labels: folder.
        formats: of `LABEL_FORMATS`.
        issuer: key that signs their certificates; None: they get none.
        close: whether the REPL is closed in the end.
        baud: for flashing.
    """

    tickets: TicketFile
    chip: str
    flash_size: int
    radio: bool
    parts: Mapping[int, bytes]
    labels: Path
    formats: tuple[str, ...] = ("png", "zpl")
    issuer: Signer | None = None
    close: bool = True
    baud: int = BAUD


class Flashing(Protocol):
    """What the steps ask of `Flasher`."""

    def identify(self) -> Chip:
        """Who the chip is."""

    def write(self, parts: Mapping[int, bytes | Path], progress: Callable[[float], object] = ...) -> Chip:
        """Write and verify."""


@dataclass(frozen=True)
class Tools:
    """What the steps work with; tests give others.

    Attributes:
        link: port, present → the link.
        flasher: port, setup → the flasher.
        look: port, seconds, present → what is behind it.
        free: waits until the port is free.
    """

    link: Callable[[str, Callable[[], bool]], Link] = lambda port, present: Link(port, present=present)
    flasher: Callable[[str, Setup], Flashing] = lambda port, setup: Flasher(
        port, setup.chip, baud=setup.baud, flash_size=setup.flash_size
    )
    look: Callable[[str, float, Callable[[], bool]], Seen] = lambda port, limit_s, present: unlock.look(
        port, limit_s, present=present
    )
    free: Callable[[str, Callable[[], bool]], None] = unlock.wait_until_free


@dataclass(frozen=True)
class Outcome:
    """A board that is done.

    Attributes:
        eui, ticket: hex.
        repeated: it was done before; nothing was done to it now.
        ms: how long it took.
    """

    eui: str
    ticket: str
    repeated: bool
    ms: int


@dataclass
class InWork:
    """The boards that the lanes have in hand, so that two with one number are seen."""

    _euis: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def hold(self, eui: str) -> Iterator[bool]:
        """Whether nobody else has this board; nobody else gets it meanwhile."""
        with self._lock:
            free = eui not in self._euis
            self._euis.add(eui)
        try:
            yield free
        finally:
            if free:
                with self._lock:
                    self._euis.discard(eui)


class Job:
    """One board on one port.

    Args:
        port: its path.
        setup: what is done.
        ledger: the journals.
        in_work: of all lanes.
        present: whether the board is still plugged in.
        tell: called with each step, and with how much of it is done, 0 to 1.
        tools: what to work with.
        clock: Unix seconds.
    """

    def __init__(
        self,
        port: str,
        setup: Setup,
        ledger: Ledger,
        in_work: InWork,
        *,
        present: Callable[[], bool] = lambda: True,
        tell: Callable[[Step, float, str], object] = lambda step, fraction, eui: None,
        tools: Tools | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._port = port
        self._setup = setup
        self._ledger = ledger
        self._in_work = in_work
        self._present = present
        self._tell = tell
        self._tools = tools or Tools()
        self._clock = clock
        self._link = self._tools.link(port, present)
        self._flasher = self._tools.flasher(port, setup)
        self._step = Step.IDENTIFY
        self._eui = ""

    def run(self) -> Outcome:
        """Bring the board as far as it goes.

        Raises:
            StepFailed: it does not get through.
            JournalError: the journal cannot be written; the station has to stop.
        """
        begun = time.monotonic()
        try:
            self._enter(Step.IDENTIFY)
            self._tools.free(self._port, self._present)
            eui = self._flasher.identify().eui.hex()
            self._eui = eui
            with self._in_work.hold(eui) as free:
                if not free:
                    raise StationRefused(
                        Reason.DUPLICATE_EUI,
                        f"a board {eui} is on another lane at this moment",
                        "set both aside: each chip has a number of its own, so one is a copy",
                    )
                return self._work(begun)
        except (FlashError, LinkError, BoardRefused, StationRefused, EnrolmentRefused, _Unfit) as error:
            raise self._failed(error) from error
        except (certificates.CertificateError, SignerError, LabelError, OSError) as error:
            raise self._failed(error) from error

    def _work(self, begun: float) -> Outcome:
        standing = self._ledger.standing(self._eui)
        repeated = standing.done
        if standing.labelled and self._is_closed(standing):
            if not repeated:
                self._done(standing, begun)
            return Outcome(self._eui, standing.ticket, repeated, _ms(begun))
        if not standing.record:
            self._make_ready(standing)
        elif not standing.labelled:
            self._tools.look(self._port, unlock.LOOK_S, self._present)  # out of the loader
        self._enter(Step.ENROL)
        bench.enrol(
            self._link,
            self._setup.tickets,
            self._ledger,
            restart=False,
            note_refusal=False,
            chip_eui=bytes.fromhex(self._eui),
            clock=self._clock,
        )
        standing = self._ledger.standing(self._eui)
        if self._setup.issuer is not None and not standing.certificate:
            self._enter(Step.CERTIFY)
            self._certify(standing, self._setup.issuer)
        self._seal_and_label(standing)
        if self._setup.close:
            self._enter(Step.CLOSE)
            self._link.close(self._setup.tickets.service)
        else:
            self._link.restart()
        if not repeated:
            self._done(standing, begun)
        return Outcome(self._eui, standing.ticket, repeated, _ms(begun))

    # before an identity

    def _is_closed(self, standing: Standing) -> bool:
        """Whether this is the board that was labelled, closed; a board that was done and is open is another one."""
        seen = self._tools.look(self._port, unlock.LOOK_CLOSED_S, self._present)
        if seen.closed_eui.hex() == self._eui:
            return True
        if standing.done and self._setup.close:
            raise enrolled_before(standing)
        return False

    def _make_ready(self, standing: Standing) -> None:
        """Flash and test, unless it was all done before a ticket was reserved, and the board still knows of it."""
        if past := self._ledger.elsewhere(self._eui):
            raise StationRefused(
                Reason.ENROLLED_BEFORE,
                f"it was enrolled before: {past}",
                "set it aside; a new identity needs the old one retired",
            )
        if self._is_ready(standing):
            return
        self._enter(Step.FLASH)
        for attempt in range(1, FLASH_ATTEMPTS + 1):
            try:
                self._flasher.write(self._setup.parts, lambda done: self._tell(Step.FLASH, done, self._eui))
                break
            except FlashError as error:
                if attempt == FLASH_ATTEMPTS or error.reason in ("wrong_chip", "too_small") or not self._present():
                    raise
        self._enter(Step.VERIFY)
        release = bench.patiently(lambda: self._link.verify(ENVELOPE))
        self._enter(Step.SELFTEST)
        found = bench.patiently(self._link.selftest)
        if found.release != release:
            raise _Unfit(Reason.BAD_RELEASE, "the board runs another release than the one it verified", "flash again")
        self._judge(found.faults, found.flash)

    def _is_ready(self, standing: Standing) -> bool:
        seen = self._tools.look(self._port, unlock.LOOK_S, self._present)
        if seen.state is State.CLOSED:
            raise StationRefused(
                Reason.ENROLLED_BEFORE,
                "the board is closed: it was enrolled before, and no journal here knows it",
                "name the journal of the station that enrolled it: --known",
            )
        if seen.state is State.SILENT:
            return False
        try:
            # one that is only hard to hear must not be flashed; one that refuses has an identity that we cannot read
            status = bench.patiently(self._link.status)
        except LinkError as error:
            if error.gone:
                raise
            return False  # MicroPython without our code, or with a broken copy of it
        if status.ticket is not None and status.ticket.hex() != standing.ticket:
            raise StationRefused(
                Reason.ENROLLED_BEFORE,
                f"it was enrolled before, with ticket {status.ticket.hex()}",
                "go on with the tickets and the journal of the station that began it",
            )
        # a ticket is reserved for a board only after it was flashed and tested
        return bool(standing.ticket) and (status.ticket is not None or status.model == self._setup.tickets.model)

    def _judge(self, faults: Mapping[str, str], flash: int) -> None:
        if flash < self._setup.flash_size:
            raise _Unfit(Reason.FLASH_SIZE, f"the flash has {flash} bytes", "take the board out")
        for name, why in faults.items():
            if name == "radio" and why == "none" and not self._setup.radio:
                continue
            reason = {"radio": Reason.RADIO, "random": Reason.RANDOM}.get(name, Reason.SENSOR)
            raise _Unfit(reason, f"{name}: {why}", "repair the board, or take it out")

    # with an identity

    def _certify(self, standing: Standing, issuer: Signer) -> None:
        request = bench.patiently(self._link.csr)
        tickets, eui, now = self._setup.tickets, bytes.fromhex(self._eui), datetime.fromtimestamp(self._clock(), UTC)
        certificate = certificates.issue(request, eui, tickets.issuer, issuer, now, tickets.batch)
        certificates.check_device(certificate, tickets.issuer, eui, now, tickets.batch)
        kept = bench.patiently(lambda: self._link.store_certificate(certificate))
        if kept != sha256(certificate).digest():
            raise _Unfit(Reason.CERTIFICATE, "the board keeps another certificate than it was given", "try again")
        self._ledger.append(CERTIFIED, ticket=standing.ticket, eui=self._eui, certificate=certificate.hex())

    def _seal_and_label(self, standing: Standing) -> None:
        self._enter(Step.SEAL)
        if standing.sealed:
            claim = bench.patiently(self._link.claim)
        else:
            frame, claim = bench.patiently(self._link.seal)
            _check_frame(frame)
            self._ledger.append(SEALED, ticket=standing.ticket, eui=self._eui, frame=frame.hex())
        self._enter(Step.LABEL)
        # also when it was printed before: a board that came this far twice may have lost the race with its label
        label = Label(bytes.fromhex(self._eui), Record.from_bytes(standing.record).model, claim)
        write_label(label, self._setup.labels, self._setup.formats)
        if not standing.labelled:
            self._ledger.append(LABELLED, ticket=standing.ticket, eui=self._eui)

    def _done(self, standing: Standing, begun: float) -> None:
        self._ledger.append(DONE, ticket=standing.ticket, eui=self._eui, ms=str(_ms(begun)))

    def _enter(self, step: Step) -> None:
        self._step = step
        self._tell(step, 0.0, self._eui)

    def _failed(self, error: Exception) -> StepFailed:
        reason = Reason.UNPLUGGED if not self._present() else _reason(error)
        remedy = str(getattr(error, "remedy", "")) or "see the reason"
        ticket = self._ledger.standing(self._eui).ticket if self._eui else ""
        text = str(error) if not isinstance(error, OSError) else f"{error.filename or ''}: {error.strerror}"
        return StepFailed(self._step, reason, text, remedy, self._eui, ticket)


class _Unfit(Exception):
    def __init__(self, reason: Reason, what: str, remedy: str) -> None:
        super().__init__(what)
        self.reason = reason
        self.remedy = remedy


def write_label(label: Label, folder: Path, formats: tuple[str, ...]) -> list[Path]:
    """Write a board's label in these formats; whole and on disk when this returns.

    Raises:
        LabelError, OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name in formats:
        path = folder / f"{label.file_stem}.{name}"
        if name == "png":
            label.png(path)
        elif name == "svg":
            label.svg(path)
        else:
            wholefile.replace(path, label.zpl().encode())
        written.append(path)
    return written


def _check_frame(frame: bytes) -> None:
    try:
        wire_frame.parse(frame)
    except wire_frame.FrameError as error:
        raise _Unfit(Reason.BAD_FRAME, f"what the board sealed is no frame: {error}", "try again") from None


_FLASH_REASONS = {
    "no_answer": Reason.NO_ANSWER,
    "timeout": Reason.NO_ANSWER,
    "wrong_chip": Reason.WRONG_MODEL,
    "too_small": Reason.WRONG_MODEL,
    "esptool_missing": Reason.STATION,
}


def _reason(error: Exception) -> Reason:
    if isinstance(error, FlashError):
        return _FLASH_REASONS.get(error.reason, Reason.BAD_FLASH)
    if isinstance(error, LinkError):
        return Reason.UNPLUGGED if error.gone else Reason.NO_ANSWER
    if isinstance(error, BoardRefused):
        return {"random": Reason.RANDOM}.get(error.code, Reason.BOARD_REFUSED)
    if isinstance(error, EnrolmentRefused):
        return Reason.BAD_RECORD
    if isinstance(error, StationRefused | _Unfit):
        return Reason(error.reason)
    if isinstance(error, certificates.CertificateError | SignerError):
        return Reason.CERTIFICATE
    return Reason.LABEL if isinstance(error, LabelError) else Reason.STATION


def _ms(begun: float) -> int:
    return round(1000 * (time.monotonic() - begun))
