"""What a simulated modem answers about its clock and about saving power (3GPP TS 27.007 sections 7.38 to 8.15)."""

import re
from datetime import UTC, datetime, timedelta

from host_tools.sim.modem_cellular import CellularCommands
from host_tools.sim.modem_syntax import BAD_PARAMETERS, MobileError, arguments


class ClockCommands(CellularCommands):
    """The clock, PSM and eDRX."""

    TABLE = {
        "+CCLK": "clock",
        "+CTZU": "zone_update",
        "+CTZR": "zone_reports",
        "+CPSMS": "saving",
        "+CEDRXS": "discontinuous",
    }

    def network_time(self) -> datetime:
        """The network's local time."""
        return datetime.fromtimestamp(self.now(), UTC) + timedelta(minutes=15 * self.conditions.offset_quarters)

    def synchronised(self) -> None:
        """The network has told its time (NITZ), as it does at each registration."""
        self.time_known = True
        if self.takes_time():
            self.clock_offset_s = 0.0

    def takes_time(self) -> bool:
        """Whether the modem's clock follows the network."""
        return bool(self.settings.zone_update)

    def _clock(self, form: str, given: str) -> list[str]:
        if form == "?":
            return [f'+CCLK: "{self._clock_text()}"']
        if form == "=?":
            return []
        found = re.fullmatch(r'"(\d\d)/(\d\d)/(\d\d),(\d\d):(\d\d):(\d\d)(?:([+-])(\d\d))?"', given)
        if not found:
            raise MobileError(BAD_PARAMETERS)
        try:
            year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
            told = datetime(2000 + year, month, day, hour, minute, second, tzinfo=UTC)
        except ValueError as error:
            raise MobileError(BAD_PARAMETERS) from error
        self.clock_offset_s = told.timestamp() - self.network_time().timestamp()
        return []

    def _clock_text(self) -> str:
        if self.clock_offset_s is None:
            return "80/01/06,00:00:07+00"  # the GPS epoch: what Qualcomm's chips begin with
        told = self.network_time() + timedelta(seconds=self.clock_offset_s)
        return f"{told:%y/%m/%d,%H:%M:%S}{self.conditions.offset_quarters:+03d}"

    def _zone_update(self, form: str, given: str) -> list[str]:
        lines = self.flag("+CTZU", form, given, "zone_update", 3)
        if form == "=" and self.time_known and self.takes_time():
            self.clock_offset_s = 0.0
        return lines

    def _zone_reports(self, form: str, given: str) -> list[str]:
        return self.flag("+CTZR", form, given, "zone_reports", 2)

    # saving power

    def _saving(self, form: str, given: str) -> list[str]:
        psm = self.settings.psm
        if form == "?":
            return [f'+CPSMS: {psm[0]},,,"{psm[1]}","{psm[2]}"']
        if form == "=?":
            return ['+CPSMS: (0,1),,,("00000000"-"11111111"),("00000000"-"11111111")']
        parts = arguments(given) if given else ["0"]
        timers = [part for part in parts[3:5] if part]
        if parts[0] not in ("0", "1", "2") or not all(re.fullmatch("[01]{8}", timer) for timer in timers):
            raise MobileError(BAD_PARAMETERS)
        psm[0] = "1" if parts[0] == "1" else "0"
        for at, timer in enumerate(parts[3:5], 1):
            psm[at] = timer or psm[at]
        return []

    def psm_idle_s(self) -> float | None:
        """After how much idleness it sleeps (T3324, 3GPP TS 24.008 table 10.5.172); None: it does not."""
        mode, _, active = self.settings.psm
        unit, value = int(active[:3], 2), int(active[3:], 2)
        if mode != "1" or unit == 7:
            return None
        return value * {0: 2, 1: 60, 2: 360}.get(unit, 60)

    def _discontinuous(self, form: str, given: str) -> list[str]:
        edrx = self.settings.edrx
        if form == "?":
            return [f'+CEDRXS: {kind},"{value}"' for kind, value in sorted(edrx.items())]
        if form == "=?":
            return ['+CEDRXS: (0-3),(4,5),("0000"-"1111")']
        parts = arguments(given) if given else ["0"]
        if parts[0] not in ("0", "1", "2", "3"):
            raise MobileError(BAD_PARAMETERS)
        if parts[0] in ("0", "3"):
            edrx.clear()
            return []
        if len(parts) < 3 or parts[1] not in ("4", "5") or not re.fullmatch("[01]{4}", parts[2]):
            raise MobileError(BAD_PARAMETERS)
        edrx[int(parts[1])] = parts[2]
        return []
