# The manifest of an update: whether this device may take it. Pure: nothing is read, written or remembered, and whatever
# comes in, the answer is a Manifest or UpdateRefused(code). The bytes are those of sealwire/README.md, "Update".
#
# In this order, the cheap before the costly, and all of it before anything is written:
#   1 not longer than ENVELOPE_MAX                                                    TOO_LONG
#   2 envelope and authentication block: deterministic CBOR, of the subset's shape    MALFORMED, UNSUPPORTED
#   3 each signature: COSE_Sign1, ECDSA on P-256, no header that could mean more      UNSUPPORTED
#   4 the digest that is signed is that of this manifest                              MANIFEST_DIGEST
#   5 the manifest says exactly what the subset can say                               MALFORMED, UNSUPPORTED
#   6 it is for this device: component, vendor, class                                 WRONG_COMPONENT, _VENDOR, _CLASS
#   7 it is newer than the highest confirmed one                                      OLD_SEQUENCE
#   8 its image fits the slot                                                         TOO_LARGE
#   9 each signature is detached and names its key                                    UNSUPPORTED
#  10 enough different release keys of the trust list signed it; stops there          TOO_FEW_SIGNATURES
# What 1 to 9 refuse costs no point multiplication; 10 costs at most SIGNATURES_MAX of them. MALFORMED is what is not of
# the type that SUIT says; UNSUPPORTED is SUIT, or could be, beyond the subset: fields missing or more, other numbers,
# other commands. Nothing is skipped. Whether it is the manifest that was ordered, and whether the trust list expired,
# the updater asks; the image's digest is compared after it was written and read back.
from hashlib import sha256
from struct import pack

from micropython import const

from sealband.crypto.cbor import CborError, Tag, decode, encode
from sealband.update.refused import UpdateRefused
from sealband.update.trust import enough, well_named
from sealwire import manifest as wire
from sealwire import update as codes

_VERSION = const(1)
_ITEMS_MAX = const(32)
_DEPTH_MAX = const(4)


class Identity:
    # What this device is: UUIDs; and by component the sequence to be above of, and the bytes there is room for.
    def __init__(self, vendor, class_id, floors, limits):
        self.vendor = vendor
        self.class_id = class_id
        self.floors = floors
        self.limits = limits


class Manifest:
    def __init__(self, component, sequence, digest, size, uri, manifest_digest):
        self.component = component
        self.sequence = sequence
        self.digest = digest  # of the image
        self.size = size  # of the image
        self.uri = uri  # of the full image, relative to the manifest's
        self.manifest_digest = manifest_digest  # what is signed, and what the order names


# The update that this device may install.
def verify(envelope, trust, identity):
    digest, data, signatures = authenticate(envelope)
    vendor, class_id, manifest = _read(data, digest)
    component = manifest.component
    if component not in identity.floors or component not in identity.limits:
        raise UpdateRefused(codes.WRONG_COMPONENT)
    if vendor != identity.vendor:
        raise UpdateRefused(codes.WRONG_VENDOR)
    if class_id != identity.class_id:
        raise UpdateRefused(codes.WRONG_CLASS)
    if manifest.sequence <= identity.floors[component]:
        raise UpdateRefused(codes.OLD_SEQUENCE)
    if manifest.size > identity.limits[component]:
        raise UpdateRefused(codes.TOO_LARGE)
    for signature in signatures:
        if not well_named(signature):
            raise UpdateRefused(codes.UNSUPPORTED)
    if not enough(signatures, payload(digest), ((trust.threshold, trust.release_keys),)):
        raise UpdateRefused(codes.TOO_FEW_SIGNATURES)
    return manifest


# Steps 1 to 4: the manifest's digest, its bytes, and the signatures over that digest, read but not verified. With
# `severed`, elements that were taken out of the manifest may lie beside it, unread.
def authenticate(envelope, severed=False):
    if len(envelope) > codes.ENVELOPE_MAX:
        raise UpdateRefused(codes.TOO_LONG)
    tagged = _typed(_decode(envelope), Tag)
    if tagged.number != wire.TAG_ENVELOPE:
        raise UpdateRefused(codes.UNSUPPORTED)
    fields = _typed(tagged.value, dict)
    if not severed:
        _only(fields, (wire.AUTHENTICATION, wire.MANIFEST))
    elif wire.AUTHENTICATION not in fields or wire.MANIFEST not in fields:
        raise UpdateRefused(codes.UNSUPPORTED)
    block = _inner(fields[wire.AUTHENTICATION], list)
    manifest = _typed(fields[wire.MANIFEST], bytes)
    if not block:
        raise UpdateRefused(codes.MALFORMED)
    if len(block) > 1 + codes.SIGNATURES_MAX:
        raise UpdateRefused(codes.UNSUPPORTED)
    digest = _digest(_inner(block[0], list))
    from sealband.crypto import cose  # not held on to: it is large, and what follows needs the room

    signatures = []
    for i in range(1, len(block)):
        try:
            signatures.append(cose.parse1(_typed(block[i], bytes)))
        except cose.CoseError:
            raise UpdateRefused(codes.UNSUPPORTED)
    # over the manifest with its byte string's head
    actual = sha256(_head(len(manifest)))
    actual.update(manifest)
    if actual.digest() != digest:
        raise UpdateRefused(codes.MANIFEST_DIGEST)
    return digest, manifest, signatures


# What the signatures are over: the encoded SUIT_Digest, which is what the authentication block begins with.
def payload(digest):
    return encode([wire.ALG_SHA256, digest])


# Vendor, class and the rest of what a manifest says; step 5.
def _read(data, manifest_digest):
    fields = _typed(_decode(data), dict)
    _only(fields, (wire.VERSION, wire.SEQUENCE, wire.COMMON, wire.VALIDATE, wire.INSTALL), wire.TEXT)
    if _number(fields[wire.VERSION]) != _VERSION:
        raise UpdateRefused(codes.UNSUPPORTED)
    sequence = _number(fields[wire.SEQUENCE])
    common = _inner(fields[wire.COMMON], dict)
    _only(common, (wire.COMPONENTS, wire.SHARED_SEQUENCE))
    component = _component(common[wire.COMPONENTS])
    shared = _parameters(
        _inner(common[wire.SHARED_SEQUENCE], list),
        (wire.CONDITION_VENDOR, wire.CONDITION_CLASS),
        (wire.PARAM_VENDOR, wire.PARAM_CLASS, wire.PARAM_DIGEST, wire.PARAM_SIZE),
    )
    install = _parameters(
        _inner(fields[wire.INSTALL], list), (wire.FETCH, wire.CONDITION_IMAGE_MATCH), (wire.PARAM_URI,)
    )
    _commands(_inner(fields[wire.VALIDATE], list), (wire.CONDITION_IMAGE_MATCH,))
    if wire.TEXT in fields:
        _text(fields[wire.TEXT])
    manifest = Manifest(
        component,
        sequence,
        _digest(_inner(shared[wire.PARAM_DIGEST], list)),
        _number(shared[wire.PARAM_SIZE]),
        _uri(install[wire.PARAM_URI]),
        manifest_digest,
    )
    return _uuid(shared[wire.PARAM_VENDOR]), _uuid(shared[wire.PARAM_CLASS]), manifest


def _component(components):
    if len(_typed(components, list)) != 1:
        raise UpdateRefused(codes.UNSUPPORTED)
    name = _typed(components[0], list)
    if len(name) != 1:
        raise UpdateRefused(codes.UNSUPPORTED)
    return _typed(name[0], bytes)


# The parameters that a sequence begins with: [20, {labels}, command, 15, command, 15].
def _parameters(sequence, commands, labels):
    if len(sequence) < 2 or _int(sequence[0]) != wire.OVERRIDE_PARAMETERS:
        raise UpdateRefused(codes.UNSUPPORTED)
    parameters = _typed(sequence[1], dict)
    _only(parameters, labels)
    _commands(sequence[2:], commands)
    return parameters


# These commands and no others, each reporting everything.
def _commands(sequence, commands):
    if len(sequence) != 2 * len(commands):
        raise UpdateRefused(codes.UNSUPPORTED)
    for i in range(len(commands)):
        if _int(sequence[2 * i]) != commands[i] or _int(sequence[2 * i + 1]) != wire.REPORT_ALL:
            raise UpdateRefused(codes.UNSUPPORTED)


# For people: there, or taken out and its digest left. The device reads neither.
def _text(text):
    if isinstance(text, list):
        _digest(text)
    else:
        _typed(text, bytes)


def _digest(parts):
    if len(parts) != 2:
        raise UpdateRefused(codes.MALFORMED)
    if _int(parts[0]) != wire.ALG_SHA256:
        raise UpdateRefused(codes.UNSUPPORTED)
    if len(_typed(parts[1], bytes)) != wire.DIGEST_LEN:
        raise UpdateRefused(codes.MALFORMED)
    return parts[1]


def _uuid(value):
    if len(_typed(value, bytes)) != wire.UUID_LEN:
        raise UpdateRefused(codes.MALFORMED)
    return value


# Where it may lead, the updater asks; here, that it is short and has no byte that an HTTP request must not hold.
def _uri(value):
    if not 1 <= len(_typed(value, str)) <= codes.URL_MAX:
        raise UpdateRefused(codes.UNSUPPORTED)
    for character in value:
        if not "!" <= character <= "~":
            raise UpdateRefused(codes.UNSUPPORTED)
    return value


# These fields, all of them, at most one other.
def _only(fields, labels, optional=None):
    for label in labels:
        if label not in fields:
            raise UpdateRefused(codes.UNSUPPORTED)
    if len(fields) != len(labels) + (optional in fields):
        raise UpdateRefused(codes.UNSUPPORTED)


def _number(value):
    if not 1 <= _int(value) <= wire.NUMBER_MAX:
        raise UpdateRefused(codes.UNSUPPORTED)
    return value


# true is 1 to Python and something else to CBOR
def _int(value):
    if type(value) is not int:
        raise UpdateRefused(codes.MALFORMED)
    return value


def _typed(value, kind):
    if not isinstance(value, kind):
        raise UpdateRefused(codes.MALFORMED)
    return value


# What is wrapped in a byte string.
def _inner(data, kind):
    return _typed(_decode(_typed(data, bytes)), kind)


def _decode(data):
    try:
        return decode(data, _DEPTH_MAX, _ITEMS_MAX)
    except CborError:
        raise UpdateRefused(codes.MALFORMED)


# A byte string's head (RFC 8949 section 3), of at most ENVELOPE_MAX bytes.
def _head(length):
    if length < 24:
        return bytes((0x40 | length,))
    return pack(">BB", 0x58, length) if length < 256 else pack(">BH", 0x59, length)
