"""Everything of the virtual chip that is not its processor: RTC, NVS, partitions, I2C, ADC, pins, watchdog, radios.

Answers the requests of the board's simulated modules (`host_tools/sim/micropython/_link.py`): one datagram of a letter,
a sequence number and arguments; the answer is the sequence number, a status and the result.

    h  hello: clock, RTC, reset cause …      b  boot.py and main.py have ended    s  they have exited
    r  reset           d  deep sleep         w  watchdog                          f  feed it
    m  RTC memory      n  set RTC memory     t  set the RTC
    i  I2C transfer    a  I2C addresses      v  ADC microvolts                    p  pin        q  set pin
    x  wake on ext0    y  wake on ext1       X  the flash asks for its power cut
    o  NVS open        G S C B  get and set i32, get and set blob                 e  erase      c  commit
    T  transmit        L  listen             P  poll      W  wait                 Y  standby
    N  Wi-Fi, Z  partitions: a second letter says what (`host_tools.sim.requests`)
    U  UART, K  PPP: likewise (`host_tools.sim.uart_requests`)      @  the way of the sockets

Owns the RTC, pins, buses, watchdog and what a reset leaves of them all, and turns errors into answers. Not here: the
process and its terminal (`host_tools.sim.processor`), what is behind the requests of NVS, radio, Wi-Fi, partitions,
UART and PPP (`host_tools.sim.requests`, `host_tools.sim.uart_requests`).
"""

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass

from host_tools.sim.airtime import RadioError
from host_tools.sim.bootloader import Bootloader
from host_tools.sim.chip_ip import ChipIp
from host_tools.sim.clock import SimClock
from host_tools.sim.esp import EspError
from host_tools.sim.flash import Flash
from host_tools.sim.nvs import Nvs
from host_tools.sim.parts import Nack, Part
from host_tools.sim.radio import Radio
from host_tools.sim.requests import NoAnswer, NvsRequests, PartitionRequests, RadioRequests, WifiRequests
from host_tools.sim.uart import Line, PowerKey, Talker, TalkerUart, Uart
from host_tools.sim.uart_requests import PppRequests, UartRequests
from host_tools.sim.wake import Wake, WakeError
from host_tools.sim.wifi import AccessPoint, Station, WifiError

RTC_MEMORY_MAX = 2048
REQUEST_MAX = 8192
ENODEV = 19
EINVAL = 22
PPP_WAY = 1 << 30
_OK = b"\0"
_NS = 1_000_000_000


@dataclass(frozen=True)
class Event:
    """Something of the chip that concerns its process: `kind` is hello, booted, exit, reset, sleep, watchdog or cut."""

    kind: str
    sleep_s: float | None = None


@dataclass
class Start:
    """What the next start of the processor is told.

    Attributes:
        cause: as `machine.reset_cause()` numbers them.
        wake: as `machine.wake_reason()` numbers them.
        run_main: main.py runs after boot.py.
    """

    cause: int
    wake: int = 0
    run_main: bool = True


class Peripherals:
    """The chip's parts, which outlive its resets.

    Args:
        mac: the chip's six bytes.
        clock: the simulation's clock.
        nvs: the NVS partition.
        radio: the modem.
        flash: the partitions.
        chip: a key of `firmware.CHIP_IDS`.
        say: called with what the boot loader would log.
        wifi: the access point, or None.
        modem: the pty of what is on UART 1, or None.
        modem_key: the pin that presses its power key, or None.
        parts: on the I2C buses (every bus has them all).
        adc: pin → what returns microvolts at that pin.
        serial: UART → what talks there; others but the modem's have open pins.
        inputs: pin → its level at a Unix time, where something outside drives it; others are what was set.
        on_event: told what concerns the process, from the answering thread; returns when that was dealt with.
    """

    def __init__(
        self,
        *,
        mac: bytes,
        clock: SimClock,
        nvs: Nvs,
        radio: Radio,
        flash: Flash,
        chip: str,
        say: Callable[[str], None],
        wifi: AccessPoint | None,
        modem: str | None,
        modem_key: int | None,
        parts: Sequence[Part],
        adc: Mapping[int, Callable[[], int]],
        inputs: Mapping[int, Callable[[float], int]],
        serial: Mapping[int, Talker],
        on_event: Callable[[Event], Future[None]],
    ) -> None:
        self.radio = radio
        self.pins: dict[int, int] = {}
        self.wake = Wake(chip)
        self.watchdog_at: float | None = None  # virtual Unix seconds
        self.start = Start(cause=1)
        self.flash_cut_after = 0
        self.nvs_cut_after = 0
        self.partition_cut_after = 0
        self.station = Station(clock.now, wifi, seed=int.from_bytes(mac, "big"))
        self.bootloader = Bootloader(flash, chip, say, self._spend_partition)
        self._uart = Uart(modem, clock.now)
        self._stack = ChipIp(self._uart, clock)
        self._key = PowerKey(modem, modem_key)
        self._modem = RadioRequests(radio)
        self._talkers = serial
        self._uarts: dict[int, Line] = {2: Uart(None, clock.now)}
        self._uarts.update({number: TalkerUart(talker, clock.now) for number, talker in serial.items()})
        self._uarts[1] = self._uart
        self._serial = UartRequests(self._uarts)
        self._ppp = PppRequests(self._stack)
        self._keys = NvsRequests(nvs, self._spend_nvs)
        self._wifi = WifiRequests(self.station)
        self._partitions = PartitionRequests(flash, self.bootloader, self._spend_partition)
        self._mac = mac
        self._clock = clock
        self._nvs = nvs
        self._parts = {part.address: part for part in parts}
        self._adc = adc
        self._inputs = inputs
        self._chip = chip
        self._on_event = on_event
        self._rtc_memory = b""
        self._rtc0_ns = 0
        self._watchdog_s = 0.0
        self._lock = threading.Lock()
        self.power_on()

    def power_on(self) -> None:
        """A cold start: the RTC begins at 2000-01-01, RTC memory is empty."""
        self._rtc_memory = b""
        self._rtc0_ns = round(self._clock.now() * _NS)
        self.reset()

    def reset(self) -> None:
        """What every start of the processor does to its parts."""
        with self._lock:
            self._nvs.forget()
        with self._lock:
            self.station.reset()
        self.radio.close()
        self.release_lines()
        self.pins.clear()
        self.wake = Wake(self._chip)
        self.watchdog_at = None

    def release_lines(self) -> None:
        """The program has ended: nobody drives what goes out of the chip any more."""
        self._stack.close()
        for uart in self._uarts.values():
            uart.close()
        self._key.set(0)
        for pin in [pin for pin, level in self.pins.items() if level]:
            self._drive(pin, 0)

    def serve(self, connection: socket.socket) -> None:
        """Answer one process until it ends."""
        with connection:
            while True:
                try:
                    request = connection.recv(REQUEST_MAX)
                    if not request:
                        return
                    answer = self._answer(request[:1], request[2:], connection)
                    connection.send(request[1:2] + answer)
                except NoAnswer:
                    continue
                except OSError:
                    return

    def _answer(self, letter: bytes, body: bytes, connection: socket.socket) -> bytes:
        try:
            if letter in RadioRequests.LETTERS:
                # the next request means that a Control-C ended this one on the board
                return _OK + self._modem.answer(letter, body, lambda: bool(select.select([connection], [], [], 0)[0]))
            if letter in NvsRequests.LETTERS:
                with self._lock:
                    return _OK + self._keys.answer(letter, body)
            handler = _HANDLERS.get(letter)
            if handler is None:
                raise ValueError("no such request")
            return _OK + handler(self, body)
        except Nack:
            return b"\1" + struct.pack(">h", ENODEV)
        except EspError as error:
            return b"\1" + struct.pack(">h", -error.code) + str(error).encode()
        except WifiError as error:
            return b"\1\0\0" + str(error).encode()
        except OSError as error:
            # the folder that keeps the partitions
            return b"\1" + struct.pack(">h", error.errno or EINVAL)
        except (RadioError, WakeError) as error:
            return b"\2" + b"\0\0" + str(error).encode()
        except (ValueError, struct.error, IndexError) as error:
            return b"\1" + struct.pack(">h", EINVAL) + str(error).encode()

    # the chip

    def _hello(self, _: bytes) -> bytes:
        numerator, denominator = self._clock.speed.as_integer_ratio()
        if max(numerator, denominator) > 1_000_000:
            numerator, denominator = round(self._clock.speed * 1000), 1000
        self._on_event(Event("hello"))
        return struct.pack(
            ">qqIIqBB6sBI",
            round(self._clock.real_origin * _NS),
            round(self._clock.virtual_origin * _NS),
            numerator,
            denominator,
            self._rtc0_ns,
            self.start.cause,
            self.start.wake,
            self._mac,
            self.start.run_main,
            self.flash_cut_after,
        )

    def _booted(self, _: bytes) -> bytes:
        with contextlib.suppress(TimeoutError, CancelledError):
            # the REPL begins when this is answered
            self._on_event(Event("booted")).result(1.0)
        return b""

    def _reset(self, _: bytes) -> bytes:
        self._on_event(Event("reset"))
        raise NoAnswer

    def _exit(self, _: bytes) -> bytes:
        self._on_event(Event("exit"))
        raise NoAnswer

    def _sleep(self, body: bytes) -> bytes:
        (ms,) = struct.unpack(">q", body)
        self._on_event(Event("sleep", None if ms <= 0 else ms / 1000))
        raise NoAnswer

    def _cut(self, _: bytes) -> bytes:
        self.flash_cut_after = 0
        self._on_event(Event("cut"))
        raise NoAnswer

    def _memory(self, _: bytes) -> bytes:
        return self._rtc_memory

    def _set_memory(self, body: bytes) -> bytes:
        if len(body) > RTC_MEMORY_MAX:
            raise ValueError("buffer too long")
        self._rtc_memory = body
        return b""

    def _set_rtc(self, body: bytes) -> bytes:
        (self._rtc0_ns,) = struct.unpack(">q", body)
        return b""

    def _watchdog(self, body: bytes) -> bytes:
        (ms,) = struct.unpack(">q", body)
        if ms <= 0:
            raise ValueError("WDT timeout too short")
        self._watchdog_s = ms / 1000
        return self._feed(b"")

    def _feed(self, _: bytes) -> bytes:
        first = self.watchdog_at is None
        self.watchdog_at = self._clock.now() + self._watchdog_s
        if first:
            self._on_event(Event("watchdog"))
        return b""

    # pins and buses

    def _i2c(self, body: bytes) -> bytes:
        address, n = struct.unpack(">BH", body[:3])
        part = self._parts.get(address)
        if part is None:
            raise Nack
        if body[3:] or not n:
            part.write(body[3:])
        return part.read(n) if n else b""

    def _scan(self, _: bytes) -> bytes:
        return bytes(sorted(address for address, part in self._parts.items() if _acknowledges(part)))

    def _volts(self, body: bytes) -> bytes:
        source = self._adc.get(body[0])
        return struct.pack(">I", max(0, source()) if source else 0)

    def _pin(self, body: bytes) -> bytes:
        return bytes((self.level(body[0], self._clock.now()),))

    def level(self, pin: int, time_s: float) -> int:
        """What a pin is at, at that Unix time: what somebody put it to from outside, or what drives it."""
        if pin in self.pins:
            return self.pins[pin]
        driven = self._inputs.get(pin)
        return driven(time_s) if driven else 0

    def _set_pin(self, body: bytes) -> bytes:
        self.pins[body[0]] = body[1]
        if body[0] == self._key.pin:
            self._key.set(body[1])
        self._drive(body[0], body[1])
        return b""

    def _drive(self, pin: int, level: int) -> None:
        for talker in self._talkers.values():
            talker.pin(pin, level, self._clock.now())

    def _wake_ext0(self, body: bytes) -> bytes:
        self.wake.ext0(body[0] if body else None, body[1] if body else 0)
        return b""

    def _wake_ext1(self, body: bytes) -> bytes:
        self.wake.ext1(body[1:], body[0])
        return b""

    # NVS, partitions, Wi-Fi

    def _partition(self, body: bytes) -> bytes:
        with self._lock:
            return self._partitions.answer(body)

    def _spend_nvs(self) -> None:
        # the test's power cut: this operation does not happen, and nothing after it
        if self.nvs_cut_after:
            self.nvs_cut_after -= 1
            if not self.nvs_cut_after:
                self._on_event(Event("cut"))
                raise NoAnswer

    def _spend_partition(self) -> None:
        if self.partition_cut_after:
            self.partition_cut_after -= 1
            if not self.partition_cut_after:
                self._on_event(Event("cut"))
                raise NoAnswer

    def _network(self, body: bytes) -> bytes:
        with self._lock:
            return self._wifi.answer(body)

    def _serial_line(self, body: bytes) -> bytes:
        return self._serial.answer(body)

    def _ppp_link(self, body: bytes) -> bytes:
        return self._ppp.answer(body)

    def _way(self, _: bytes) -> bytes:
        # PPP makes itself the way for everything (lwIP's default interface); a socket lives as long as its way
        if self._stack.up:
            return struct.pack(">I", PPP_WAY | self._stack.session)
        with self._lock:
            return struct.pack(">I", self.station.association if self.station.connected() else 0)

    def set_wifi_range(self, up: bool) -> None:
        """Bring the access point into range, or take it away."""
        with self._lock:
            self.station.set_range(up)


_HANDLERS: dict[bytes, Callable[[Peripherals, bytes], bytes]] = {
    b"h": Peripherals._hello,
    b"b": Peripherals._booted,
    b"r": Peripherals._reset,
    b"s": Peripherals._exit,
    b"d": Peripherals._sleep,
    b"X": Peripherals._cut,
    b"m": Peripherals._memory,
    b"n": Peripherals._set_memory,
    b"t": Peripherals._set_rtc,
    b"w": Peripherals._watchdog,
    b"f": Peripherals._feed,
    b"i": Peripherals._i2c,
    b"a": Peripherals._scan,
    b"v": Peripherals._volts,
    b"p": Peripherals._pin,
    b"q": Peripherals._set_pin,
    b"x": Peripherals._wake_ext0,
    b"y": Peripherals._wake_ext1,
    b"N": Peripherals._network,
    b"Z": Peripherals._partition,
    b"U": Peripherals._serial_line,
    b"K": Peripherals._ppp_link,
    b"@": Peripherals._way,
}


def _acknowledges(part: Part) -> bool:
    try:
        part.write(b"")
    except Nack:
        return False
    return True
