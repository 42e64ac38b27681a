"""The board, made from boards/<NAME>/board.toml; None: it has nothing of the kind."""

from typing import Any, Protocol

class Bus(Protocol):
    """A bus, `machine.I2C`. It exists for type checkers only, and cannot be imported on the board."""

    def scan(self) -> list[int]: ...
    def writeto(self, addr: int, buf: bytes | bytearray | memoryview, stop: bool = True, /) -> int: ...
    def readfrom(self, addr: int, nbytes: int, stop: bool = True, /) -> bytes: ...
    def readfrom_mem(self, addr: int, memaddr: int, nbytes: int, /) -> bytes: ...
    def readfrom_mem_into(self, addr: int, memaddr: int, buf: bytearray | memoryview, /) -> None: ...
    def writeto_mem(self, addr: int, memaddr: int, buf: bytes | bytearray | memoryview, /) -> None: ...

class VoltageSource(Protocol):
    """`machine.ADC`, or power management that has one. For type checkers only."""

    def read_uv(self) -> int:
        """Microvolts."""

NAME: str
MODEL: str
VENDOR: str
CHIP: str
RADIO: dict[str, Any] | None
I2C: dict[str, int] | None
PMU: dict[str, Any] | None
BATTERY: dict[str, Any] | None
"""adc (its pin), divider, full_mv, low_mv, empty_mv."""
MODEM: dict[str, Any] | None
GNSS: dict[str, Any] | None
PARTS: dict[str, int]
"""Part → its address on the I2C bus."""
INTERRUPTS: dict[str, int]
"""Part → the pin of its interrupt line."""
BUTTON: tuple[int, int] | None
"""Pin, and the level of a pressed one."""
POWER: tuple[int, ...]
"""Microamperes, in the order of `sealwire.charge`."""

def power() -> None:
    """Switch on what the radio and sensors are fed by."""

def i2c() -> Bus:
    """The sensors' bus, set up once; OSError 19: the board has none."""

def battery_adc() -> VoltageSource:
    """What reads the cell; OSError 19: the board cannot."""

def modem_power(on: bool) -> bool:
    """The modem's supply; whether it can be cut. Only on a board with a modem."""

def gnss_power(on: bool) -> None:
    """The receiver's supply. Only on a board with a receiver."""
