"""What SIMCom's SIM7080 and Quectel's BG95 add to the common AT commands, and how they say things.

Sources: SIMCom, "SIM7070_SIM7080_SIM7090 Series AT Command Manual" V1.05 (chapters 2 to 7: common, network, CNACT in 7,
CPOWD, CLTS, CPSI, CNMP, CMNB, CBANDCFG) and "SIM7080 Hardware Design" (power key); Quectel, "BG95&BG77 AT Commands
Manual" V1.0 (QPOWD 2.x, QCFG 5.x, QNWINFO, QCSQ, QLTS, QCCID, URCs in 13) and "BG95 Hardware Design" (power key).
"""

import re
from datetime import timedelta

from host_tools.sim.modem_cellular import PLMN
from host_tools.sim.modem_clock import ClockCommands
from host_tools.sim.modem_commands import ICCID
from host_tools.sim.modem_syntax import (
    BAD_PARAMETERS,
    NOT_ALLOWED,
    CommandError,
    MobileError,
    Result,
    arguments,
    integers,
)

_RATS = {"cat-m": "CAT-M", "nb-iot": "NB-IOT"}


class Sim7080(ClockCommands):
    """SIMCom SIM7080G."""

    TYPE = "sim7080"
    MODEL = "SIM7080"
    IDENTITY = ("SIM7080 R1951.03",)
    BOOT_S = 1.8
    OFF_S = 1.8
    KEY_ON_S = 1.0  # how long the power key has to be held
    KEY_OFF_S = 1.2
    DOWN_TEXT = "NORMAL POWER DOWN"
    connect_text = "CONNECT 150000000"

    TABLE = {
        "+CCID": "card",
        "+CNACT": "app_network",
        "+CNCFG": "app_settings",
        "+CGNAPN": "network_apn",
        "+CNMP": "mode",
        "+CMNB": "lte_mode",
        "+CBANDCFG": "bands",
        "+CLTS": "local_time",
        "+CPSI": "system",
        "+CPOWD": "down",
        "+CREBOOT": "reboot",
        "+CNETLIGHT": "quiet",
        "+CPSMSTATUS": "quiet",
    }

    def reset(self) -> None:
        super().reset()
        self._app_active: set[int] = set()
        self._app_apn: dict[int, str] = {}
        self._clts = 0
        if not hasattr(self, "_cnmp"):
            self._cnmp, self._cmnb = 2, 3  # kept in its flash

    def boot_lines(self) -> list[tuple[float, str]]:
        asks = self.sim.asks if self.conditions.sim else "NOT INSERTED"
        lines = [(0.0, "RDY"), (0.4, "+CFUN: 1"), (0.8, f"+CPIN: {asks}")]
        return [*lines, (1.6, "SMS Ready")] if asks == "READY" else lines

    def takes_time(self) -> bool:
        return bool(self._clts or self.settings.zone_update)

    def synchronised(self) -> None:
        super().synchronised()
        if self._clts:
            quarters = self.conditions.offset_quarters
            self.actions.urc(f'*PSUTTZ: {self.network_time():%y/%m/%d,%H:%M:%S}","{quarters:+03d}",0')
            self.actions.urc("DST: 0")

    def _card(self, form: str, given: str) -> list[str]:
        self.need_sim()
        return [ICCID]

    def _app_network(self, form: str, given: str) -> list[str]:
        if form == "?":
            on = self._app_active if self.registration.registered else set()
            none = "0.0.0.0"  # noqa: S104
            return [f'+CNACT: {n},{int(n in on)},"{self.actions.address if n in on else none}"' for n in range(4)]
        if form == "=?":
            return ["+CNACT: (0-3),(0-2)"]
        numbers = integers(given)
        if len(numbers) != 2 or numbers[0] > 3 or numbers[1] > 2:
            raise MobileError(BAD_PARAMETERS)
        index, action = numbers
        if action == 0:
            if index not in self._app_active:
                raise CommandError
            self._app_active.discard(index)
            self.actions.urc(f"+APP PDP: {index},DEACTIVE", 0.1)
            return []
        self.need_sim()
        if not self.registration.registered or index in self._app_active:
            raise CommandError
        apn = self._app_apn.get(index, self.settings.contexts.get(1, ("IP", ""))[1])
        if self.conditions.apn is not None and apn.lower() != self.conditions.apn.lower():
            self.actions.urc(f"+APP PDP: {index},DEACTIVE", 2.0)
            return []
        self._app_active.add(index)
        self.actions.urc(f"+APP PDP: {index},ACTIVE", 0.5)
        return []

    def _app_settings(self, form: str, given: str) -> list[str]:
        if form == "?":
            return [f'+CNCFG: {n},0,"{self._app_apn.get(n, "")}","","",0' for n in range(4)]
        if form == "=?":
            return ["+CNCFG: (0-3),(0-4),150,127,127,(0-3)"]
        parts = arguments(given)
        if len(parts) < 2 or parts[0] not in ("0", "1", "2", "3"):
            raise MobileError(BAD_PARAMETERS)
        self._app_apn[int(parts[0])] = parts[2] if len(parts) > 2 else ""
        return []

    def _network_apn(self, form: str, given: str) -> list[str]:
        apn = self.conditions.apn if self.registration.registered else None
        return [f'+CGNAPN: 1,"{apn}"' if apn else '+CGNAPN: 0,""']

    def _mode(self, form: str, given: str) -> list[str]:
        return self._choose("+CNMP", form, given, "_cnmp", (2, 13, 38, 51))

    def _lte_mode(self, form: str, given: str) -> list[str]:
        return self._choose("+CMNB", form, given, "_cmnb", (1, 2, 3))

    def _choose(self, name: str, form: str, given: str, attribute: str, known: tuple[int, ...]) -> list[str]:
        if form == "?":
            return [f"{name}: {getattr(self, attribute)}"]
        if form == "=?":
            return [f"{name}: ({','.join(map(str, known))})"]
        numbers = integers(given)
        if len(numbers) != 1 or numbers[0] not in known:
            raise MobileError(BAD_PARAMETERS)
        setattr(self, attribute, numbers[0])
        lte = {1: ("cat-m",), 2: ("nb-iot",), 3: ("cat-m", "nb-iot")}[self._cmnb]
        self.registration.rats = () if self._cnmp == 13 else lte
        self.registration.restart()
        return []

    def _bands(self, form: str, given: str) -> list[str]:
        known = self.registration.bands
        if form == "?":
            return [f'+CBANDCFG: "{_RATS[rat]}",{",".join(map(str, known.get(rat) or _ALL_BANDS))}' for rat in _RATS]
        if form == "=?":
            return [f'+CBANDCFG: "{name}",({",".join(map(str, _ALL_BANDS))})' for name in _RATS.values()]
        parts = arguments(given)
        rat = {name: rat for rat, name in _RATS.items()}.get(parts[0].upper())
        if rat is None or len(parts) < 2 or not all(p.isdigit() and int(p) in _ALL_BANDS for p in parts[1:]):
            raise MobileError(BAD_PARAMETERS)
        known[rat] = tuple(int(part) for part in parts[1:])
        self.registration.restart()
        return []

    def _local_time(self, form: str, given: str) -> list[str]:
        if form == "?":
            return [f"+CLTS: {self._clts}"]
        if form == "=?":
            return ['+CLTS: "yy/MM/dd,hh:mm:ss+/-zz"']
        if integers(given) not in ([0], [1]):
            raise MobileError(BAD_PARAMETERS)
        self._clts = int(given)
        if self.time_known and self.takes_time():
            self.clock_offset_s = 0.0
        return []

    def _system(self, form: str, given: str) -> list[str]:
        mode = "Online" if self.settings.function == 1 else "Low Power Mode"
        if not self.registration.registered:
            return [f"+CPSI: NO SERVICE,{mode}"]
        rat = {"cat-m": "LTE CAT-M1", "nb-iot": "LTE NB-IOT"}[self.conditions.rat]
        place = f"{PLMN[:3]}-{PLMN[3:]},0x1A2B,27448321,447,EUTRAN-BAND{self.conditions.band}"
        return [f"+CPSI: {rat},{mode},{place},6300,3,3,-10,-94,-69,13"]

    def _down(self, form: str, given: str) -> list[str]:
        if integers(given) not in ([0], [1]):
            raise MobileError(BAD_PARAMETERS)
        # 0: at once; 1: it says so, and no OK
        text = self.DOWN_TEXT if given.strip() == "1" else None
        raise Result(text, lambda: self.actions.power_down(quiet=True))

    def _reboot(self, form: str, given: str) -> list[str]:
        raise Result("OK", lambda: self.actions.power_down(restart=True))


_ALL_BANDS = (1, 2, 3, 4, 5, 8, 12, 13, 14, 18, 19, 20, 25, 26, 27, 28, 66, 85)
_ALL_MASK = sum(1 << band - 1 for band in _ALL_BANDS)


class Bg95(ClockCommands):
    """Quectel BG95-M3."""

    TYPE = "bg95"
    MODEL = "BG95-M3"
    IDENTITY = ("Quectel", "BG95-M3", "Revision: BG95M3LAR02A03")
    ACCESS = {"cat-m": 8, "nb-iot": 9}
    QUOTED_ADDRESS = False
    BOOT_S = 2.1
    OFF_S = 2.0
    KEY_ON_S = 0.5
    KEY_OFF_S = 0.65
    DOWN_TEXT = "POWERED DOWN"

    TABLE = {
        "+QCCID": "card",
        "+QCFG": "configure",
        "+QNWINFO": "network_information",
        "+QCSQ": "quality",
        "+QLTS": "latest_time",
        "+QPOWD": "down",
        "+QICSGP": "context_settings",
        "+QIACT": "ip_active",
        "+QIDEACT": "ip_inactive",
        "+QINISTAT": "initial",
        "+QURCCFG": "quiet",
        "+QSCLK": "quiet",
    }

    def reset(self) -> None:
        super().reset()
        self.settings.errors = 1
        if not hasattr(self, "_options"):
            # kept in its flash
            self._options = {
                "nwscanmode": "0",
                "iotopmode": "2",
                "nwscanseq": "00",
                "servicedomain": "1",
                "psm/urc": "0",
            }
            self._masks = ["0xf", f"{_ALL_MASK:#x}", f"{_ALL_MASK:#x}"]

    def boot_lines(self) -> list[tuple[float, str]]:
        lines = [(0.0, "RDY"), (0.3, "APP RDY")]
        if not self.conditions.sim:
            return [*lines, (0.8, "+CPIN: NOT READY"), (0.9, "+QUSIM: 0")]
        lines += [(0.8, f"+CPIN: {self.sim.asks}"), (0.9, "+QUSIM: 1")]
        return [*lines, (1.9, "+QIND: SMS DONE")] if self.sim.asks == "READY" else lines

    def _card(self, form: str, given: str) -> list[str]:
        self.need_sim()
        return [f"+QCCID: {ICCID}"]

    def _configure(self, form: str, given: str) -> list[str]:
        if form != "=":
            raise CommandError
        name, *values = arguments(given)
        name = name.lower()
        if name == "band":
            return self._mask(values)
        if name not in self._options:
            raise CommandError
        if not values:
            return [f'+QCFG: "{name}",{self._options[name]}']
        known = {"nwscanmode": ("0", "1", "3"), "iotopmode": ("0", "1", "2")}.get(name)
        if (known and values[0] not in known) or not re.fullmatch(r"[0-9]{1,6}", values[0]):
            raise CommandError
        self._options[name] = values[0]
        lte = {"0": ("cat-m",), "1": ("nb-iot",), "2": ("cat-m", "nb-iot")}[self._options["iotopmode"]]
        self.registration.rats = () if self._options["nwscanmode"] == "1" else lte
        if values[1:2] != ["0"]:
            self.registration.restart()
        return []

    def _mask(self, values: list[str]) -> list[str]:
        if not values:
            return [f'+QCFG: "band",{",".join(self._masks)}']
        masks = [value.lower().removeprefix("0x") for value in values[:3]]
        if len(masks) != 3 or not all(re.fullmatch("[0-9a-f]{1,24}", mask) for mask in masks):
            raise CommandError
        numbers = [int(mask, 16) for mask in masks]
        if any(number & ~_ALL_MASK for number in numbers[1:]):
            raise CommandError
        for at, number in enumerate(numbers):
            if number:  # 0: stays as it is
                self._masks[at] = f"{number:#x}"
        for rat, text in zip(("cat-m", "nb-iot"), self._masks[1:], strict=True):
            self.registration.bands[rat] = tuple(band for band in _ALL_BANDS if int(text, 16) >> band - 1 & 1)
        if values[3:4] != ["0"]:
            self.registration.restart()
        return []

    def _network_information(self, form: str, given: str) -> list[str]:
        if not self.registration.registered:
            return ["+QNWINFO: No Service"]
        access = {"cat-m": "eMTC", "nb-iot": "NBIoT"}[self.conditions.rat]
        return [f'+QNWINFO: "{access}","{PLMN}","LTE BAND {self.conditions.band}",6300']

    def _quality(self, form: str, given: str) -> list[str]:
        if not self.registration.registered:
            return ['+QCSQ: "NOSERVICE"']
        access = {"cat-m": "eMTC", "nb-iot": "NBIoT"}[self.conditions.rat]
        return [f'+QCSQ: "{access}",-69,-94,120,-10']

    def _latest_time(self, form: str, given: str) -> list[str]:
        if form == "=?":
            return ["+QLTS: (0-2)"]
        mode = integers(given)[0] if form == "=" else 0
        if mode > 2:
            raise CommandError
        if not self.time_known:
            return ['+QLTS: ""']
        quarters = self.conditions.offset_quarters
        told = self.network_time()
        if mode < 2:  # 0 the latest, 1 the current time in GMT; 2 the current local one
            told -= _quarters(quarters)
        return [f'+QLTS: "{told:%Y/%m/%d,%H:%M:%S}{quarters:+03d},0"']

    def _down(self, form: str, given: str) -> list[str]:
        mode = given.strip() if form == "=" else "1"
        if mode not in ("0", "1"):
            raise CommandError
        raise Result("OK", lambda: self.actions.power_down(quiet=mode == "0"))

    def _context_settings(self, form: str, given: str) -> list[str]:
        parts = arguments(given)
        if form != "=" or not parts[0].isdigit() or not 1 <= int(parts[0]) <= 15:
            raise CommandError
        cid = int(parts[0])
        if len(parts) == 1:
            return [f'+QICSGP: 1,"{self.settings.contexts.get(cid, ("IP", ""))[1]}","","",0']
        self.settings.contexts[cid] = ("IP", parts[2] if len(parts) > 2 else "")
        return []

    def _ip_active(self, form: str, given: str) -> list[str]:
        if form == "?":
            return [f'+QIACT: {cid},1,1,"{self.actions.address}"' for cid in sorted(self.settings.active)]
        if form != "=":
            return ["+QIACT: (1-15)"]
        chosen = integers(given)
        if chosen[0] not in self.settings.contexts:
            raise CommandError
        self.activate(chosen[:1])
        return []

    def _ip_inactive(self, form: str, given: str) -> list[str]:
        if form != "=":
            raise CommandError
        self.settings.active.discard(integers(given)[0])
        return []

    def _initial(self, form: str, given: str) -> list[str]:
        if not self.conditions.sim:
            raise MobileError(NOT_ALLOWED)
        return [f"+QINISTAT: {7 if self.sim.asks == 'READY' else 1}"]


def _quarters(n: int) -> timedelta:
    return timedelta(minutes=15 * n)


TYPES: dict[str, type[Sim7080] | type[Bg95]] = {"sim7080": Sim7080, "bg95": Bg95}
