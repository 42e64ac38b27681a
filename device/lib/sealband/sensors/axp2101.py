# AXP2101, power management: a rail on or off, the cell's voltage. Register numbers as in the maker's datasheet
# ("Register list") and in XPowersLib. Charging stays as the chip's own settings have it.
from micropython import const

from sealband.sensors.base import Registers, SensorError

ADDRESS = const(0x34)

_STATUS = const(0x00)  # bit 3: a battery is there
_CHIP_ID = const(0x03)
_ID = const(0x4A)
_ADC_CHANNELS = const(0x30)  # bit 0: battery voltage
_BATTERY_MV = const(0x34)  # 13 bits, high byte first
_DC_ON = const(0x80)  # bits 0 to 4: DC1 to DC5
_DC3_VOLTAGE = const(0x84)  # seven bits: from 88 on 100 mV a step from 1600 mV
_LDO_ON = const(0x90)  # a bit each
_LDO_VOLTAGE = const(0x92)  # ALDO1; the others follow. Five bits: 100 mV a step from 500 mV
_RAILS = ("ALDO1", "ALDO2", "ALDO3", "ALDO4", "BLDO1", "BLDO2")


class Axp2101:
    def __init__(self, i2c, address=ADDRESS):
        self._part = Registers(i2c, address, "AXP2101")

    # Switch a rail on, at this voltage if one is given, or off.
    def rail(self, name, millivolts=None, on=True):
        part = self._part
        part.expect(part.read_byte(_CHIP_ID), _ID)
        switch, number, register, keep, first = _DC_ON, 2, _DC3_VOLTAGE, 0x80, 88 - 16
        if name != "DC3":
            switch, number, keep, first = _LDO_ON, _RAILS.index(name), 0xE0, -5
            register = _LDO_VOLTAGE + number
        bit = 1 << number
        if on and millivolts:
            step = millivolts // 100 + first
            part.write_byte(register, part.read_byte(register) & keep | step)
            if part.read_byte(register) & ~keep & 0xFF != step:
                raise SensorError("AXP2101 does not set %s" % name)
        part.write_byte(switch, part.read_byte(switch) & ~bit | (bit if on else 0))
        if bool(part.read_byte(switch) & bit) is not on:
            raise SensorError("AXP2101 does not switch %s %s" % (name, "on" if on else "off"))

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
