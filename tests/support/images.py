"""Images of releases and their delivery, made field by field: for tests on both interpreters, also of what is no image.

Apart from `sealboot.image`: the layout is POSIX.1-1988's, written down again. `tests/host/test_update_images.py` holds
it against CPython's `tarfile`.
"""

BLOCK = 512
RECORD = 10240
# offset and length of a header's fields
FIELDS = {
    "path": (0, 100),
    "mode": (100, 8),
    "owner": (108, 8),
    "group": (116, 8),
    "length": (124, 12),
    "mtime": (136, 12),
    "kind": (156, 1),
    "link": (157, 100),
    "magic": (257, 8),
    "user": (265, 32),
    "prefix": (345, 155),
}


def header(name, size, **fields):
    """A header block; `fields` replaces a field's bytes, `check` the checksum's."""
    block = bytearray(BLOCK)
    values = {
        "path": name.encode(),
        "mode": b"0000644\x00",
        "owner": b"0000000\x00",
        "group": b"0000000\x00",
        "length": b"%011o\x00" % size,
        "mtime": b"00000000000\x00",
        "kind": b"0",
        "magic": b"ustar\x0000",
    }
    check = fields.pop("check", None)
    values.update(fields)
    for field, value in values.items():
        at, length = FIELDS[field]
        assert len(value) <= length, field
        block[at : at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = check or b"%06o\x00 " % sum(block)
    return bytes(block)


def entry(name, data=b"", **fields):
    """A header, the contents and their padding."""
    return header(name, len(data), **fields) + data + bytes(-len(data) % BLOCK)


def closed(entries, filler=b""):
    """Entries as a whole archive: two blocks of zeros, then up to a full record (`filler` first)."""
    whole = entries + bytes(2 * BLOCK) + filler
    return whole + bytes(-len(whole) % RECORD)


def image(files):
    """The image of {name: contents}."""
    return closed(b"".join([entry(name, files[name]) for name in sorted(files)]))


def stored(data):
    """Raw deflate that does not compress: MicroPython's `deflate` cannot write on every port."""
    out = b""
    while len(data) > 65535:
        out += b"\x00\xff\xff\x00\x00" + data[:65535]
        data = data[65535:]
    length = len(data)
    return out + b"\x01" + length.to_bytes(2, "little") + (65535 - length).to_bytes(2, "little") + data


def squeezed(data):
    """Raw deflate (RFC 1951, fixed codes) that shortens runs of one byte only: small downloads, and bombs."""
    out, bits, count = bytearray(), 3, 3  # last block, fixed codes

    def put(code, length):
        nonlocal bits, count
        for at in range(length - 1, -1, -1):  # codes begin with their most significant bit
            bits |= (code >> at & 1) << count
            count += 1
        while count > 7:
            out.append(bits & 255)
            bits >>= 8
            count -= 8

    at = 0
    while at < len(data):
        byte = data[at]
        if at and byte == data[at - 1] and data[at : at + 258] == data[at : at + 1] * 258:
            put(0xC5, 8)  # 258 bytes
            put(0, 5)  # of the one before
            at += 258
            continue
        put(0x30 + byte, 8) if byte < 144 else put(0x190 + byte - 144, 9)
        at += 1
    put(0, 7)
    put(0, -count % 8)
    return bytes(out)
