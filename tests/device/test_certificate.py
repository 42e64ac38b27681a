# The device's TLS key: made once, certified, and nothing stored for another key or that is no certificate.
import hashlib
import os
import sys

from device.fakes import FakeNetwork, World

from sealband import certificate, enrol, store
from sealband.chain import Chain
from sealband.crypto import p256
from sealwire.enrolment import CERTIFICATE_MAX

sys.modules["network"] = FakeNetwork

HEAP = "128wK"

EUI = b"\x70\xb3\xd5\xff\xfe\x00\x12\x34"
MISSING = object()


# A board with an identity; the record itself is of no matter here.
def enrolled():
    world = World()
    where = store.Store(world.nvs)
    Chain.create(where, EUI, bytes(32), 0)
    where.save(store.IDENTITY, b"\x01\x00record")
    return world, where


def private_key(where):
    return where.load(store.TLS)[1:33]


# What a certificate is made of, with this SubjectPublicKeyInfo; as much padding in an extension.
def made(key, padding=0, serial=b"\x02\x01\x05", version=b"\xa0\x03\x02\x01\x02", tail=b""):
    tlv = certificate._tlv
    names = tlv(0x30, b"") + tlv(0x30, b"") + tlv(0x30, b"") + tlv(0x30, b"")
    more = tlv(0xA3, tlv(0x30, bytes(padding))) if padding else b""
    body = tlv(0x30, version + serial + names + key + more)
    return tlv(0x30, body + certificate._ECDSA_SHA256 + tlv(0x03, b"\x00signature") + tail)


def own(where, **settings):
    return made(certificate._P256_KEY + p256.public_key(private_key(where)), **settings)


def refused(code, function, *arguments):
    try:
        function(*arguments)
    except enrol.EnrolError as error:
        assert error.code == code, (error.code, error)
        return str(error)
    raise AssertionError("not refused")


def test_board_without_an_identity_makes_no_request():
    world = World()
    where = store.Store(world.nvs)
    refused(enrol.NOT_ENROLLED, certificate.request, where)
    refused(enrol.NOT_ENROLLED, certificate.keep, where, b"\x30\x00")
    assert world.nvs.dump() == {}


def test_same_key_whenever_it_is_asked():
    _, where = enrolled()
    first = certificate.request(where)
    key = private_key(where)
    assert certificate.request(where) == first and private_key(where) == key
    certificate.keep(where, own(where))
    assert certificate.request(where) == first and private_key(where) == key


def test_generator_that_fails_its_test_gives_no_key():
    world, where = enrolled()
    before = world.nvs.dump()
    refused(enrol.RANDOM, certificate.request, where, lambda n: bytes(n))
    assert world.nvs.dump() == before


def test_two_boards_have_different_keys():
    keys = []
    for _ in range(2):
        _, where = enrolled()
        certificate.request(where)
        keys.append(private_key(where))
    assert keys[0] != keys[1]


def test_certificate_lies_beside_its_key_and_may_be_renewed():
    _, where = enrolled()
    certificate.request(where)
    for serial in (b"\x02\x01\x05", b"\x02\x02\x01\x00"):
        der = own(where, serial=serial, padding=300)
        for _ in range(2):
            assert certificate.keep(where, der) == hashlib.sha256(der).digest()
        assert where.load(store.TLS)[33:] == der


def test_certificate_for_another_key_is_refused():
    _, where = enrolled()
    certificate.request(where)
    before = where.load(store.TLS)
    other = p256.public_key(bytes(31) + b"\x05")
    refused(enrol.OTHER_KEY, certificate.keep, where, made(certificate._P256_KEY + other))
    # the right point, called another curve's or another algorithm's
    point = p256.public_key(private_key(where))
    for at in (12, 20):
        info = bytearray(certificate._P256_KEY)
        info[at] ^= 1
        refused(enrol.OTHER_KEY, certificate.keep, where, made(bytes(info) + point))
    assert where.load(store.TLS) == before


def test_certificate_that_is_too_long_is_refused_with_the_limit():
    _, where = enrolled()
    certificate.request(where)
    padding = CERTIFICATE_MAX - len(own(where, padding=600)) + 600
    assert len(own(where, padding=padding)) == CERTIFICATE_MAX
    certificate.keep(where, own(where, padding=padding))
    assert str(CERTIFICATE_MAX) in refused(enrol.BAD_VALUE, certificate.keep, where, own(where, padding=padding + 1))


def test_malformed_certificates_are_refused():
    _, where = enrolled()
    certificate.request(where)
    good = own(where)
    certificate.keep(where, good)
    for length in range(len(good)):
        refused(enrol.BAD_VALUE, certificate.keep, where, good[:length])
    for bad in (
        good + b"\x00",
        b"\x31" + good[1:],
        own(where, tail=b"\x05\x00"),
        own(where, serial=b""),
        own(where, serial=b"\x04\x01\x05"),
        own(where, version=b"\xa1\x03\x02\x01\x02"),
        b"\x30\x80" + good[3:] + b"\x00\x00",  # indefinite length: BER
        b"\x30\x82\x00" + good[2:],  # a length in more bytes than it takes
        b"\x30\x83\x00\x00" + good[2:],
        b"\x30\x84\xff\xff\xff\xff" + good[3:],
    ):
        refused(enrol.BAD_VALUE, certificate.keep, where, bad)
    assert where.load(store.TLS)[33:] == good


def test_random_bytes_and_bit_flips_end_in_a_refusal_or_an_answer():
    _, where = enrolled()
    certificate.request(where)
    good = own(where, padding=40)
    for number in range(400):
        data = bytearray(good)
        data[number % len(data)] ^= 1 << os.urandom(1)[0] % 8
        for candidate in (bytes(data), os.urandom(number % 90)):
            try:
                certificate.certified_key(candidate)
            except enrol.EnrolError as error:
                assert error.code == enrol.BAD_VALUE
