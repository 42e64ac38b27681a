# What a board finds out about itself at the station: flash, heap, randomness, radio, sensors, and whether the release
# in its slot is the one that was signed. Asked over the serial REPL (`console`), each question after a reset of its
# own. It reports; what is good enough, the station decides.
import gc
import os
import sys

from micropython import const

import sealboot

_READ_MS_MAX = const(1000)
_TEXT_MAX = const(80)
OK = "ok"


class SelfTestError(Exception):
    # The release on this board is not what it should be; `code` says why.
    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


# One line on the serial port, as enrol.console has it.
def console(verb, *arguments):
    from sealband.crypto import cbor

    try:
        if verb == "run":
            answer = run()
        elif verb == "release":
            answer = release(*arguments)
        else:
            raise SelfTestError("board", "no verb %s" % verb)
    except SelfTestError as error:
        print("sealband/1 refused", error.code, error)
    else:
        print("sealband/1 ok", cbor.encode(answer).hex())


def run():
    gc.collect()
    state = os.statvfs("/")
    found = {"heap": gc.mem_free(), "free": state[0] * state[3], "random": _random()}
    # enrolment's modules were only borrowed
    for name in list(sys.modules):
        if name in ("sealband.enrol", "sealband.crypto.p256", "sealband.crypto.cose"):
            package, _, module = name.rpartition(".")
            delattr(sys.modules[package], module)
            del sys.modules[name]
    gc.collect()
    found["radio"], found["sensors"] = _application()
    import esp

    found["flash"] = esp.flash_size()
    found["release"] = [sealboot.sequence, sealboot.digest]
    found["slot"] = sealboot.index
    return found


# "ok", or why not: a stranger's text as far as an exception has one.
def _judged(function, *arguments):
    try:
        function(*arguments)
        return OK
    except Exception as error:
        return ("%s: %s" % (type(error).__name__, error))[:_TEXT_MAX]


def _random():
    from sealband import enrol

    radio = None
    try:
        radio = enrol._radio_on()
        return _judged(enrol.check_random)
    except enrol.EnrolError as error:
        return str(error)
    finally:
        if radio:
            radio.active(False)


# Radio and sensors of the application that is to run here.
def _application():
    try:
        import app
        import board

        application = app.build(board)
    except Exception as error:
        why = _judged(_raise, error)
        return why, {"application": why}
    radio = "none"
    for link in application.links:
        why = _judged(_open, link, application)
        radio = why if radio in ("none", OK) else radio
    sensors = {}
    for every in application.sensors:
        name = getattr(every.sensor, "_how", (type(every.sensor).__name__,))[0]
        while name in sensors:
            name += "'"
        sensors[name] = _judged(_measure, every.sensor)
    return radio, sensors


def _raise(error):
    raise error


def _open(link, application):
    from sealband import store
    from sealband.clock import Clock
    from sealband.config import Config

    where = store.open_board()
    link.open(where, Clock(where), Config(where, application.defaults), lambda n: 0)


# That it answers, and that a value comes where one can without somebody who wears the board.
def _measure(sensor):
    try:
        sensor.start()
        driver = getattr(sensor, "_driver", sensor)  # of a part, while it is started
        if sensor.read_ms <= _READ_MS_MAX and hasattr(driver, "read") and None in driver.read():
            raise ValueError("no value")
    finally:
        sensor.stop()


# (sequence, digest) of the release in the running slot, when the envelope at this path names it and enough keys of this
# board's trust list have signed that.
def release(path):
    from sealband import provision
    from sealband.update import job, manifest, trust
    from sealband.update.refused import UpdateRefused
    from sealboot import image, record
    from sealwire.manifest import COMPONENT_APP
    from sealwire.update import ENVELOPE_MAX

    if sealboot.index > 1:
        raise SelfTestError("no_slot", "this board runs no release")
    site = provision.load(job.path("provision"))
    if site is None:
        raise SelfTestError("not_provisioned", "nothing says for whom this board takes releases")
    try:
        with open(path, "rb") as file:
            envelope = file.read(ENVELOPE_MAX + 1)
    except OSError:
        raise SelfTestError("no_manifest", "no file at this path")
    folder = record.slot_path(sealboot.index, job.SLOTS)
    try:
        held = trust.load(job.path("trust"))
        # what runs is as good as what is newer
        identity = manifest.Identity(
            site.vendor, site.class_id, {COMPONENT_APP: sealboot.sequence - 1}, {COMPONENT_APP: 0xFFFFFFFF}
        )
        found = manifest.verify(envelope, held, identity)
    except UpdateRefused as error:
        raise SelfTestError("manifest", "refused with code %d" % error.code)
    except OSError:
        raise SelfTestError("no_trust", "no trust list")
    if (found.sequence, found.digest) != (sealboot.sequence, sealboot.digest):
        raise SelfTestError("other_release", "what runs is release %d" % sealboot.sequence)
    if image.digest(folder) != found.digest:
        raise SelfTestError("damaged", "the slot's files are not the release's")
    return [found.sequence, found.digest]
