"""The ledger's last hour on disk, so that a bridge that is started again goes on with it.

One line for each transmission, written before the gateway is asked: what is lost with the power is at most the last
line, half written. What a gateway then did not send stays in the file, for its hour; that errs on the right side.
"""

import contextlib
from pathlib import Path
from typing import IO

from host_tools.gateway.dutycycle import DISORDER_S, GUARD_S, HOUR_S, Entry, Ledger, TransmissionRefused, band_of
from provisioning import wholefile

LINES_MAX = 50_000  # then those that are over are left out
MODE = 0o644  # who sends how long is no secret: anybody hears it


class LedgerError(Exception):
    """The file cannot be used; `remedy` says what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


class KeptLedger(Ledger):
    """A ledger that is in a file, too.

    Args:
        path: made if it is not there.
        now: Unix seconds; entries that are over by then are left out, and those that lie ahead of any plan.

    Raises:
        LedgerError: the file cannot be read or written.
    """

    def __init__(self, path: Path, now: float) -> None:
        super().__init__()
        self._path = path
        self._file: IO[str] | None = None
        self._lines = 0
        self._lines_max = LINES_MAX
        try:
            lines = path.read_text(encoding="ascii", errors="replace").splitlines() if path.exists() else []
            self._write([line for line in lines if self._restore(line, now)])
        except OSError as error:
            raise LedgerError(f"{path}: {error.strerror or error}", "name a file that the bridge may write") from error

    def reserve(
        self, gateway: str, region: str, frequency_hz: int, data_rate: str, length: int, power_dbm: int, start: float
    ) -> Entry | None:
        """As `Ledger.reserve`, and on disk when it returns; refused with "ledger_file" where the disk takes nothing."""
        entry = super().reserve(gateway, region, frequency_hz, data_rate, length, power_dbm, start)
        if entry is None:
            return None
        line = f"{gateway} {region} {frequency_hz} {data_rate} {entry.start!r} {entry.end!r}"
        try:
            if self._lines >= self._lines_max:
                self._write([one for one in self._path.read_text("ascii").splitlines() if _is_recent(one, start)])
            assert self._file is not None
            print(line, file=self._file, flush=True)
            self._lines += 1
        except OSError as error:
            self.release(entry)
            raise TransmissionRefused("ledger_file", "the ledger's file cannot be written") from error
        return entry

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, lines: list[str]) -> None:
        # to a name that nobody can foresee: in a folder that others may write to, a link could lie in wait
        wholefile.replace(self._path, "".join(line + "\n" for line in lines).encode("ascii"), MODE)
        self.close()
        self._file = self._path.open("a", encoding="ascii")
        self._lines = len(lines)
        # where an hour itself has more, it must not be written anew for each transmission
        self._lines_max = max(LINES_MAX, 2 * len(lines))

    def _restore(self, line: str, now: float) -> bool:
        with contextlib.suppress(ValueError, TransmissionRefused):  # cut short, or of a region that is gone
            gateway, region, frequency_hz, data_rate, start, end = line.split(" ")
            entry = Entry((gateway, band_of(region, int(frequency_hz), data_rate)), float(start), float(end))
            if entry.start <= entry.end and now - HOUR_S - GUARD_S - DISORDER_S < entry.end <= now + DISORDER_S:
                self.restore(entry)
                return True
        return False


def _is_recent(line: str, now: float) -> bool:
    with contextlib.suppress(ValueError, IndexError):
        return float(line.split(" ")[5]) > now - HOUR_S - GUARD_S - DISORDER_S
    return False
