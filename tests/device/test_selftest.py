# The self-test: each part that fails is named and the others are tested all the same; a release that is not the signed
# one is told by name.
import os
import sys

from device.fakes import FakeNetwork, unmount

import sealboot
from device import update_way as way
from sealband import selftest
from sealband.update import job
from sealboot import slots

sys.modules["network"] = FakeNetwork


class Esp:
    @staticmethod
    def flash_size():
        return 4 << 20


sys.modules["esp"] = Esp


class Part:
    read_ms, records = 10, (1,)

    def __init__(self, start=None, value=(1,), read=None):
        self.failures = {"start": start, "read": read}
        self.value, self.stopped = value, False

    def start(self):
        if self.failures["start"]:
            raise self.failures["start"]

    def read(self):
        if self.failures["read"]:
            raise self.failures["read"]
        return self.value

    def stop(self):
        self.stopped = True


class Slow(Part):
    read_ms = 9000

    def read(self):
        raise AssertionError("nobody wears it")


class Every:
    def __init__(self, sensor):
        self.sensor = sensor


class Radio:
    def __init__(self, error=None):
        self.error = error

    def open(self, where, clock, config, random):
        if self.error:
            raise self.error


class Application:
    defaults = {"send_every_s": 600, "status_every_s": 86400, "spreading_factor": 7}

    def __init__(self, sensors=(), links=()):
        self.sensors = [Every(sensor) for sensor in sensors]
        self.links = list(links)


# What the self-test says of an application's parts.
def tested(application):
    class App:
        @staticmethod
        def build(board):
            if isinstance(application, Exception):
                raise application
            return application

    sys.modules["app"] = App
    sys.modules["board"] = App
    opened, selftest._open = selftest._open, lambda link, application: link.open(None, None, None, None)
    try:
        return selftest._application()
    finally:
        selftest._open = opened


def test_good_parts_are_ok_and_stopped():
    part = Part()
    assert tested(Application([part, Slow()], [Radio()])) == ("ok", {"Part": "ok", "Slow": "ok"})
    assert part.stopped


def test_each_part_that_fails_is_named_and_the_others_are_tested():
    radio, sensors = tested(
        Application(
            [Part(OSError(19)), Part(), Part(value=(None,)), Part(read=ValueError("odd")), Slow(OSError(110))],
            [Radio(OSError(5)), Radio()],
        )
    )
    assert radio.startswith("OSError")
    assert sensors["Part"].startswith("OSError") and sensors["Part'"] == "ok"
    assert "no value" in sensors["Part''"] and "odd" in sensors["Part'''"]
    assert sensors["Slow"].startswith("OSError")


def test_application_that_cannot_be_built_is_told():
    radio, sensors = tested(MemoryError("no"))
    assert radio.startswith("MemoryError") and "application" in sensors


def test_application_without_a_radio_says_so():
    assert tested(Application()) == ("none", {})


def test_long_reason_is_cut_short():
    _, sensors = tested(Application([Part(ValueError("x" * 500))]))
    assert len(sensors["Part"]) == 80


def test_whole_run_has_every_field():
    Radio.open = lambda *_: None
    sys.modules["app"] = type("App", (), {"build": staticmethod(lambda board: Application([Part()]))})
    found = selftest.run()
    assert sorted(found) == ["flash", "free", "heap", "radio", "random", "release", "sensors", "slot"]
    assert found["random"] == "ok" and found["flash"] == 4 << 20 and found["slot"] == 255
    assert "sealband.enrol" not in sys.modules


def test_stuck_generator_is_told():
    from sealband import enrol

    def stuck():
        raise enrol.EnrolError(enrol.RANDOM, "the generator is stuck")

    kept, enrol.check_random = enrol.check_random, stuck
    try:
        assert "the generator is stuck" in selftest._random()
    finally:
        enrol.check_random = kept


# --- the release


# The answer to `release`, or the code of the refusal, of a board that runs OLD as release 1.
def judged(envelope, change=None, trusted=None):
    board = way.world(bytes(32), trusted=trusted)
    board.mount(way.ROOT)
    try:
        sealboot.index, sealboot.sequence, sealboot.digest, sealboot.trial = 255, 0, b"", False
        assert slots.choose(way.Machine(), way.ROOT)
        with open(way.ROOT + "/manifest", "wb") as file:
            file.write(envelope)
        if change:
            change()
        return selftest.release(way.ROOT + "/manifest")
    except selftest.SelfTestError as error:
        return error.code
    finally:
        unmount(way.ROOT)
        sealboot.index = 255


SIGNED = way.signed_release(way.OLD, sequence=1)[0]


def test_signed_release_that_runs_is_confirmed():
    assert judged(SIGNED) == [1, way.digest(way.OLD)]


def test_envelope_that_is_not_signed_enough_is_refused():
    assert judged(way.signed_release(way.OLD, sequence=1, keys=way.RELEASE[:1])[0]) == "manifest"
    assert judged(way.signed_release(way.OLD, sequence=1, keys=way.ROOTS)[0]) == "manifest"
    assert judged(SIGNED[:-1]) == "manifest"
    assert judged(b"") == "manifest"
    assert judged(bytes(5000)) == "manifest"


def test_release_for_another_model_or_component_is_refused():
    assert judged(way.signed_release(way.OLD, sequence=1, class_id=bytes(16))[0]) == "manifest"
    assert judged(way.signed_release(way.OLD, sequence=1, component=b"fw")[0]) == "manifest"


def test_another_release_than_the_one_that_runs_is_told():
    assert judged(way.signed_release(way.NEW, sequence=1)[0]) == "other_release"
    assert judged(way.signed_release(way.OLD, sequence=2)[0]) == "other_release"


def test_slot_that_was_changed_since_the_start_is_damaged():
    def write(name, data):
        with open(way.SLOTS + "/a/" + name, "wb") as file:
            file.write(data)

    assert judged(SIGNED, lambda: write("main.py", b"2\n")) == "damaged"
    assert judged(SIGNED, lambda: write("more.mpy", b"")) == "damaged"


def test_what_is_missing_on_the_board_is_told_by_name():
    assert judged(SIGNED, lambda: os.remove(way.ROOT + "/manifest")) == "no_manifest"
    assert judged(SIGNED, lambda: os.remove(job.path("trust"))) == "no_trust"
    assert judged(SIGNED, lambda: os.remove(job.path("provision"))) == "not_provisioned"

    def develop():
        sealboot.index = 255

    assert judged(SIGNED, develop) == "no_slot"
