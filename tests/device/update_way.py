# The whole way of an update in miniature, for tests on MicroPython: a board with slots and a chain, real signatures, a
# server that is a dictionary, and starts one after the other until nothing is left to do. From any device test folder:
# `from device.update_way import …`.
import hashlib
import os

from device.fakes import World, unmount
from device.slots import put
from support import images, patches

import sealboot
from sealband.chain import Chain
from sealband.crypto import cbor, cose, p256
from sealband.store import Store
from sealband.update import duty, fetch, job, trust
from sealboot import record, slots
from sealwire import manifest as suit
from sealwire import update as wire

ROOT = "/ram"
SLOTS = ROOT + "/slots"
UPDATE = ROOT + "/update"
OUTBOX = ROOT + "/outbox"
ORIGIN = "http://10.0.0.1:8000"
BASE = ORIGIN + "/model/2"
URL = BASE + "/manifest.suit"
VENDOR, CLASS = bytes(range(16)), bytes(range(16, 32))
EUI = b"\x70\xb3\xd5\xff\xfe\x00\x12\x34"

OLD = {"lib/m.mpy": b"1" * 600, "main.py": b"1\n"}
NEW = {"lib/m.mpy": b"1" * 300 + b"2" * 300, "main.py": b"2\n"}
QUEUE = {"000000000": b"\xe0" * 60, "200000001": b"\xe1" * 200}


class Key:
    def __init__(self, number):
        self.private = bytes(31) + bytes((number,))
        self.public = p256.public_key(self.private)
        self.point = self.public[1:]
        self.kid = hashlib.sha256(self.public).digest()[:8]

    # a detached COSE_Sign1
    def sign(self, payload):
        return cose.sign1(self.private, payload, unprotected={4: self.kid}, detached=True)


RELEASE = [Key(n) for n in (11, 12, 13)]
ROOTS = [Key(n) for n in (21, 22)]


def trust_payload(version=1, keys=RELEASE, threshold=2, expires=None):
    table = {
        1: version,
        2: threshold,
        3: [key.point for key in keys],
        4: 2,
        5: [key.point for key in ROOTS],
    }
    if expires is not None:
        table[6] = expires
    return cbor.encode(table)


def signed_trust(payload, keys=ROOTS):
    return cbor.encode([payload, [cbor.decode(key.sign(payload)) for key in keys]])


# (envelope, manifest digest) of a release of these files
def signed_release(files, sequence=2, keys=RELEASE[:2], vendor=VENDOR, class_id=CLASS, component=b"app", size=None):
    image = images.image(files)
    digest = hashlib.sha256(image).digest()
    parameters = {
        suit.PARAM_VENDOR: vendor,
        suit.PARAM_CLASS: class_id,
        suit.PARAM_DIGEST: cbor.encode([suit.ALG_SHA256, digest]),
        suit.PARAM_SIZE: len(image) if size is None else size,
    }
    shared = [suit.OVERRIDE_PARAMETERS, parameters, suit.CONDITION_VENDOR, 15, suit.CONDITION_CLASS, 15]
    install = [suit.OVERRIDE_PARAMETERS, {suit.PARAM_URI: wire.FULL_NAME % digest.hex()}, suit.FETCH, 15, 3, 15]
    common = {suit.COMPONENTS: [[component]], suit.SHARED_SEQUENCE: cbor.encode(shared)}
    manifest = cbor.encode(
        {
            suit.VERSION: 1,
            suit.SEQUENCE: sequence,
            suit.COMMON: cbor.encode(common),
            suit.VALIDATE: cbor.encode([suit.CONDITION_IMAGE_MATCH, 15]),
            suit.INSTALL: cbor.encode(install),
        }
    )
    said = cbor.encode([suit.ALG_SHA256, hashlib.sha256(cbor.encode(manifest)).digest()])
    block = cbor.encode([said] + [key.sign(said) for key in keys])
    envelope = cbor.encode(cbor.Tag(suit.TAG_ENVELOPE, {suit.AUTHENTICATION: block, suit.MANIFEST: manifest}))
    return envelope, cbor.decode(said)[1]


def digest(files):
    return hashlib.sha256(images.image(files)).digest()


_FULL = images.squeezed(images.image(NEW))
# made once: the encoder takes a large piece of the heap
_PATCH = images.squeezed(patches.encode(images.image(OLD), images.image(NEW), digest(OLD)))


# What a web server would have of a release of NEW over OLD.
def delivery(envelope, patch=True):
    name = digest(NEW).hex()
    files = {URL: envelope, BASE + "/" + wire.FULL_NAME % name: _FULL}
    if patch:
        files[BASE + "/" + wire.PATCH_NAME % (name, digest(OLD).hex())] = _PATCH
    return files


# In place of fetch.Source: a server that is a dictionary. What it was asked for is in `asked`.
class Server:
    files = {}
    asked = []
    fails = {}  # url: FetchError

    def __init__(self, origins, ca=None, feed=None):
        assert origins == [ORIGIN]

    def get(self, url, limit):
        self.asked.append(url)
        if url in self.fails:
            raise self.fails[url]
        if url not in self.files:
            raise fetch.FetchError(wire.HTTP_STATUS, 404)
        if len(self.files[url]) > limit:
            raise fetch.FetchError(wire.TOO_LONG)
        return self.files[url]

    # as the real one does: in flushed blocks, going on after what is there
    def download(self, url, path, limit):
        data = self.get(url, limit)
        try:
            at = os.stat(path)[6]
        except OSError:
            at = 0
        with open(path, "ab" if at <= len(data) else "wb") as file:
            while at < len(data):
                file.write(data[at : at + 64])
                file.flush()
                at += 64
        return len(data)


class Reset(BaseException):
    # not an Exception: the code that asks for it never goes on
    pass


class Machine:
    DEEPSLEEP_RESET = 4
    cause = 1

    def reset_cause(self):
        return self.cause

    def WDT(self, timeout):
        return self

    def feed(self):
        pass

    def RTC(self):
        return self

    def datetime(self, parts):
        pass

    def reset(self):
        raise Reset()


# A board that runs OLD as release 1, was provisioned, and has taken an order for release 2.
def world(order, sequence=2, trusted=None, queue=QUEUE):
    board = World(flash=True)
    use(board)
    board.mount(ROOT)
    for folder in (SLOTS, UPDATE):
        os.mkdir(folder)
    put(SLOTS + "/a", OLD)
    held = record.Record()
    held.active, held.floor = 0, 1
    held.slots[0] = (1, digest(OLD), 1)
    record.save(held, SLOTS)
    put(OUTBOX, queue)
    table = {wire.PROVISION_VENDOR: VENDOR, wire.PROVISION_CLASS: CLASS, wire.PROVISION_ORIGINS: [ORIGIN]}
    put(UPDATE, {"provision": cbor.encode(table), "trust": trusted or trust_payload()})
    job.write("order", [sequence, order, URL, [], 60000000])
    Chain.create(Store(board.nvs), EUI, bytes(32), 60000000)
    unmount(ROOT)
    return board


def use(board):
    job.FOLDER, job.SLOTS = UPDATE, SLOTS
    fetch.Source = Server


# What the node would have told of an update, and does no more afterwards.
def tell():
    steps = job.read("reports") or []
    job.remove("reports")
    return [tuple(step) for step in steps if type(step) is list]


# One start of the board, up to the reset or until the node would run: (sequence that runs, what the node would report).
# On trial the node finds itself healthy; `dies`: it does not live to.
def start(board, machine=None, dies=False):
    machine = machine or Machine()
    board.mount(ROOT)
    sealboot.index, sealboot.sequence, sealboot.digest, sealboot.trial = 255, 0, b"", False
    sealboot.outcome = (0, 0)
    try:
        if slots.choose(machine, ROOT) is None:
            return None, []
        try:
            files = os.listdir(UPDATE)
            if sealboot.trial and "healthy" not in files:
                if not dies:
                    job.write("healthy", 1)
            elif sealboot.trial or sealboot.outcome[0] or "order" in files or "job" in files:
                duty.run(machine)
        except Reset:
            pass
        return sealboot.sequence, tell()
    finally:
        unmount(ROOT)


# Whether anything is left to be done.
def waits(board):
    board.mount(ROOT)
    try:
        files = os.listdir(UPDATE)
        return "order" in files or "job" in files or record.load(SLOTS).trial != record.NONE
    finally:
        unmount(ROOT)


# Starts until nothing is left to be done: what was reported on the way.
def play(board, starts=8, machine=None, dies=False):
    reports = []
    for _ in range(starts):
        reports += start(board, machine, dies)[1]
        if not waits(board):
            break
    return reports


# What must hold whatever happened: chain, queue and trust list are there, what the record names is whole and signed.
def intact(board, queue=QUEUE):
    from device.slots import contents

    from sealboot import image

    Chain.load(Store(board.nvs))
    board.mount(ROOT)
    try:
        assert contents(OUTBOX) == queue, "the queue"
        assert trust.load(UPDATE + "/trust").version in (1, 2), "the trust list"
        held = record.load(SLOTS)
        assert held is not None and held.active in (0, 1), "the record"
        for index in (0, 1):
            if held.slots[index] != record.EMPTY:
                assert held.slots[index][1] in (digest(OLD), digest(NEW)), "not signed"
                found = image.digest(record.slot_path(index, SLOTS))
                assert found == held.slots[index][1], "slot %d is not whole" % index
        return held
    finally:
        unmount(ROOT)
