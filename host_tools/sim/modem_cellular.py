"""What a simulated modem answers about the network and packet data (3GPP TS 27.007 sections 7, 8 and 10)."""

from host_tools.sim.modem_commands import Commands, Handler
from host_tools.sim.modem_syntax import (
    BAD_PARAMETERS,
    NO_NETWORK,
    UNSPECIFIED_DATA,
    MobileError,
    arguments,
    integers,
)

PLMN, OPERATOR, TAC, CELL = "00101", "Test PLMN 1-1", "1A2B", "01A2D001"
CONTEXTS_MAX = 15


class CellularCommands(Commands):
    """Signal, operator, registration, contexts and calls."""

    ACCESS = {"cat-m": 7, "nb-iot": 9}  # <AcT>
    QUOTED_ADDRESS = True
    TABLE = {
        "+CSQ": "signal",
        "+CESQ": "extended_signal",
        "+COPS": "operator",
        "+CREG": "creg",
        "+CGREG": "cgreg",
        "+CEREG": "cereg",
        "+CGDCONT": "context",
        "+CGATT": "attached",
        "+CGACT": "active",
        "+CGPADDR": "address",
        "+CGDATA": "call",
    }

    def _signal(self, form: str, given: str) -> list[str]:
        rssi = self.registration.signal
        return [f"+CSQ: {rssi},{99 if rssi == 99 else 0}"]

    def _extended_signal(self, form: str, given: str) -> list[str]:
        # 27.007 section 8.69: RSRQ in half dB from -19.5, RSRP in dB from -140
        return ["+CESQ: 99,99,255,255,255,255" if self.registration.signal == 99 else "+CESQ: 99,99,255,255,19,46"]

    def _operator(self, form: str, given: str) -> list[str]:
        registration, settings = self.registration, self.settings
        access = self.ACCESS[self.conditions.rat]
        if form == "=?":
            if not registration.covered:
                return ["+COPS: ,,(0,1,2,3,4),(0,1,2)"]
            status = 3 if self.conditions.denied else 2
            return [f'+COPS: ({status},"{OPERATOR}","Test","{PLMN}",{access}),,(0,1,2,3,4),(0,1,2)']
        if form == "?":
            mode = 0 if registration.automatic else 2
            if not registration.registered:
                return [f"+COPS: {mode}"]
            name = (OPERATOR, "Test", PLMN)[settings.cops_format]
            return [f'+COPS: {mode},{settings.cops_format},"{name}",{access}']
        parts = arguments(given)
        if not parts or parts[0] not in ("0", "1", "2", "3", "4"):
            raise MobileError(BAD_PARAMETERS)
        if len(parts) > 1 and parts[1]:
            if parts[1] not in ("0", "1", "2"):
                raise MobileError(BAD_PARAMETERS)
            settings.cops_format = int(parts[1])
        if parts[0] == "3":
            return []
        if parts[0] == "1" and (len(parts) < 3 or parts[2] not in (PLMN, OPERATOR, "Test")):
            raise MobileError(NO_NETWORK)
        registration.automatic = parts[0] != "2"
        registration.restart()
        return []

    def report(self, name: str, n: int, *, unsolicited: bool) -> str:
        """A line of +CREG, +CGREG or +CEREG."""
        stat = self.registration.stat
        text = f"{name}: {stat}" if unsolicited else f"{name}: {n},{stat}"
        if n >= 2 and stat in (1, 5):
            text += f',"{TAC}","{CELL}",{self.ACCESS[self.conditions.rat]}'
        return text

    def _registered(self, name: str) -> Handler:
        def handle(form: str, given: str) -> list[str]:
            n = self.settings.reports.get(name, 0)
            if form == "?":
                return [self.report(name, n, unsolicited=False)]
            if form == "=?":
                return [f"{name}: (0-2)"]
            numbers = integers(given)
            if len(numbers) != 1 or not 0 <= numbers[0] <= 2:
                raise MobileError(BAD_PARAMETERS)
            self.settings.reports[name] = numbers[0]
            return []

        return handle

    def _creg(self, form: str, given: str) -> list[str]:
        return self._registered("+CREG")(form, given)

    def _cgreg(self, form: str, given: str) -> list[str]:
        return self._registered("+CGREG")(form, given)

    def _cereg(self, form: str, given: str) -> list[str]:
        return self._registered("+CEREG")(form, given)

    # packet data

    def _context(self, form: str, given: str) -> list[str]:
        contexts = self.settings.contexts
        if form == "?":
            return [f'+CGDCONT: {cid},"{kind}","{apn}","0.0.0.0",0,0' for cid, (kind, apn) in sorted(contexts.items())]
        if form == "=?":
            return [f'+CGDCONT: (1-{CONTEXTS_MAX}),"IP",,,(0),(0)']
        parts = arguments(given)
        if not parts or not parts[0].isdigit() or not 1 <= int(parts[0]) <= CONTEXTS_MAX:
            raise MobileError(BAD_PARAMETERS)
        cid = int(parts[0])
        if len(parts) == 1:
            contexts.pop(cid, None)
            return []
        if parts[1].upper() not in ("IP", "IPV6", "IPV4V6", "PPP", "NON-IP") or len(parts[2:3] and parts[2]) > 100:
            raise MobileError(BAD_PARAMETERS)
        contexts[cid] = (parts[1].upper(), parts[2] if len(parts) > 2 else "")
        return []

    def _attached(self, form: str, given: str) -> list[str]:
        if form == "?":
            return [f"+CGATT: {int(self.registration.registered)}"]
        if form == "=?":
            return ["+CGATT: (0,1)"]
        numbers = integers(given)
        if numbers not in ([0], [1]):
            raise MobileError(BAD_PARAMETERS)
        self.need_sim()
        self.registration.attached = numbers == [1]
        if numbers == [0]:
            self.actions.hang_up()
            self.settings.active.clear()
        elif not self.registration.covered:
            raise MobileError(NO_NETWORK)
        return []

    def _active(self, form: str, given: str) -> list[str]:
        contexts, active = self.settings.contexts, self.settings.active
        if form == "?":
            return [f"+CGACT: {cid},{int(cid in active)}" for cid in sorted(contexts)]
        if form == "=?":
            return ["+CGACT: (0,1)"]
        numbers = integers(given)
        if not numbers or numbers[0] not in (0, 1):
            raise MobileError(BAD_PARAMETERS)
        chosen = numbers[1:] or sorted(contexts)
        if any(cid not in contexts for cid in chosen):
            raise MobileError(BAD_PARAMETERS)
        if numbers[0] == 0:
            active.difference_update(chosen)
            return []
        self.activate(chosen)
        return []

    def activate(self, chosen: list[int]) -> None:
        """Make contexts active.

        Raises:
            MobileError: there is no network, or it does not know the APN.
        """
        self.need_sim()
        if not self.registration.registered:
            raise MobileError(NO_NETWORK)
        expected = self.conditions.apn
        for cid in chosen:
            if expected is not None and self.settings.contexts[cid][1].lower() != expected.lower():
                raise MobileError(UNSPECIFIED_DATA)
        self.settings.active.update(chosen)

    def _address(self, form: str, given: str) -> list[str]:
        chosen = integers(given) if form == "=" else sorted(self.settings.contexts)
        quote = '"' if self.QUOTED_ADDRESS else ""
        address = self.actions.address
        none = "0.0.0.0"  # noqa: S104 - what the modem says of a context without an address
        return [f"+CGPADDR: {cid},{quote}{address if self.has_address(cid) else none}{quote}" for cid in chosen]

    def has_address(self, cid: int) -> bool:
        """Whether this context is active. The first one is from the registration on, as LTE has it."""
        return self.registration.registered and (cid in self.settings.active or cid == 1)

    def _call(self, form: str, given: str) -> list[str]:
        if form == "=?":
            return ['+CGDATA: "PPP"']
        parts = arguments(given)
        if not parts or parts[0].upper() != "PPP" or (len(parts) > 1 and not parts[1].isdigit()):
            raise MobileError(BAD_PARAMETERS)
        return self.dial(int(parts[1]) if len(parts) > 1 else 1)
