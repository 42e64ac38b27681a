# The module `bluetooth` as far as aioble's users need it: UUIDs, as the little-endian bytes that they are made of.
def UUID(text):
    return bytes(reversed(bytes.fromhex(text.replace("-", ""))))
