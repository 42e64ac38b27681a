# The trust list: which keys may sign releases, how many of them must, and who may say so in the next list. Pure but for
# `load`; taking a list over (one write_file) is the updater's.
#
# A list follows another if, in this order:
#   1 its file is short enough, deterministic CBOR and of the list's shape            TRUST_MALFORMED
#   2 it can hold: numbers in their range, thresholds that can be reached, keys that are points on the curve, none of
#     them twice                                                                      TRUST_MALFORMED
#   3 its version is the one that follows: no list is taken back, none is stepped over TRUST_VERSION
#   4 it has not expired, where the time is given                                     TRUST_EXPIRED
#   5 enough root keys of the list before and enough of its own signed it             TRUST_SIGNATURES
# Only the last is costly. An expired list may be followed by the next: otherwise nothing could ever be.
from hashlib import sha256

from micropython import const

from sealband.crypto.cbor import CborError, decode, encode
from sealband.update.refused import UpdateRefused
from sealwire import manifest as wire
from sealwire import update as codes

_ITEMS_MAX = const(192)
_DEPTH_MAX = const(5)

_LABELS = (
    wire.LIST_VERSION,
    wire.LIST_THRESHOLD,
    wire.LIST_RELEASE_KEYS,
    wire.LIST_ROOT_THRESHOLD,
    wire.LIST_ROOT_KEYS,
    wire.LIST_EXPIRES,
)


class Trust:
    def __init__(self, version, threshold, release_keys, root_threshold, root_keys, expires):
        self.version = version
        self.threshold = threshold
        self.release_keys = release_keys  # 64 bytes each, x and y
        self.root_threshold = root_threshold
        self.root_keys = root_keys
        self.expires = expires  # seconds since 2025 from when on nothing is accepted by this list, or None

    def expired(self, now_s):
        return self.expires is not None and now_s >= self.expires


# The list that holds, from the file that was taken over; OSError if there is none.
def load(path):
    with open(path, "rb") as file:
        return parse(file.read(codes.TRUST_MAX + 1))


# The list that a payload says, whoever signed it.
def parse(payload):
    fields = _decode(payload)
    if not isinstance(fields, dict):
        raise UpdateRefused(codes.TRUST_MALFORMED)
    for label in fields:
        if label not in _LABELS:
            raise UpdateRefused(codes.TRUST_MALFORMED)
    if len(fields) - (wire.LIST_EXPIRES in fields) != len(_LABELS) - 1:
        raise UpdateRefused(codes.TRUST_MALFORMED)
    release_keys = _keys(fields[wire.LIST_RELEASE_KEYS])
    root_keys = _keys(fields[wire.LIST_ROOT_KEYS])
    return Trust(
        _number(fields[wire.LIST_VERSION], 1, wire.NUMBER_MAX),
        _number(fields[wire.LIST_THRESHOLD], 1, len(release_keys)),
        release_keys,
        _number(fields[wire.LIST_ROOT_THRESHOLD], 1, len(root_keys)),
        root_keys,
        _number(fields[wire.LIST_EXPIRES], 0, wire.NUMBER_MAX) if wire.LIST_EXPIRES in fields else None,
    )


# The payload of the list that may take this one's place: what is to be kept.
def rotate(trust, signed, now_s=None):
    parts = _decode(signed)
    if not isinstance(parts, list) or len(parts) != 2:
        raise UpdateRefused(codes.TRUST_MALFORMED)
    payload, items = parts
    if not isinstance(payload, bytes) or not isinstance(items, list) or len(items) > codes.SIGNATURES_MAX:
        raise UpdateRefused(codes.TRUST_MALFORMED)
    after = parse(payload)
    from sealband.crypto import cose

    signatures = []
    for item in items:
        try:
            # as it stood there: what is read has one encoding
            signatures.append(cose.parse1(encode(item)))
        except cose.CoseError:
            raise UpdateRefused(codes.TRUST_MALFORMED)
        if not well_named(signatures[-1]):
            raise UpdateRefused(codes.TRUST_MALFORMED)
    if after.version != trust.version + 1:
        raise UpdateRefused(codes.TRUST_VERSION)
    if now_s is not None and after.expired(now_s):
        raise UpdateRefused(codes.TRUST_EXPIRED)
    groups = ((trust.root_threshold, trust.root_keys), (after.root_threshold, after.root_keys))
    if not enough(signatures, payload, groups):
        raise UpdateRefused(codes.TRUST_SIGNATURES)
    return payload


# Whether a signature is detached and names its key.
def well_named(signature):
    return signature.payload is None and signature.kid is not None and len(signature.kid) == wire.KID_LEN


# Whether in each group (threshold, keys) enough different keys signed the payload. A key counts once, however often it
# signed: (r, s) and (r, n - s) are two signatures of one key. One that does not verify, or of a key that is in no
# group, counts for nothing. Ends as soon as it is enough.
def enough(signatures, payload, groups):
    missing = [threshold for threshold, _ in groups]
    found = []
    for signature in signatures:
        key = _signer(signature, payload, groups, found)
        if key is None:
            continue
        found.append(key)
        for i in range(len(groups)):
            if key in groups[i][1]:
                missing[i] -= 1
        if max(missing) <= 0:
            return True
    return False


# The key that made this signature, of those that have not been found yet, or None.
def _signer(signature, payload, groups, found):
    tried = []
    for _, keys in groups:
        for key in keys:
            if key in found or key in tried:
                continue
            public = b"\x04" + key
            if sha256(public).digest()[: wire.KID_LEN] != signature.kid:
                continue
            if signature.verify(public, payload):
                return key
            tried.append(key)
    return None


def _decode(data):
    if len(data) > codes.TRUST_MAX:
        raise UpdateRefused(codes.TRUST_MALFORMED)
    try:
        return decode(data, _DEPTH_MAX, _ITEMS_MAX)
    except CborError:
        raise UpdateRefused(codes.TRUST_MALFORMED)


# true is 1 to Python and something else to CBOR
def _number(value, least, most):
    if type(value) is not int or not least <= value <= most:
        raise UpdateRefused(codes.TRUST_MALFORMED)
    return value


# Keys by their x: a point and its opposite (x, p - y) are one secret, which must not count twice.
def _keys(keys):
    if not isinstance(keys, list) or not 1 <= len(keys) <= codes.TRUST_KEYS_MAX:
        raise UpdateRefused(codes.TRUST_MALFORMED)
    from sealband.crypto import p256

    seen = []
    for key in keys:
        if not isinstance(key, bytes) or len(key) != wire.KEY_LEN or key[:32] in seen:
            raise UpdateRefused(codes.TRUST_MALFORMED)
        seen.append(key[:32])
        try:
            p256.point(b"\x04" + key)
        except p256.P256Error:
            raise UpdateRefused(codes.TRUST_MALFORMED)
    return keys
