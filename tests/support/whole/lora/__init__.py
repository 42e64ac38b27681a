# `lora.SX1262`: the server is on the other end of the line. Its answer is heard when the receiver is on at the right
# time, on the same channel and data rate.
import time

from _wire import answer_into, tell, tell_bytes


class RxPacket(bytearray):
    rssi = -90


class SX1262:
    def __init__(self, spi, cs, lora_cfg=None, **settings):
        self._settings = dict(lora_cfg)
        self._expected = None

    def configure(self, settings):
        self._settings.update(settings)

    def get_time_on_air_us(self, length):
        symbol_us = 1000 * (1 << self._settings["sf"]) // 125
        bits = max(0, 8 * length + 44 - 4 * self._settings["sf"])
        per_symbol = 4 * (self._settings["sf"] - (2 if symbol_us >= 16000 else 0))
        return symbol_us * (17 + 4 * (16 + -(-bits // per_symbol) * 5)) // 4

    def calibrate_image(self):
        pass

    def prepare_send(self, packet):
        self._packet = packet

    def start_send(self):
        tell_bytes(self._packet, "up", time.now_us)
        self._until = time.ticks_ms() + self.get_time_on_air_us(len(self._packet)) // 1000 + 1
        self._packet = None

    def poll_send(self):
        if time.ticks_ms() < self._until:
            return True
        self._expected = self._until + 5000, self._settings["freq_khz"], self._settings["sf"]
        return self._until

    def start_recv(self, timeout_ms):
        at, freq_khz, sf = self._expected
        begun = time.ticks_ms()
        self._until = begun + timeout_ms
        self._hears = begun <= at <= self._until
        if (freq_khz, sf) != (self._settings["freq_khz"], self._settings["sf"]):
            self._hears = False

    def poll_recv(self):
        if time.ticks_ms() < self._until:
            return True
        if not self._hears:
            return False
        packet = RxPacket(64)
        tell("down")
        length = answer_into(packet)
        return RxPacket(packet[:length]) if length > 0 else False

    def sleep(self):
        pass
