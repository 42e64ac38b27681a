# AXP192, power management of older boards: a rail on or off, the cell's voltage. Offers what axp2101.py does. Register
# numbers as in the maker's datasheet V1.1 ("Register list") and in XPowersLib. Charging stays as the chip has it.
from micropython import const

from sealband.sensors.base import Registers, SensorError

ADDRESS = const(0x34)

_MODE = const(0x01)  # bit 5: a battery is there
_CHIP_ID = const(0x03)
_ID = const(0x03)
_POWER = const(0x12)  # a bit for each output
_ADC_CHANNELS = const(0x82)  # bit 7: battery voltage
_BATTERY_MV = const(0x78)  # 12 bits: 8, then 4; 1.1 mV a step
# by output: its bit, the register of its voltage, where in it, which bits, the voltage of step 0, mV a step
_RAILS = {
    "DC1": (0, 0x26, 0, 0x7F, 700, 25),
    "DC2": (4, 0x23, 0, 0x3F, 700, 25),
    "LDO2": (2, 0x28, 4, 0x0F, 1800, 100),
    "LDO3": (3, 0x28, 0, 0x0F, 1800, 100),
}


class Axp192:
    def __init__(self, i2c, address=ADDRESS):
        self._part = Registers(i2c, address, "AXP192")

    # Switch a rail on, at this voltage if one is given, or off. DC3, which feeds the chip, is not for switching.
    def rail(self, name, millivolts=None, on=True):
        part = self._part
        part.expect(part.read_byte(_CHIP_ID), _ID)
        switch, register, shift, mask, least_mv, step_mv = _RAILS[name]
        if on and millivolts:
            step = (millivolts - least_mv) // step_mv
            if not 0 <= step <= mask:
                raise SensorError("AXP192 has no %d mV" % millivolts)
            part.write_byte(register, part.read_byte(register) & ~(mask << shift) & 0xFF | step << shift)
            if part.read_byte(register) >> shift & mask != step:
                raise SensorError("AXP192 does not set %s" % name)
        bit = 1 << switch
        part.write_byte(_POWER, part.read_byte(_POWER) & ~bit | (bit if on else 0))
        if bool(part.read_byte(_POWER) & bit) is not on:
            raise SensorError("AXP192 does not switch %s %s" % (name, "on" if on else "off"))

    # microvolts of the cell, under machine.ADC's name, so that BatteryVoltage reads either
    def read_uv(self):
        part = self._part
        part.expect(part.read_byte(_CHIP_ID), _ID)
        channels = part.read_byte(_ADC_CHANNELS)
        if not channels & 0x80:
            part.write_byte(_ADC_CHANNELS, channels | 0x80)
        if not part.read_byte(_MODE) & 0x20:
            raise SensorError("AXP192 sees no battery")
        word = part.read_word(_BATTERY_MV)
        return (word >> 8 << 4 | word & 0x0F) * 1100
