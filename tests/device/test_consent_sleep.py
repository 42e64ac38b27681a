# Consent over deep sleep and resets: what is withdrawn is off, forgotten and told nowhere, also where the board sleeps,
# starts anew or loses power in between; and what comes back begins from nothing.
import sys

from device.test_sleep import Asleep, Watcher
from device.wearable import CountingSensor

from sealband import once, sleep
from sealband.app import Every
from sealband.sensors.base import SensorError
from sealwire import messages

TIMEOUT_S = 60


class Keeps(CountingSensor):
    # leaves something behind, as the receiver its last fix
    def __init__(self, *how):
        super().__init__(*how)
        self.kept = None

    def stop(self):
        super().stop()
        self.kept = [4713715, 1157561]


class Gathers(Watcher):
    # an accelerometer: once it is on it counts, whoever sleeps, until it is off; what it has counted is told
    on = False
    glitch = False

    def __init__(self, told):
        super().__init__((34, 1), (5,))
        self.told = told
        self.count = 0

    def later(self):
        self.count += self.on

    def watch(self, node):
        self.on = True
        while True:
            self.told.append(self.count)
            self.count = 0
            yield 250

    def close(self):
        super().close()
        if self.glitch:
            self.glitch = False
            return  # the bus failed, and close() raises nothing
        self.on = False
        self.count = 0


def tell(w, *ids):
    w.node.session._receive(w.server.message(w.node.chain.epoch, messages.CONSENT, list(ids)))


def worn(**settings):
    told = []
    part = Gathers(told)
    w = Asleep([part], sensors=[], **settings)
    w.sensors = [Every(120, Keeps(7, 4713715, (1,), 0, w.time)), Every(300, w.heart)]
    w.start()
    w.part, w.told = part, told
    return w


def test_what_is_withdrawn_is_off_and_forgotten_before_the_board_sleeps_and_stays_so():
    w = worn()
    w.hours(1)
    assert w.part.on and w.sensors[0].sensor.kept
    tell(w, 1)
    w.wake()
    reads, looks = w.sensors[0].sensor.reads, len(w.told)
    assert not w.part.on and w.part.calls[-1] == "close" and not armed()
    assert w.sensors[0].sensor.kept is None and 7 not in w.node.sampler.newest
    for _ in range(5):
        w.sleep()
        assert sleep.sampled(w.node.sampler)[4] == [None, None]
        w.wake()
    assert not w.part.on and w.sensors[0].sensor.reads == reads and len(w.told) == looks
    at = w.time.server_t()
    w.hours(1)
    assert not [1 for t, record, _ in w.server.samples() if record == 7 and t > at]
    assert w.server.status()[messages.STATUS_CONSENT] == b"\x01"
    # and power that is cut brings nothing back
    w.power_cut()
    w.wake()
    assert not w.part.on and w.sensors[0].sensor.reads == reads


def armed():
    esp32 = sys.modules["esp32"]
    return esp32.ext0 or esp32.ext1


def test_consent_that_is_gone_at_the_last_moment_before_sleep_still_ends_what_is_watched():
    w = worn()
    w.hours(1)
    w.node.sampler.consent = b"\x01"  # after the last look: nothing else is due in this wake
    w.node.cycle = lambda awake: 60000
    w.wake()
    assert not w.part.on and not armed()


def test_a_part_that_a_reset_left_on_after_consent_was_withdrawn_is_off_at_the_first_wake():
    w = worn()
    w.hours(1)
    once("sealband.consent").change(w.node, [1])
    w.power_cut()  # of the processor only: the part knows nothing of it
    assert w.part.on
    w.part.later()
    w.wake()
    assert not w.part.on
    looks = len(w.told)
    w.sleep()
    w.part.later()
    tell(w, 1, 5)
    w.wake()
    assert w.part.on and not any(w.told[looks:])


def test_what_a_part_gathered_while_nobody_had_consented_is_not_told_when_consent_comes_back():
    w = worn()
    w.hours(1)
    w.part.glitch = True
    once("sealband.consent").change(w.node, [1])
    w.node.cycle()
    w.part.later()
    assert w.part.count == 1, "the glitch left it on"
    once("sealband.consent").change(w.node, [1, 5])
    looks = len(w.told)
    w.node.cycle()
    assert w.part.on and w.told[looks:] and not any(w.told[looks:])


def test_what_was_gathered_in_deep_sleep_is_told_after_it_and_not_after_another_reset():
    w = worn()
    w.hours(1)
    w.part.later()
    looks = len(w.told)
    w.wake()
    assert w.told[looks] == 1, "what deep sleep is for"
    w.part.later()
    w.power_cut()
    looks = len(w.told)
    w.wake()
    assert w.told[looks:] and not any(w.told[looks:])


def test_consent_that_comes_in_deep_sleep_begins_with_the_next_wake():
    w = worn(ask_first=True)
    w.hours(1)
    assert not w.part.on and not w.told and not w.server.samples()
    tell(w, 5, 7)
    w.wake()
    assert w.part.on
    w.hours(1)
    assert {record for _, record, _ in w.server.samples()} == {7}


def test_wear_and_pace_are_forgotten_with_the_consent_that_they_came_from():
    w = worn()
    w.node.worn, w.node.level = 1, 1
    tell(w, 1, 13)
    assert w.node.worn == 1
    tell(w, 1)
    assert w.node.worn is None and w.node.level == 0
    w.wake()
    w.sleep()
    assert w.node.worn is None and w.node.level == 0


def test_what_a_driver_leaves_behind_when_it_is_stopped_for_want_of_consent_is_forgotten_too():
    w = worn()
    sensor = Keeps(7, 4713715, (1,), 9500, w.time)
    w.sensors = [Every(30, sensor)]
    w.start()
    w.time.ms += 31000
    pauses = w.node.work()
    while not w.sensors[0].busy:
        w.time.sleep_ms(next(pauses))
    once("sealband.consent").change(w.node, [1])
    for pause_ms in pauses:
        w.time.sleep_ms(pause_ms)
    assert not w.sensors[0].busy and not sensor.reads and sensor.kept is None


def test_drivers_begin_anew_after_what_they_left_was_forgotten():
    class Part:
        def __getattr__(self, name):
            raise SensorError("nobody there")

    from sealband.sensors import gnss, max30102, max30205

    for driver in (gnss.Position(Part()), max30102.HeartRate(None), max30205.SkinTemperature(None)):
        driver.kept = None
        try:
            driver.start()
        except (SensorError, AttributeError):
            pass  # it has no part to speak to
        assert driver.kept
