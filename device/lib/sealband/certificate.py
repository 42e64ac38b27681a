# The device's TLS key, the request for its certificate (PKCS#10, RFC 2986) and the certificate beside it. DER is
# written and read here as far as that needs (X.690, RFC 5280, RFC 5480); whom a certificate convinces, others decide.
# A key of its own: the private key of the identity is destroyed at enrolment. Used by enrol.console only.
#
# TLS, one A/B record: version (1), private key (32), certificate or none. The key is on flash and read back before
# anything made with it is handed out; it never changes.
import os
from hashlib import sha256

from micropython import const

from sealband import enrol, store
from sealband.crypto import p256
from sealwire.enrolment import CERTIFICATE_MAX

_VERSION = const(1)
_KEY_LEN = const(32)
_INTEGER = const(0x02)
_BITS = const(0x03)
_UTF8 = const(0x0C)
_SEQUENCE = const(0x30)
_SET = const(0x31)
_CONTEXT_0 = const(0xA0)
_COMMON_NAME = b"\x06\x03\x55\x04\x03"  # 2.5.4.3
_ECDSA_SHA256 = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"  # 1.2.840.10045.4.3.2
# SubjectPublicKeyInfo of P-256 (id-ecPublicKey, prime256v1) up to the point
_P256_KEY = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00"


# The signed request; the same bytes whenever it is asked for, up to the signature's.
def request(where, random=os.urandom):
    eui = _eui(where)
    private = _load(where)[0]
    if private is None:
        private = enrol.draw(random, eui, b"tls")[0]
        where.save(store.TLS, bytes((_VERSION,)) + private)
    name = _tlv(_SEQUENCE, _COMMON_NAME + _tlv(_UTF8, eui.hex().encode()))
    key = _P256_KEY + p256.public_key(private)
    body = _tlv(_INTEGER, b"\x00") + _tlv(_SEQUENCE, _tlv(_SET, name)) + key + _tlv(_CONTEXT_0, b"")
    body = _tlv(_SEQUENCE, body)
    signature = p256.sign(private, sha256(body).digest())
    signature = _tlv(_SEQUENCE, _number(signature[:32]) + _number(signature[32:]))
    return _tlv(_SEQUENCE, body + _ECDSA_SHA256 + _tlv(_BITS, b"\x00" + signature))


# Store the certificate of this board's key beside it, in place of any before; its SHA-256.
def keep(where, der):
    private = _load(where)[0]
    if private is None:
        raise enrol.EnrolError(enrol.NOT_ENROLLED, "no request was made")
    if len(der) > CERTIFICATE_MAX:
        raise enrol.EnrolError(enrol.BAD_VALUE, "%d bytes; there is room for %d" % (len(der), CERTIFICATE_MAX))
    if certified_key(der) != _P256_KEY + p256.public_key(private):
        raise enrol.EnrolError(enrol.OTHER_KEY, "the certificate is for another key")
    data = bytes((_VERSION,)) + private + der
    if where.load(store.TLS) != data:
        where.save(store.TLS, data)
    return sha256(der).digest()


# (private key, certificate or b""), or (None, b"")
def _load(where):
    data = where.load(store.TLS)
    if data is None:
        return None, b""
    if data[0] != _VERSION:
        raise enrol.EnrolError(enrol.DAMAGED, "TLS key of version %d" % data[0])
    return data[1 : 1 + _KEY_LEN], data[1 + _KEY_LEN :]


def _eui(where):
    chain = where.load(store.CHAIN)
    if chain is None or where.load(store.IDENTITY) is None:
        raise enrol.EnrolError(enrol.NOT_ENROLLED, "there is no identity")
    return chain[1:9]


# --- DER


def _tlv(tag, value):
    length = len(value)
    if length < 0x80:
        return bytes((tag, length)) + value
    if length < 0x100:
        return bytes((tag, 0x81, length)) + value
    return bytes((tag, 0x82, length >> 8, length & 0xFF)) + value


# 32 bytes as the INTEGER that they are, in its shortest form.
def _number(data):
    data = data.lstrip(b"\x00")
    return _tlv(_INTEGER, b"\x00" + data if data[0] & 0x80 else data)


# The SubjectPublicKeyInfo of a certificate (RFC 5280, section 4.1), whose outer structure is held against its grammar.
def certified_key(der):
    at, end = _enter(der, 0, len(der), _SEQUENCE)
    if end != len(der):
        raise _malformed()
    at, body_end = _enter(der, at, end, _SEQUENCE)
    if at < body_end and der[at] == _CONTEXT_0:
        at = _enter(der, at, body_end, _CONTEXT_0)[1]  # version
    # serial number, algorithm, issuer, validity, subject
    for tag in (_INTEGER, _SEQUENCE, _SEQUENCE, _SEQUENCE, _SEQUENCE):
        at = _enter(der, at, body_end, tag)[1]
    start = at
    at = _enter(der, at, body_end, _SEQUENCE)[1]
    key = der[start:at]
    # identifiers and extensions
    while at < body_end:
        at = _enter(der, at, body_end, None)[1]
    at = _enter(der, body_end, end, _SEQUENCE)[1]
    if _enter(der, at, end, _BITS)[1] != end:
        raise _malformed()
    return key


# Begin and end of the value that begins here, which must have this tag and the shortest length.
def _enter(der, at, end, tag):
    if end - at < 2 or (tag is not None and der[at] != tag):
        raise _malformed()
    length = der[at + 1]
    at += 2
    if length >= 0x80:
        count = length & 0x7F
        if not 1 <= count <= 2 or end - at < count:
            raise _malformed()
        length = int.from_bytes(der[at : at + count], "big")
        if length < (0x80, 0x100)[count - 1]:
            raise _malformed()
        at += count
    if length > end - at:
        raise _malformed()
    return at, at + length


def _malformed():
    return enrol.EnrolError(enrol.BAD_VALUE, "no certificate in DER")
