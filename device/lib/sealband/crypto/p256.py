# The curve P-256 (SP 800-186 section 3.2.1.3): public keys, ECDH, ECDSA with the nonces of RFC 6979. Owns no key.
#
# What time tells: big numbers of MicroPython are not constant time. `verify` works on public values and does nothing
# about it. Where a secret goes in, the order of doublings and additions is the same for every secret, and what the
# numbers themselves could tell is made different each time: the scalar gets a random multiple of the group's order,
# the first point a random Z, the inversion in `sign` a random factor. What is read by index (the table) is chosen by
# the blinded scalar. Nothing here resists a probe at the chip's power supply.
#
# Signatures are plain ECDSA: with (r, s) also (r, n - s) is valid, so a signature must never serve as an identifier.
# A result that is not on the curve (a fault, be it a forced one) is never handed out.
from os import urandom

from micropython import const

from .hkdf import hmac_sha256

_P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_LEN = const(32)
_BUFFERS = (bytes, bytearray, memoryview)

# A table holds the odd multiples 1, 3, 5 … of a point, affine. Of the base point: 16; of another: 8.
_BASE_WIDTH = const(5)
_POINT_WIDTH = const(4)
_END = const(0xFE)  # the code that adds nothing: a walk ends at bit 0 without it or with it
# x, y of 1, 3 … 31 times the base point
_BASE = (
    b"\x6b\x17\xd1\xf2\xe1\x2c\x42\x47\xf8\xbc\xe6\xe5\x63\xa4\x40\xf2\x77\x03\x7d\x81\x2d\xeb\x33\xa0\xf4\xa1"
    b"\x39\x45\xd8\x98\xc2\x96\x4f\xe3\x42\xe2\xfe\x1a\x7f\x9b\x8e\xe7\xeb\x4a\x7c\x0f\x9e\x16\x2b\xce\x33\x57"
    b"\x6b\x31\x5e\xce\xcb\xb6\x40\x68\x37\xbf\x51\xf5\x5e\xcb\xe4\xd1\xa6\x33\x0a\x44\xc8\xf7\xef\x95\x1d\x4b"
    b"\xf1\x65\xe6\xc6\xb7\x21\xef\xad\xa9\x85\xfb\x41\x66\x1b\xc6\xe7\xfd\x6c\x87\x34\x64\x0c\x49\x98\xff\x7e"
    b"\x37\x4b\x06\xce\x1a\x64\xa2\xec\xd8\x2a\xb0\x36\x38\x4f\xb8\x3d\x9a\x79\xb1\x27\xa2\x7d\x50\x32\x51\x59"
    b"\x0b\x7a\x51\x51\x40\xd2\xd7\x84\xc8\x56\x08\x66\x8f\xdf\xef\x8c\x82\xfd\x1f\x5b\xe5\x24\x21\x55\x4a\x0d"
    b"\xc3\xd0\x33\xed\xe0\xc1\x7d\xa8\x90\x4a\x72\x7d\x8a\xe1\xbf\x36\xbf\x8a\x79\x26\x0d\x01\x2f\x00\xd4\xd8"
    b"\x08\x88\xd1\xd0\xbb\x44\xfd\xa1\x6d\xa4\x8e\x53\x3b\x6f\xa0\xbf\x7b\x46\x25\xbb\x30\x66\x7c\x01\xfb\x60"
    b"\x7e\xf9\xf8\xb8\xa8\x0f\xef\x5b\x30\x06\x28\x70\x31\x87\xb2\xa3\x73\xeb\x1d\xbd\xe0\x33\x18\x36\x6d\x06"
    b"\x9f\x83\xa6\xf5\x90\x00\x53\xc7\x36\x33\xcb\x04\x1b\x21\xc5\x5e\x1a\x86\xc1\xf4\x00\xb4\xea\x68\xd7\xb6"
    b"\xfe\xdf\x0b\x71\x87\x89\x38\xd5\x1d\x71\xf8\x72\x9e\x0a\xcb\x8c\x2c\x6d\xf8\xb3\xd7\x9e\x8a\x4b\x90\x94"
    b"\x9e\xe0\x2a\x27\x44\xc9\x72\xc9\xfc\xe7\x87\x01\x4a\x96\x4a\x8e\xa0\xc8\x4d\x71\x4f\xea\xa4\xde\x82\x3f"
    b"\xe8\x5a\x22\x4a\x4d\xd0\x48\xfa\x3e\xd1\x13\xb7\x88\x3b\x4c\x59\x06\x38\x37\x9d\xb0\xc2\x1c\xda\x16\x74"
    b"\x2e\xd0\x25\x50\x48\xbf\x43\x33\x91\xd3\x74\xbc\x21\xd1\x90\x99\x20\x9a\xcc\xc4\xc8\xa2\x24\xc8\x43\xaf"
    b"\xa4\xf4\xc6\x8a\x09\x0d\x04\xda\x5e\x98\x89\xda\xe2\xf8\xee\xfc\xe8\x2a\x37\x40\x17\x7c\x83\x7a\xe0\xac"
    b"\x49\x5a\x61\x80\x5d\xf2\xd8\x5e\xe2\xfc\x79\x2e\x28\x4b\x65\xea\xd5\x8a\x98\xe1\x5d\x9d\x46\x07\x2c\x01"
    b"\x63\xbb\x58\xcd\x4e\xbe\xa5\x58\xa2\x40\x91\xad\xb4\x0f\x4e\x72\x26\xee\x14\xc3\xa1\xfb\x4d\xf3\x9c\x43"
    b"\xbb\xe2\xef\xc7\xbf\xd8\xf0\x45\x4d\xc6\x97\x1a\xba\xe7\xad\xfb\x37\x89\x99\x88\x82\x65\xae\x03\xaf\x92"
    b"\xde\x3a\x0e\xf1\x63\x66\x8c\x63\xe5\x9b\x9d\x5f\xb5\xb9\x3e\xe3\x59\x2e\x2d\x1f\x4e\x65\x94\xe5\x1f\x96"
    b"\x43\xe6\x2a\x3b\x21\xce\x75\xb5\xfa\x3f\x47\xe5\x9c\xde\x0d\x03\x4f\x36\x47\x77\x69\x04\xc0\xf1\xcc\x3a"
    b"\x9c\x09\x84\xb6\x6f\x75\x30\x1a\x5f\xa6\x86\x78\xf0\xd6\x4a\xf8\xba\x1a\xbc\xe3\x47\x38\xa7\x3e\xaa\x00"
    b"\x5e\xe6\xb5\xb9\x57\x28\x62\x31\x85\x65\x77\x64\x8e\x83\x81\xb2\x80\x44\x28\xd5\x73\x3f\x32\xf7\x87\xff"
    b"\x71\xf1\xfc\xdc\xcb\x6d\x28\x61\x10\x2c\x0c\x25\xce\x39\xb7\xc1\x71\x08\xc5\x07\x78\x2c\x45\x22\x57\x88"
    b"\x48\x95\xc1\xfc\x7b\x74\xab\x03\xed\x83\x58\xd7\x61\x4b\x24\xd9\xef\x51\x5c\x35\xe7\x10\x0d\x6d\x6c\xe4"
    b"\xa4\x96\x71\x6e\x30\xfa\x3e\x03\xe3\x91\x50\x75\x2b\xce\xcd\xaa\x32\x50\xfc\xf6\x86\x63\x7c\x7b\x2e\x4a"
    b"\xc8\x6e\xb4\x73\xbc\xa5\x3a\x58\x21\x39\xf4\x2b\x15\x23\xfd\x76\x36\x4e\x67\x39\x9e\x83\x42\xe7\xc3\x42"
    b"\x66\x7d\x35\x93\x97\xb3\x09\x0d\x1d\x7e\xb8\x8c\x89\x7c\xd3\xc3\x3b\x56\x6a\x82\x15\xde\x24\xa0\x71\xd4"
    b"\x8c\x09\x0e\x91\xc7\x23\x9c\x26\x40\xd7\xd2\x8a\x3e\x39\xd4\x58\x3f\xa6\x3c\x0b\xc0\xa5\xdf\x64\xa4\xfe"
    b"\x67\x2e\x57\x30\x45\xca\x78\x96\x5d\xf6\x5c\x3b\x55\x0d\xba\x22\x1a\x22\x73\x3b\xb8\xe0\xbd\x6d\x7e\x68"
    b"\x83\x35\x75\xe7\xa5\xae\x13\x80\x46\x54\x31\x40\xad\x55\x3a\x67\xe2\x55\x4b\x0c\x0b\xb6\x85\xf4\xf5\x2d"
    b"\x8c\x07\xfa\x84\x41\x65\x2f\xc5\xb7\x6f\x1b\x24\x84\xa4\xdc\x45\xf2\x00\xd6\x87\x27\xd0\xf1\x87\x2f\x1f"
    b"\xcf\x43\x26\xda\xf2\x67\x16\x3a\xfb\x0d\x8c\x18\x8a\xf7\x35\xa7\x61\x8a\xa9\xed\x16\xb3\x02\xf7\x93\x24"
    b"\x18\x4f\xfa\x58\x19\xd8\x0d\x51\xde\xba\x2f\xac\x46\x11\xf3\x78\x57\x63\x55\xbd\x68\x3e\x54\xab\xf2\xe2"
    b"\x01\x17\x3b\x08\x83\xd1\xc0\xa6\x6e\x27\x66\x88\xf3\x59\xa4\xc6\xd9\x08\x26\xcb\x99\x95\x45\xbd\xec\xcc"
    b"\x63\xf0\x49\x16\x20\xd2\x42\xc2\x60\x90\x6e\x6f\xd6\xd3\x3a\xde\xfa\x19\x5b\x07\xa7\xc3\x6d\xa0\x90\x85"
    b"\x3b\x8c\xfd\x8c\xd1\xc6\x88\xb5\x8a\x41\xde\xdd\x69\x3d\x1c\x78\x4d\xef\x84\xaa\xba\x16\xee\x19\x5d\x7e"
    b"\x3f\x78\x24\x5f\x55\x8a\x5d\xcb\x09\xa1\x66\xab\x4b\x95\xed\xed\x55\x0c\x12\x45\x93\xd1\xbc\xa6\x30\x1d"
    b"\x9e\x50\x2d\xc7\xe0\x5d\xa8\x5d\xa0\x26\xa7\xae\x9a\xa0\xfa\xc9\xdb\x7d\x52\xa9\x5b\x3e\x3e\x3f\x9a\xa0"
    b"\xa1\xb4\x5b\x8b\x65\x51\xb6\xf6\xb3\x06\x12\x23\xe0\xd2\x3c\x02\x6b\x01\x7d\x72\x29\x8d\x9a\xe4\x68\x87"
    b"\xca\x61\xd5\x8d\xb6\xae\xa1\x7e\xe2\x67"
)


class P256Error(Exception):
    pass


# the public key 04, x, y of a private one (a number from 1 to n - 1)
def public_key(private):
    x, y = _multiply(_scalar(private), _base_table(), _BASE_WIDTH)
    return b"\x04" + x.to_bytes(_LEN, "big") + y.to_bytes(_LEN, "big")


# the x coordinate of the shared point, 32 bytes: to be put through HKDF, never to be used as a key
def ecdh(private, public):
    k = _scalar(private)
    x, y = _point(public)
    x, y = _multiply(k, _odd_multiples(x, y), _POINT_WIDTH)
    return x.to_bytes(_LEN, "big")


# r, s (64 bytes) over a SHA-256 digest
def sign(private, digest):
    d = _scalar(private)
    e = int.from_bytes(_exactly(digest, _LEN, "digest"), "big") % _N
    for k in _nonces(private, e):
        r = _multiply(k, _base_table(), _BASE_WIDTH)[0] % _N
        # (e + r d) / k, above and below times a random b: the inversion sees b k, the product with d sees b r
        b = 1 + int.from_bytes(urandom(24), "big")
        s = _inverse(b * k % _N, _N) * ((b * e + b * r % _N * d) % _N) % _N
        if r and s:
            return r.to_bytes(_LEN, "big") + s.to_bytes(_LEN, "big")


# whether the signature holds; False, too, for a public key or signature that is none
def verify(public, digest, signature):
    digest = _exactly(digest, _LEN, "digest")
    if not isinstance(public, _BUFFERS) or not isinstance(signature, _BUFFERS):
        raise P256Error("public key or signature is not bytes")
    signature = bytes(signature)
    if len(signature) != 2 * _LEN:
        return False
    r = int.from_bytes(signature[:_LEN], "big")
    s = int.from_bytes(signature[_LEN:], "big")
    if not (0 < r < _N and 0 < s < _N):
        return False
    try:
        x, y = _point(public)
    except P256Error:
        return False
    s = _inverse(s, _N)
    codes = _sparse(int.from_bytes(digest, "big") * s % _N, _BASE_WIDTH, 0)
    codes.extend(_sparse(r * s % _N, _POINT_WIDTH, 1 << _BASE_WIDTH))
    codes.sort(reverse=True)
    codes.append(_END)
    table = _base_table()
    table.extend(_odd_multiples(x, y))
    x, y, z = _walk(codes, table, 0, 1, 0, codes[0] >> 8)
    if not z:
        return False
    # x / z^2 mod n = r, without an inversion: r is x / z^2, or n less than that if it was over n
    z = z * z % _P
    return r * z % _P == x or (r + _N < _P and (r + _N) * z % _P == x)


def _exactly(data, size, name):
    if not isinstance(data, _BUFFERS):
        raise P256Error("%s is not bytes" % name)
    data = bytes(data)
    if len(data) != size:
        raise P256Error("%s is not %d bytes" % (name, size))
    return data


def _scalar(private):
    k = int.from_bytes(_exactly(private, _LEN, "private key"), "big")
    if not 0 < k < _N:
        raise P256Error("private key is not from 1 to n - 1")
    return k


# the curve has prime order, so every point on it but infinity, which has no such encoding, will do
def _point(public):
    public = _exactly(public, 2 * _LEN + 1, "public key")
    if public[0] != 4:
        raise P256Error("public key is not an uncompressed point")
    x = int.from_bytes(public[1 : 1 + _LEN], "big")
    y = int.from_bytes(public[1 + _LEN :], "big")
    if x >= _P or y >= _P or not _on_curve(x, y):
        raise P256Error("public key is not on the curve")
    return x, y


def _on_curve(x, y):
    return (y * y - (x * x - 3) * x - _B) % _P == 0


# Extended Euclid, since pow(a, -1, m) answers 0 on MicroPython. a is not 0 mod m, m is prime.
def _inverse(a, m):
    b = m
    x = 1
    y = 0
    while a:
        q = b // a
        b, a = a, b - q * a
        y, x = x, y - q * x
    return y % m


# RFC 6979 section 3.2 with HMAC-SHA256; e is the digest mod n
def _nonces(private, e):
    seed = bytes(private) + e.to_bytes(_LEN, "big")
    v = b"\x01" * _LEN
    k = hmac_sha256(bytes(_LEN), v + b"\x00" + seed)
    v = hmac_sha256(k, v)
    k = hmac_sha256(k, v + b"\x01" + seed)
    v = hmac_sha256(k, v)
    while True:
        v = hmac_sha256(k, v)
        nonce = int.from_bytes(v, "big")
        if 0 < nonce < _N:
            yield nonce
        k = hmac_sha256(k, v + b"\x00")
        v = hmac_sha256(k, v)


def _base_table():
    table = []
    for i in range(0, len(_BASE), 2 * _LEN):
        x = int.from_bytes(_BASE[i : i + _LEN], "big")
        table.append((x, int.from_bytes(_BASE[i + _LEN : i + 2 * _LEN], "big")))
    return table


# 1, 3, 5 … 15 times the point, affine. Twice the point is added again and again, always with the same Z as the sum
# (co-Z addition, Meloni 2007), so that one inversion at the end does for all.
def _odd_multiples(x, y):
    p = _P
    m = 3 * (x - 1) * (x + 1) % p
    z = y + y
    g = z * y % p
    x1 = (x * g << 1) % p
    y1 = (g * g << 1) % p
    # dx, dy: twice the point; x1, y1: the point itself; both over z
    dx = (m * m - x1 - x1) % p
    dy = (m * (x1 - dx) - y1) % p
    points = [(x1, y1, z)]
    for _ in range((1 << (_POINT_WIDTH - 1)) - 1):
        f = dx - x1
        g = dy - y1
        c = f * f % p
        w = x1 * c % p
        dx = dx * c % p
        dy = dy * (dx - w) % p
        x1 = (g * g - w - dx) % p
        y1 = (g * (dx - x1) - dy) % p
        z = z * f % p
        points.append((x1, y1, f))
    inverse = _inverse(z, p)
    for i in range(len(points) - 1, -1, -1):
        x1, y1, f = points[i]
        square = inverse * inverse % p
        points[i] = (x1 * square % p, y1 * square % p * inverse % p)
        inverse = inverse * f % p
    return points


# A walk is a list of codes, position << 8 | index into the table << 1 | 1 if to be subtracted, highest position first.
# For a public scalar: few codes, odd digits below 2^width with at least `width` zeros between them (wNAF).
def _sparse(k, width, offset):
    codes = []
    at = 0
    full = 2 << width
    while k:
        digit = k & (full - 1)
        if digit & 1:
            if digit > full >> 1:
                digit -= full
                codes.append(at << 8 | offset | -digit & ~1 | 1)
            else:
                codes.append(at << 8 | offset | digit & ~1)
            k = (k - digit) >> (width + 1)
            at += width + 1
        else:
            k >>= 1
            at += 1
    return codes


# For a secret: an odd digit, positive or negative, every `width` bits, so that every scalar makes the same walk
# (Joye and Tunstall 2009). The scalar is blinded: same residue mod n, odd, below 2^320.
def _multiply(k, table, width):
    blind = int.from_bytes(urandom(8), "big") | 1 << 63
    if (k ^ blind) & 1 == 0:
        blind ^= 1
    k += blind * _N
    codes = []
    for at in range(0, 320 - width, width):
        digit = (k & ((2 << width) - 1)) - (1 << width)
        k = (k - digit) >> width
        codes.append(at << 8 | abs(digit) & ~1 | (digit < 0))
    codes.reverse()
    x, y = table[k >> 1]
    z = 1 + int.from_bytes(urandom(31), "big")
    square = z * z % _P
    x, y, z = _walk(codes, table, x * square % _P, y * square % _P * z % _P, z, 320 - width)
    z = _inverse(z, _P)
    square = z * z % _P
    x = x * square % _P
    y = y * square % _P * z % _P
    if not _on_curve(x, y):
        raise P256Error("the calculation went wrong")
    return x, y


# From the point (x : y : z) in Jacobian coordinates at bit `at` down to bit 0: a doubling a bit, and adding what the
# codes say. z = 0 is infinity. One function with everything in it: calls and their heap would cost too much.
def _walk(codes, table, x, y, z, at):
    p = _P
    for code in codes:
        end = code >> 8
        while at > end:
            at -= 1
            # dbl-2001-b of the Explicit-Formulas Database, for a = -3; right for infinity too, and no point has y = 0
            f = z * z % p
            a = 3 * (x - f) * (x + f) % p
            f = y + y
            z = f * z % p
            g = f * y % p
            f = x * g % p
            x = (a * a - (f << 2)) % p
            y = (a * ((f << 1) - x) - (g * g << 1)) % p
        if code == _END:
            break
        x2, y2 = table[code >> 1 & 0x7F]
        if code & 1:
            y2 = p - y2
        if not z:
            x = x2
            y = y2
            z = 1
            continue
        # madd-2004-hmv of the same, which does not hold for equal or opposite points
        f = z * z % p
        a = x2 * f % p - x
        g = y2 * z % p * f % p - y
        if not a:
            if g:
                z = 0
            else:
                x, y, z = _walk((_END,), table, x, y, z, 1)
            continue
        z = z * a % p
        f = a * a % p
        a = a * f % p
        f = x * f % p
        x = (g * g - a - (f << 1)) % p
        y = (g * (f - x) - y * a) % p
    return x, y, z
