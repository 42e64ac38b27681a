# MAX30102, optical heart-rate sensor: from power-up to beats a minute. Quoted names: datasheet 19-7740 Rev 1, "Register
# Maps and Descriptions". The algorithm is in heart.py; SpO2 is not measured.
#
# 100 conversions a second, four averaged: a FIFO of 32 samples lasts 1.28 s. It is emptied in bursts every quarter of a
# second; who comes later than the FIFO lasts loses samples, and heart.py is told that there is a gap.
import time

from micropython import const

from sealband.sensors.base import Registers, Sensor, SensorError
from sealband.sensors.heart import Pulse
from sealwire.recordids import HEART_RATE

ADDRESS = const(0x57)  # "I2C Interface": 0xAE to write, 0xAF to read

_FIFO_WRITE = const(0x04)  # "FIFO (0x04-0x07)": write pointer, overflow counter, read pointer
_FIFO_DATA = const(0x07)
_FIFO_CONFIG = const(0x08)
_MODE_CONFIG = const(0x09)
_SPO2_CONFIG = const(0x0A)
_LED1_AMPLITUDE = const(0x0C)
_PART_ID = const(0xFF)
_ID = const(0x15)

_AVERAGE_4 = const(0x40)  # "FIFO Configuration (0x08)": SMP_AVE = 010, no rollover, so that what is there has no gap
_SHUTDOWN = const(0x80)  # "Mode Configuration (0x09)": SHDN, RESET, MODE = 010 heart rate (red LED only)
_RESET = const(0x40)
_HEART_RATE_MODE = const(0x02)
_100_HZ_18_BITS = const(0x27)  # "SpO2 Configuration (0x0A)": 4096 nA, 100 samples/s, 411 us pulses of 18 bits
_LED_6_2_MA = const(0x1F)  # "LED Pulse Amplitude (0x0C-0x0D)": 0.2 mA a step
_LED_MIN = const(0x04)

_DEPTH = const(32)
_SAMPLE_LEN = const(3)
_MASK_18 = const(0x3FFFF)
_TOO_BRIGHT = const(0x3F000)
# a finger or a wrist gives back ten times this at 6.2 mA, the window alone less than half
_WORN_MIN = const(6000)

_POLL_MS = const(250)
_FULL_AFTER_MS = const(1200)  # without a read, the FIFO can be full
_SILENT_MS = const(1500)
_RESET_POLLS = const(20)
_READ_MS = const(9700)  # window, settling and one poll are 9.5 s


class HeartRate(Sensor):
    records = (HEART_RATE,)
    read_ms = _READ_MS + 100

    def __init__(self, i2c, address=ADDRESS, sleep_ms=time.sleep_ms, ticks_ms=time.ticks_ms):
        self._part = Registers(i2c, address, "MAX30102")
        self._sleep_ms = sleep_ms
        self._ticks_ms = ticks_ms
        self._pulse = Pulse()
        self._pointers = bytearray(3)
        self._fifo = memoryview(bytearray(_DEPTH * _SAMPLE_LEN))
        self._led = _LED_6_2_MA
        # why the last read() gave None, or "good"; how often samples were lost
        self.reason = ""
        self.gaps = 0

    # reset, check, configure, light
    def start(self):
        part = self._part
        part.expect(part.read_byte(_PART_ID), _ID)
        part.write_byte(_MODE_CONFIG, _RESET)
        for _ in range(_RESET_POLLS):
            if not part.read_byte(_MODE_CONFIG) & _RESET:
                break
            self._sleep_ms(1)
        else:
            raise SensorError("MAX30102 does not come out of reset")
        part.write_byte(_FIFO_CONFIG, _AVERAGE_4)
        part.write_byte(_SPO2_CONFIG, _100_HZ_18_BITS)
        part.write_byte(_LED1_AMPLITUDE, self._led)
        part.write_byte(_MODE_CONFIG, _HEART_RATE_MODE)
        if part.read_byte(_MODE_CONFIG) != _HEART_RATE_MODE or part.read_byte(_SPO2_CONFIG) != _100_HZ_18_BITS:
            raise SensorError("MAX30102 does not take its settings")

    # beats a minute over the next eight seconds; None when they are not good enough to tell
    def read(self):
        steps = self.measure()
        while True:
            try:
                self._sleep_ms(next(steps))
            except StopIteration as end:
                return end.value

    # the same in steps of a quarter of a second
    def measure(self):
        pulse = self._pulse
        pulse.reset()
        begun = heard = self._ticks_ms()
        self._clear(begun)
        dark = 0
        while not pulse.full():
            yield _POLL_MS
            now = self._ticks_ms()
            if time.ticks_diff(now, begun) > _READ_MS:
                break
            brightness = self._burst(now)
            if brightness is None:
                if time.ticks_diff(now, heard) > _SILENT_MS:
                    raise SensorError("MAX30102 delivers no samples")
                continue
            heard = now
            dark = dark + 1 if brightness * _LED_6_2_MA < _WORN_MIN * self._led else 0
            if dark == 4:
                self.reason = "not worn"
                return (None,)
        bpm = pulse.estimate()
        self.reason = pulse.reason
        return (bpm,)

    def stop(self):
        try:
            self._part.write_byte(_MODE_CONFIG, _SHUTDOWN)
        except SensorError:
            pass

    # forget what is in the FIFO; "FIFO Data Register" asks for that before a new measurement
    def _clear(self, now):
        self._pointers[0] = self._pointers[1] = self._pointers[2] = 0
        self._part.write(_FIFO_WRITE, self._pointers)
        self._read_at = now
        self._pulse.gap()

    # empty the FIFO into the algorithm; the mean of the samples, or None when there were none
    def _burst(self, now):
        self._part.read_into(_FIFO_WRITE, self._pointers)
        write, lost, read = self._pointers
        count = (write - read) % _DEPTH
        late = time.ticks_diff(now, self._read_at) >= _FULL_AFTER_MS
        if not count and not lost:
            # equal pointers: empty, or exactly full; after so long a time it is full or the part is silent
            if late:
                self.gaps += 1
                self._clear(now)
            return None
        if lost:
            # "OVF_COUNTER": it was full, and what came then was dropped; the 32 samples in it follow each other
            count = _DEPTH
        samples = self._fifo[: count * _SAMPLE_LEN]
        self._part.read_into(_FIFO_DATA, samples)
        # It may have run full between the two reads, and reading the data resets the overflow counter ("OVF_COUNTER").
        stalled = not lost and time.ticks_diff(self._ticks_ms(), self._read_at) >= _FULL_AFTER_MS
        self._read_at = now
        total = 0
        bright = False
        for i in range(0, count * _SAMPLE_LEN, _SAMPLE_LEN):
            value = (samples[i] << 16 | samples[i + 1] << 8 | samples[i + 2]) & _MASK_18
            total += value
            if value > _TOO_BRIGHT:
                bright = True
            # more blood swallows more light
            self._pulse.add(_MASK_18 - value)
        if lost:
            self.gaps += 1
            self._pulse.gap()
        elif stalled:
            self.gaps += 1
            self._clear(self._ticks_ms())
        if bright and self._led > _LED_MIN:
            # the converter is at its end: half the light, and what was seen so far is of another scale
            self._led >>= 1
            self._part.write_byte(_LED1_AMPLITUDE, self._led)
            self._clear(now)
            self._pulse.reset()
        return total // count
