# AXP2101, power management: a rail on, the cell's voltage. Register numbers as in the maker's datasheet ("Register
# list") and in XPowersLib. Charging stays as the chip's own settings have it.
from micropython import const

from sealband.sensors.base import Registers, SensorError

ADDRESS = const(0x34)

_STATUS = const(0x00)  # bit 3: a battery is there
_CHIP_ID = const(0x03)
_ID = const(0x4A)
_ADC_CHANNELS = const(0x30)  # bit 0: battery voltage
_BATTERY_MV = const(0x34)  # 13 bits, high byte first
_LDO_ON = const(0x90)  # bits 0 to 3: ALDO1 to ALDO4
_LDO_VOLTAGE = const(0x92)  # ALDO1; the others follow. Five bits: 100 mV a step from 500 mV
_RAILS = ("ALDO1", "ALDO2", "ALDO3", "ALDO4")


class Axp2101:
    def __init__(self, i2c, address=ADDRESS):
        self._part = Registers(i2c, address, "AXP2101")

    # switch a rail on at this voltage
    def rail(self, name, millivolts):
        part = self._part
        part.expect(part.read_byte(_CHIP_ID), _ID)
        number = _RAILS.index(name)
        register = _LDO_VOLTAGE + number
        step = (millivolts - 500) // 100
        part.write_byte(register, part.read_byte(register) & 0xE0 | step)
        part.write_byte(_LDO_ON, part.read_byte(_LDO_ON) | 1 << number)
        if part.read_byte(register) & 0x1F != step or not part.read_byte(_LDO_ON) & 1 << number:
            raise SensorError("AXP2101 does not switch %s on" % name)

    # microvolts of the cell, under machine.ADC's name, so that BatteryVoltage reads either
    def read_uv(self):
        part = self._part
        part.expect(part.read_byte(_CHIP_ID), _ID)
        channels = part.read_byte(_ADC_CHANNELS)
        if not channels & 1:
            part.write_byte(_ADC_CHANNELS, channels | 1)
        if not part.read_byte(_STATUS) & 8:
            raise SensorError("AXP2101 sees no battery")
        return (part.read_word(_BATTERY_MV) & 0x1FFF) * 1000
