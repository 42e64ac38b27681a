# MAX30102, optical sensor: from power-up to beats a minute, oxygen saturation, RMSSD and whether the band is worn. No
# medical device. Quoted names: datasheet 19-7740 Rev 1, "Register Maps and Descriptions". The algorithms, heart.py,
# spo2.py and rmssd.py, are in the heap only while this driver works.
#
# SpO2 mode: both LEDs, 100 conversions a second, four averaged: a FIFO of 32 samples lasts 1.28 s. It is emptied in
# bursts every quarter of a second; who comes later than the FIFO lasts loses samples, and heart.py is told that there
# is a gap. At first, and always when no saturation is wanted, the red LED is dark: its channel shows what leaks in.
import time

from micropython import const

from sealband import once
from sealband.sensors.base import Registers, Sensor, SensorError
from sealwire.recordids import HEART_RATE, HRV_RMSSD, SPO2, WEAR_STATE

PARTS = ("MAX30102",)
ADDRESS = const(0x57)  # "I2C Interface": 0xAE to write, 0xAF to read

_FIFO_WRITE = const(0x04)  # "FIFO (0x04-0x07)": write pointer, overflow counter, read pointer, five bits each
_FIFO_DATA = const(0x07)
_FIFO_CONFIG = const(0x08)
_MODE_CONFIG = const(0x09)
_SPO2_CONFIG = const(0x0A)
_LED_AMPLITUDE = const(0x0C)  # "LED Pulse Amplitude (0x0C-0x0D)": red, infrared; 0.2 mA a step
_PART_ID = const(0xFF)
_ID = const(0x15)

_AVERAGE_4 = const(0x40)  # "FIFO Configuration (0x08)": SMP_AVE = 010, no rollover, so that what is there has no gap
_SHUTDOWN = const(0x80)  # "Mode Configuration (0x09)": SHDN, RESET, MODE = 011 SpO2 (red and infrared)
_RESET = const(0x40)
_SPO2_MODE = const(0x03)
_100_HZ_18_BITS = const(0x27)  # "SpO2 Configuration (0x0A)": 4096 nA, 100 samples/s, 411 us pulses of 18 bits

_LED_6_2_MA = const(0x1F)
_LED_MIN = const(0x04)
_LED_MAX = const(0x7F)  # 25.4 mA

_DEPTH = const(32)
_SAMPLE_LEN = const(6)  # "FIFO Data": red, then infrared
_MASK_18 = const(0x3FFFF)
_TOO_BRIGHT = const(0x3F000)
_DIM = const(0x0C000)  # below this, or above that, the LED is set so that half the scale comes back
_GLARE = const(0x30000)
_HALF = const(0x20000)
# What comes back at 6.2 mA: from a finger or a wrist ten times this, from the window alone less than a quarter. Between
# the two the band is as it was before.
_OFF = const(4500)
_ON = const(7500)
# mg without gravity: the pulse drowns; and what a table never shows, the accelerometer's own noise being 3 to 5
_MOVING_MG = const(60)
_TABLE_MG = const(15)

_POLL_MS = const(250)
_LOOKS = const(4)
_FULL_AFTER_MS = const(1200)  # without a read, the FIFO can be full
_SILENT_MS = const(1500)
_RESET_POLLS = const(20)
_FILL_MS = const(9700)  # window, settling and one poll are 9.5 s


class HeartRate(Sensor):
    records = (HEART_RATE, SPO2, HRV_RMSSD, WEAR_STATE)
    # A measurement in which RMSSD is due takes 45 s longer.
    read_ms = _FILL_MS + _LOOKS * _POLL_MS + 100
    big = alone = True

    # motion: what has level(), in mg. rmssd_every: RMSSD with every so manyeth measurement, 0: never. calibration: see
    # spo2.py.
    def __init__(
        self,
        i2c,
        address=ADDRESS,
        sleep_ms=time.sleep_ms,
        ticks_ms=time.ticks_ms,
        kept=None,
        motion=None,
        rmssd_every=20,
        calibration=None,
    ):
        self._part = Registers(i2c, address, "MAX30102")
        self._sleep_ms = sleep_ms
        self._ticks_ms = ticks_ms
        self._motion = motion
        self._rmssd_every = rmssd_every
        self._calibration = calibration
        # currents of red and infrared, whether it was worn, measurements since the last RMSSD
        self.kept = kept
        self.wanted = None  # records, None: all
        self._pulse = self._ratio = None
        # why the last read() gave no heart rate, or "good"; how often samples were lost or spoilt
        self.reason = ""
        self.gaps = 0

    # reset, check, configure, light
    def start(self):
        part = self._part
        self.kept = self.kept or (_LED_6_2_MA, _LED_6_2_MA, None, 0)
        if not self._pulse:
            self._pointers = bytearray(3)
            self._fifo = memoryview(bytearray(_DEPTH * _SAMPLE_LEN))
            self._led = bytearray(2)
            self._pulse = once("sealband.sensors.heart").Pulse()
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
        self._light(0, self.kept[1])
        part.write_byte(_MODE_CONFIG, _SPO2_MODE)
        self._check()

    # The bus has no checksum: a part that still knows its name and its settings is likely to have told the truth.
    def _check(self):
        part = self._part
        part.expect(part.read_byte(_PART_ID), _ID)
        if part.read_byte(_MODE_CONFIG) != _SPO2_MODE or part.read_byte(_SPO2_CONFIG) != _100_HZ_18_BITS:
            raise SensorError("MAX30102 does not keep its settings")

    def _light(self, red, infrared):
        self._led[0] = red
        self._led[1] = infrared
        self._part.write(_LED_AMPLITUDE, self._led)

    # the four values over the next ten seconds; None for what is not good enough to tell
    def read(self):
        steps = self.measure()
        while True:
            try:
                self._sleep_ms(next(steps))
            except StopIteration as end:
                return end.value

    def _wants(self, record):
        return self.wanted is None or record in self.wanted

    # the same in steps of a quarter of a second
    def measure(self):
        red, infrared, before, count = self.kept
        bpm = percent = rmssd = None
        self._ratio = None
        self._light(0, infrared)
        worn = yield from self._look(before)
        leak = self._red
        # something reflects: is it shown that it lives?
        lives = not self._motion
        if worn and (self._wants(HEART_RATE) or self._wants(SPO2) or self._wants(HRV_RMSSD)):
            if self._wants(SPO2):
                self._ratio = once("sealband.sensors.spo2").Ratio(self._pulse.other, leak, self._calibration)
            self._light(red if self._ratio else 0, _current(infrared, self._infrared))
            self._pulse.reset()
            self._clear()
            worn = yield from self.fill(leak)
            if worn:
                count += 1
                bpm = self._pulse.estimate()
                self.reason = "moving" if bpm is None and self._moved else self._pulse.reason
                lives = bpm is not None
            if self._ratio:
                red = self._led[0]
                if bpm is not None:
                    percent = self._ratio.percent()
                self._ratio = None
            if bpm is not None and 0 < self._rmssd_every <= count and self._wants(HRV_RMSSD):
                self._light(0, self._led[1])
                rmssd = yield from once("sealband.sensors.rmssd").measure(self, self._pulse, leak)
                if rmssd is not None:
                    count = 0
        self._check()
        if worn and before != 1 and not lives and self._level() <= _TABLE_MG:
            worn = None
        self.kept = (red, self._led[1], before if worn is None else worn, count)
        return bpm if self._wants(HEART_RATE) else None, percent, rmssd, worn

    # what it takes of the heap is free until it starts again
    def stop(self):
        self._pulse = self._ratio = None
        try:
            self._part.write_byte(_MODE_CONFIG, _SHUTDOWN)
        except SensorError:
            pass

    # what the accelerometer says, in mg; 0: it knows nothing
    def _level(self):
        level = self._motion.level() if self._motion else None
        return level or 0

    # With the red LED dark: 1 worn, 0 not, `before` between the two, None: glare.
    def _look(self, before):
        self._moved = False
        self._clear()
        self._heard = self._read_at
        off = 0
        for _ in range(_LOOKS):
            yield _POLL_MS
            while not self._burst(False):
                yield _POLL_MS
            if self._red > _GLARE:
                self.reason = "glare"
                return None
            reflected = (self._infrared - self._red) * _LED_6_2_MA // self._led[1]
            if reflected >= _ON:
                return 1
            if reflected < _OFF:
                off += 1
        if off == _LOOKS:
            self.reason = "not worn"
            return 0
        self.reason = "unclear"
        return before

    # Samples until the window is full or the time is over: 1, or 0 when the band is taken off.
    def fill(self, leak):
        begun = self._ticks_ms()
        fresh = self._ratio
        dark = 0
        while not self._pulse.full():
            yield _POLL_MS
            if time.ticks_diff(self._ticks_ms(), begun) > _FILL_MS:
                break
            if not self._burst(True):
                continue
            if fresh:
                fresh = None
                red = _current(self._led[0], self._red)
                if red != self._led[0]:
                    self._light(red, self._led[1])
                    self._begin()
            dark = dark + 1 if (self._infrared - leak) * _LED_6_2_MA < _OFF * self._led[1] else 0
            if dark == _LOOKS:
                self.reason = "not worn"
                return 0
        return 1

    # what was seen so far is of another scale
    def _begin(self):
        self._clear()
        self._pulse.reset()
        self.gaps += 1

    # forget what is in the FIFO; "FIFO Data Register" asks for that before a new measurement
    def _clear(self):
        self._pointers[0] = self._pointers[1] = self._pointers[2] = 0
        self._part.write(_FIFO_WRITE, self._pointers)
        self._read_at = self._ticks_ms()
        self._pulse.gap()

    # Empty the FIFO, into the algorithm if it is to be added. How many samples; self._red, self._infrared: their means.
    def _burst(self, add):
        now = self._ticks_ms()
        part = self._part
        pulse = self._pulse
        part.read_into(_FIFO_WRITE, self._pointers)
        write, lost, read = self._pointers
        if (write | lost | read) & 0xE0:
            raise SensorError("MAX30102 answers nonsense")
        count = (write - read) % _DEPTH
        if not count and not lost:
            if time.ticks_diff(now, self._heard) > _SILENT_MS:
                raise SensorError("MAX30102 delivers no samples")
            # equal pointers: empty, or exactly full; after so long a time it is full or the part is silent
            if time.ticks_diff(now, self._read_at) >= _FULL_AFTER_MS:
                self.gaps += 1
                self._clear()
            return 0
        if lost:
            # "OVF_COUNTER": it was full, and what came then was dropped; the 32 samples in it follow each other
            count = _DEPTH
        samples = self._fifo[: count * _SAMPLE_LEN]
        part.read_into(_FIFO_DATA, samples)
        # It may have run full between the two reads, and reading the data resets the overflow counter ("OVF_COUNTER").
        stalled = not lost and time.ticks_diff(self._ticks_ms(), self._read_at) >= _FULL_AFTER_MS
        self._read_at = self._heard = now
        if add and self._level() > _MOVING_MG:
            add = False
            self._moved = True
            self.gaps += 1
            pulse.spoil()
        reds = infrareds = bright = 0
        for i in range(0, count * _SAMPLE_LEN, _SAMPLE_LEN):
            red = (samples[i] << 16 | samples[i + 1] << 8 | samples[i + 2]) & _MASK_18
            infrared = (samples[i + 3] << 16 | samples[i + 4] << 8 | samples[i + 5]) & _MASK_18
            reds += red
            infrareds += infrared
            if infrared > _TOO_BRIGHT:
                bright |= 1
            if red > _TOO_BRIGHT:
                bright |= 2
            if add:
                # more blood swallows more light
                passed = pulse.add(_MASK_18 - infrared)
                if self._ratio:
                    self._ratio.add(red, infrared, passed)
        self._red = reds // count
        self._infrared = infrareds // count
        if lost:
            self.gaps += 1
            pulse.gap()
        elif stalled:
            self.gaps += 1
            self._clear()
        if add and bright:
            # the converter is at its end: half the light
            red, infrared = self._led
            if bright & 1 and infrared > _LED_MIN:
                infrared >>= 1
            if bright & 2 and red > _LED_MIN:
                red >>= 1
            if (red, infrared) != tuple(self._led):
                self._light(red, infrared)
                self._begin()
        return count


# the current with which half the scale comes back, where this one gives so much
def _current(led, light):
    if _DIM <= light <= _GLARE:
        return led
    return max(_LED_MIN, min(_LED_MAX, led * _HALF // max(light, 1)))


def sensor(board, kept=None, **options):
    address = board.PARTS.get("MAX30102")
    if address is None:
        raise SensorError("no MAX30102 on this board")
    return HeartRate(board.i2c(), address, kept=kept, **options)
