# The updater: one attempt at the job, in a start of its own that has the heap to itself. It brings the link up, takes
# newer trust lists, checks the manifest, fetches and installs; duty.py, which asks for it, then resets. What is
# checked, written and switched is in manifest.py, trust.py, fetch.py, install.py and firmware.py; this is their order:
#
#   link → trust lists → manifest verified, and the one that was ordered → patch, or else full image, to flash
#        → idle slot, read back, digest → boot record: on trial
#
# A firmware goes to its partition as it comes.
import os
import sys
import time

import sealboot
from sealband import once, provision
from sealband.links import secure
from sealband.links.base import LinkError
from sealband.store import discard
from sealband.update import address, fetch, job, manifest, trust
from sealband.update.refused import UpdateRefused
from sealboot import record
from sealwire import update as wire
from sealwire.manifest import COMPONENT_APP, COMPONENT_FW

WATCHDOG_MS = 120000
_LINK_MS = 60000
_TRUST_STEPS_MAX = 8
_AGAIN_S = 300  # after the first attempt that failed; doubles with each
_CLOCK_MAX_S = 604800  # attempts of one order are over by then


# One attempt; the caller resets. now_s: a time that is surely past. OSError: flash refuses, and nothing was begun.
def run(work, machine, now_s, pull=None):
    # counted before anything can go wrong
    work.attempts += 1
    work.save()
    watchdog = machine.WDT(timeout=WATCHDOG_MS)
    code = wire.INTERNAL
    try:
        (pull or attempt)(work, machine, now_s, watchdog.feed)
        return
    except UpdateRefused as error:
        say("refused", error.code)
        work.end(wire.REFUSED, error.code)
        return
    except Again:
        return
    except Failed as error:
        code = error.code
    except Exception as error:
        sys.print_exception(error)
    watchdog.feed()
    say("failed", code)
    job.note(work.sequence, wire.FAILED, code)
    # the node runs meanwhile; a fleet that failed together does not come back together
    job.write("wait", (_AGAIN_S << (work.attempts - 1)) + os.urandom(1)[0])


# This attempt came to nothing; another may do better.
class Failed(Exception):
    def __init__(self, code):
        super().__init__(code)
        self.code = code


# A patch wanted more memory than there is, and left too little for the full image: another start goes by that at once.
class Again(Exception):
    pass


# Numbers and names of steps only: nothing from outside gets onto the serial port.
def say(step, *numbers):
    print("update:", step, *numbers)


def attempt(work, machine, now_s, feed):
    site = provision.load(job.path("provision"))
    if site is None:
        raise UpdateRefused(wire.HOST_REFUSED)
    if not address.allowed(work.url, site.origins):
        raise UpdateRefused(wire.HOST_REFUSED)
    secure.set_clock(machine, now_s, _CLOCK_MAX_S)  # a time that is surely past, and not long
    link = _link_up(site, feed)
    try:
        _pull(work, site, now_s, feed)
    except fetch.FetchError as error:
        raise Failed(error.code)
    finally:
        if link:
            link.down()


# None: the board has a way of its own, or none.
def _link_up(site, feed):
    if not site.wifi:
        return None
    from sealband.links import wifi

    link = wifi.WifiBearer()
    try:
        for pause_ms in link.join(site.wifi, _LINK_MS):
            feed()
            time.sleep_ms(pause_ms)
    except LinkError:
        raise Failed(wire.NO_LINK)
    return link


def _pull(work, site, now_s, feed):
    source = fetch.Source(site.origins, site.ca, feed=feed)
    held = _trust(work, source)
    if not work.sequence:
        work.end(wire.VERIFIED)
        return
    if held.expired(now_s):
        raise UpdateRefused(wire.TRUST_EXPIRED)
    order = _manifest(work, site, source, held)
    del held
    # what has verified takes the room that fetching and installing need
    once("sealband.crypto.cose")
    once("sealband.crypto.p256")
    say("verified", order.sequence, order.size)
    job.note(work.sequence, wire.VERIFIED)
    work.firmware = order.component == COMPONENT_FW
    name = order.digest.hex()[:16]
    job.tidy((name + ".patch", name + ".full"))
    path = job.path(name + ".full")
    url = address.join(work.url, order.uri)
    if work.firmware:
        _install_firmware(work, order, source, url, path, feed)
    elif not _patched(work, source, order, path, name, feed):
        length = source.download(url, path, _delivered_max(order.size))
        _install(work, order, path, False, length, feed)


# Take every newer trust list that is there, one version after the other; what holds in the end.
def _trust(work, source):
    path = job.path("trust")
    try:
        held = trust.load(path)
    except (OSError, UpdateRefused):
        raise UpdateRefused(wire.TRUST_MISSING)
    for _ in range(_TRUST_STEPS_MAX):
        url = address.join(work.url, wire.TRUST_NAME % (held.version + 1))
        try:
            signed = source.get(url, wire.TRUST_MAX)
        except fetch.FetchError as error:
            if error.status == 404:
                break
            raise
        try:
            # also one that has expired: another may follow it, and what holds in the end is looked at
            payload = trust.rotate(held, signed)
        except UpdateRefused as error:
            # whoever serves the files could put anything here: the list that holds goes on holding
            job.note(held.version + 1, wire.REFUSED, error.code)
            break
        try:
            job.write_file(path, payload)
        except OSError:
            raise Failed(wire.FLASH_FAILED)
        held = trust.parse(payload)
        say("trust", held.version)
        job.note(held.version, wire.TRUSTED)
    return held


# The manifest that was ordered, verified; nothing is written before this returns.
def _manifest(work, site, source, held):
    envelope = source.get(work.url, wire.ENVELOPE_MAX)
    boot = record.load(job.SLOTS)
    identity = manifest.Identity(
        site.vendor,
        site.class_id,
        {COMPONENT_APP: boot.floor, COMPONENT_FW: boot.firmware_floor},
        {COMPONENT_APP: _slot_max(), COMPONENT_FW: _firmware_max()},
    )
    order = manifest.verify(envelope, held, identity)
    if order.manifest_digest != work.digest or order.sequence != work.sequence:
        raise UpdateRefused(wire.NOT_ORDERED)
    return order


# Two slots, the download and the queue share the flash.
def _slot_max():
    state = os.statvfs(job.SLOTS)
    return state[1] * state[2] // 3


def _firmware_max():
    try:
        from esp32 import Partition

        return Partition(Partition.RUNNING).get_next_update().info()[3]
    except (ImportError, OSError):
        return 0


# What may be delivered for an image: stored blocks of deflate and a patch's numbers take more than the image itself.
def _delivered_max(size):
    return size + size // 8 + 1024


# By a patch from what runs. False: there is none, or it did not lead to the image; then the full image is fetched, also
# by the next attempt, which finds its file at `full`.
def _patched(work, source, order, full, name, feed):
    if not sealboot.digest or fetch.begun(full):
        return False
    path = job.path(name + ".patch")
    url = address.join(work.url, wire.PATCH_NAME % (order.digest.hex(), sealboot.digest.hex()))
    try:
        length = source.download(url, path, _delivered_max(order.size))
    except fetch.FetchError as error:
        if error.status == 404 or error.code == wire.TOO_LONG:
            return False
        raise
    again = False
    try:
        _install(work, order, path, True, length, feed)
        return True
    except Failed as error:
        if error.code == wire.FLASH_FAILED:
            raise
        code = error.code
    except MemoryError:
        code, again = wire.INTERNAL, True
    discard(path)
    job.write_file(full, b"")
    job.note(work.sequence, wire.FAILED, code)
    if again:
        raise Again
    return False


# Delivery is not signed, so what does not lead to the signed digest is fetched anew in another attempt.
def _install(work, order, path, patched, length, feed):
    from sealband.update import install

    say("fetched", length)
    job.note(work.sequence, wire.FETCHED)
    try:
        install.install(order, path, patched, job.SLOTS, feed)
    except UpdateRefused as error:
        discard(path)
        raise Failed(error.code)
    _on_trial(work, path, "")


# The same, with no file in between: at `path` is only noted how far it came.
def _install_firmware(work, order, source, url, path, feed):
    from sealband.update import firmware

    def open_at(at):
        say("fetches from", at)
        return source.open(url, at, _delivered_max(order.size))

    try:
        firmware.install(order, open_at, path, feed, job.SLOTS)
    except UpdateRefused as error:
        discard(path)
        raise Failed(error.code)
    _on_trial(work, path, record.load(job.SLOTS).firmware[1].decode())


# From here on the next start tries it. Should the power fail before all of this is written, the trial goes without what
# is missing, and duty.py learns from the boot record how it ended. label: of the firmware's partition.
def _on_trial(work, path, label):
    say("installed", work.sequence)
    job.write("trial", [work.records, label, work.sequence])
    if label:
        job.note(work.sequence, wire.FETCHED)
    job.note(work.sequence, wire.INSTALLED)
    work.phase = job.TRIAL
    work.save()
    discard(path)
