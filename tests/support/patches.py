"""A reference encoder of patches (sealwire.update PATCH_*), and patches put together by hand: for both interpreters.

Plain on purpose: it finds blocks of the base in the new image, goes on while most bytes agree, and has nothing in
common with the encoder that makes releases.
"""

WINDOW = 16
MAGIC = b"SBP1"


def number(value):
    """LEB128."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def signed(value):
    """Zigzag, then LEB128."""
    return number(2 * value if value >= 0 else -2 * value - 1)


def operation(delta, extra=b"", seek=0):
    """One step: so many bytes of the base XOR `delta`, then `extra`, then a move."""
    return number(len(delta)) + number(len(extra)) + signed(seek) + delta + extra


def patch(base_digest, length, operations, magic=MAGIC):
    """A patch before deflate; operations are (delta, extra, seek)."""
    return magic + base_digest + length.to_bytes(4, "big") + b"".join([operation(*one) for one in operations])


def operations(base, new):
    """Steps that make `new` of `base`."""
    places = {}
    for at in range(0, len(base) - WINDOW + 1, WINDOW):
        places.setdefault(base[at : at + WINDOW], at)
    steps = []
    delta, held, base_at, at = b"", 0, 0, 0
    while at <= len(new) - WINDOW:
        piece = new[at : at + WINDOW]
        # first where the last copy would go on, then anywhere
        source = base_at + at - held
        if base[source : source + WINDOW] != piece:
            source = places.get(piece, -1)
        if source < 0:
            at += 1
            continue
        while at > held and source > 0 and new[at - 1] == base[source - 1]:
            at -= 1
            source -= 1
        length = _alike(base, source, new, at)
        steps.append((delta, new[held:at], source - base_at))
        delta = bytes([new[at + i] ^ base[source + i] for i in range(length)])
        at += length
        held, base_at = at, source + length
    steps.append((delta, new[held:], 0))
    return steps


# how far two places agree in more than half of their bytes
def _alike(base, source, new, at):
    best = length = score = best_score = 0
    while source + length < len(base) and at + length < len(new) and length - best < 64:
        score += 1 if base[source + length] == new[at + length] else -1
        length += 1
        if score >= best_score:
            best, best_score = length, score
    return best


def encode(base, new, base_digest):
    """The patch from one image to another, before deflate."""
    return patch(base_digest, len(new), operations(base, new))


def decode(base, data):
    """What a patch makes of a base, to hold the encoder against: no check at all."""
    at, out, position = 40, b"", 0
    while at < len(data):
        numbers = []
        for _ in range(3):
            value = shift = 0
            while True:
                value |= (data[at] & 127) << shift
                shift += 7
                at += 1
                if data[at - 1] < 128:
                    break
            numbers.append(value)
        copied, added, seek = numbers
        out += bytes([data[at + i] ^ base[position + i] for i in range(copied)])
        out += data[at + copied : at + copied + added]
        at += copied + added
        position += copied + (seek >> 1 ^ -(seek & 1))
    return out
