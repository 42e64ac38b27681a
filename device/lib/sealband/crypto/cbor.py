# CBOR in its deterministic form (RFC 8949 section 4.2.1): the only form written, the only form read.
# Decoding is strict, since what is signed or sealed must have one encoding: indefinite lengths, integers longer than
# needed, map keys out of order or twice, trailing bytes and bad UTF-8 are refused. Floats, undefined and other simple
# values are refused by name: no message uses them, and a float of the ESP32 could not hold a double.
# Memory: nothing is allocated on the word of a length before the bytes for it are seen to be there, and the number of
# items is bounded, since an empty list takes one byte here and 32 on the ESP32's heap.
from struct import pack

from micropython import const

_UNSIGNED = const(0x00)
_NEGATIVE = const(0x20)
_BYTES = const(0x40)
_TEXT = const(0x60)
_ARRAY = const(0x80)
_MAP = const(0xA0)
_TAG = const(0xC0)
_SIMPLE = const(0xE0)

_ENCODE_DEPTH_MAX = const(32)

_BUFFERS = (bytes, bytearray, memoryview)


class CborError(Exception):
    pass


class Tag:
    # a tagged item (RFC 8949 section 3.4); the tag's meaning is the caller's business

    def __init__(self, number, value):
        self.number = number
        self.value = value

    def __eq__(self, other):
        return isinstance(other, Tag) and self.number == other.number and self.value == other.value

    def __repr__(self):
        return "Tag(%d, %r)" % (self.number, self.value)


# the encoding of int, bytes, str, list, tuple, dict, bool, None and Tag
def encode(value):
    out = bytearray()
    _write(out, value, _ENCODE_DEPTH_MAX)
    return bytes(out)


# the one item that data is
def decode(data, max_depth=8, max_items=512):
    reader = _Reader(data, max_items)
    items = reader.items(max_depth, True)
    if not items:
        raise CborError("no item")
    if reader.at != len(reader.data):
        raise CborError("%d bytes after the item" % (len(reader.data) - reader.at))
    return items[0]


# the items of a CBOR sequence (RFC 8742), none of them left out
def decode_sequence(data, max_depth=8, max_items=512):
    return _Reader(data, max_items).items(max_depth, False)


def _write_head(out, major, argument):
    if argument < 24:
        out.append(major | argument)
    elif argument < 0x100:
        out.append(major | 24)
        out.append(argument)
    elif argument < 0x10000:
        out.extend(pack(">BH", major | 25, argument))
    elif argument < 0x100000000:
        out.extend(pack(">BI", major | 26, argument))
    elif argument < 0x10000000000000000:
        out.extend(pack(">BQ", major | 27, argument))
    else:
        raise CborError("integer of more than 64 bits")


def _write(out, value, depth):
    if value is None:
        out.append(0xF6)
    elif value is True:
        out.append(0xF5)
    elif value is False:
        out.append(0xF4)
    elif isinstance(value, int):
        if value < 0:
            _write_head(out, _NEGATIVE, -1 - value)
        else:
            _write_head(out, _UNSIGNED, value)
    elif isinstance(value, _BUFFERS):
        if not isinstance(value, bytes):
            value = bytes(value)
        _write_head(out, _BYTES, len(value))
        out.extend(value)
    elif isinstance(value, str):
        text = value.encode()
        _check_utf8(text)
        _write_head(out, _TEXT, len(text))
        out.extend(text)
    else:
        _write_nested(out, value, depth)


def _write_nested(out, value, depth):
    if depth <= 0:
        raise CborError("nested deeper than %d" % _ENCODE_DEPTH_MAX)
    depth -= 1
    if isinstance(value, (list, tuple)):
        _write_head(out, _ARRAY, len(value))
        for item in value:
            _write(out, item, depth)
    elif isinstance(value, dict):
        pairs = []
        for key, item in value.items():
            if not _is_key(key):
                raise CborError("%s as a map key" % type(key).__name__)
            pairs.append((encode(key), item))
        pairs.sort(key=lambda pair: pair[0])
        _write_head(out, _MAP, len(pairs))
        for key, item in pairs:
            out.extend(key)
            _write(out, item, depth)
    elif isinstance(value, Tag):
        number = value.number
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise CborError("tag number that is no unsigned integer")
        _write_head(out, _TAG, number)
        _write(out, value.value, depth)
    else:
        raise CborError("%s has no encoding here" % type(value).__name__)


# Keys of other types are refused: a list cannot be a dict's key, and dict takes true for 1.
def _is_key(key):
    return not isinstance(key, bool) and isinstance(key, (int, str, bytes))


class _Reader:
    # `at`: the next byte to read; `left`: how many items may still come, over all levels

    def __init__(self, data, max_items):
        if not isinstance(data, _BUFFERS):
            raise CborError("%s instead of bytes" % type(data).__name__)
        self.data = data if isinstance(data, bytes) else bytes(data)
        self.at = 0
        self.left = max_items

    # the items there are, or the first; limits that heap or stack do not allow are a refusal as well
    def items(self, depth, only_one):
        found = []
        try:
            while self.at < len(self.data):
                found.append(self.item(depth))
                if only_one:
                    break
        except MemoryError:
            raise CborError("items do not fit into memory")
        except RuntimeError:
            raise CborError("nested too deep")
        return found

    # n bytes, which must be there
    def take(self, n):
        begin = self.at
        if n > len(self.data) - begin:
            raise CborError("%d bytes promised at %d, %d there" % (n, begin, len(self.data) - begin))
        self.at = begin + n
        return self.data[begin : begin + n]

    def argument(self, info):
        if info < 24:
            return info
        if info > 27:
            raise CborError("indefinite length" if info == 31 else "reserved length %d" % info)
        size = 1 << (info - 24)
        value = int.from_bytes(self.take(size), "big")
        # the shortest form: what would have fitted in half the size is refused (in no byte at all: 0 to 23)
        if value < 24 or (size > 1 and value >> (size << 2) == 0):
            raise CborError("integer not in its shortest form")
        return value

    def item(self, depth):
        if self.left <= 0:
            raise CborError("too many items")
        self.left -= 1
        major = self.take(1)[0]
        if major >= _SIMPLE:
            return self.simple(major)
        argument = self.argument(major & 31)
        major &= 0xE0
        if major == _UNSIGNED:
            return argument
        if major == _NEGATIVE:
            return -1 - argument
        if major == _BYTES:
            return self.take(argument)
        if major == _TEXT:
            return self.text(argument)
        if depth <= 0:
            raise CborError("nested too deep")
        if major == _ARRAY:
            return self.array(argument, depth - 1)
        if major == _MAP:
            return self.map(argument, depth - 1)
        return Tag(argument, self.item(depth - 1))

    def simple(self, first):
        if first == 0xF6:
            return None
        if first == 0xF5:
            return True
        if first == 0xF4:
            return False
        if first == 0xF7:
            raise CborError("undefined is not used here")
        if 0xF9 <= first <= 0xFB:
            raise CborError("floats are not used here")
        if first == 0xFF:
            raise CborError("break without an indefinite length")
        raise CborError("simple value 0x%02x is not used here" % first)

    # n more items take at least n bytes and n of the allowance
    def expect(self, n):
        if n > self.left:
            raise CborError("too many items")
        if n > len(self.data) - self.at:
            raise CborError("%d items promised, %d bytes there" % (n, len(self.data) - self.at))

    def text(self, size):
        text = self.take(size)
        _check_utf8(text)
        return str(text, "utf-8")

    def array(self, n, depth):
        self.expect(n)
        items = [None] * n
        for i in range(n):
            items[i] = self.item(depth)
        return items

    def map(self, n, depth):
        self.expect(2 * n)
        result = {}
        before = b""
        for _ in range(n):
            begin = self.at
            key = self.item(depth)
            if not _is_key(key):
                raise CborError("%s as a map key" % type(key).__name__)
            encoded = self.data[begin : self.at]
            # no encoded item is empty, so the first key is greater than b""
            if encoded <= before:
                raise CborError("map key twice" if encoded == before else "map keys out of order")
            before = encoded
            result[key] = self.item(depth)
        return result


# MicroPython's own decoding lets overlong forms, surrogates and numbers past U+10FFFF through (RFC 3629 section 3).
def _check_utf8(text):
    if not text or max(text) < 0x80:
        return
    at = 0
    end = len(text)
    while at < end:
        first = text[at]
        if first < 0x80:
            at += 1
            continue
        if 0xC2 <= first < 0xE0:
            low, high, more = 0x80, 0xBF, 1
        elif 0xE0 <= first < 0xF0:
            low, high, more = 0xA0 if first == 0xE0 else 0x80, 0x9F if first == 0xED else 0xBF, 2
        elif 0xF0 <= first < 0xF5:
            low, high, more = 0x90 if first == 0xF0 else 0x80, 0x8F if first == 0xF4 else 0xBF, 3
        else:
            raise CborError("text is not UTF-8")
        if at + more >= end or not low <= text[at + 1] <= high:
            raise CborError("text is not UTF-8")
        for i in range(at + 2, at + 1 + more):
            if text[i] & 0xC0 != 0x80:
                raise CborError("text is not UTF-8")
        at += 1 + more
