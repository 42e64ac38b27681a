"""The frame: its bytes, the nonce and the associated data that belong to it.

Owns packing and parsing only. Keys, counters and AES live elsewhere: `sealband.seal` on the device,
`host_tools.ingest.unseal` on the host. Runs unchanged on MicroPython and CPython.

    data   ctl(1) did(2) ctr(2) ciphertext(n) tag(8)
    hello  ctl(1) eui(8) epoch(4) ctr(2) ciphertext(n) tag(8)
    ctl  = 111 kind(2 bits) epoch mod 8 (3 bits)
"""

import struct

MTYPE = 0xE0  # LoRaWAN's MType "proprietary"
KIND_DATA = 0
KIND_FRAGMENT = 1
KIND_HELLO = 2

KEY_LEN = 16
NONCE_LEN = 13
TAG_LEN = 8
DID_LEN = 2
EUI_LEN = 8
CTR_MAX = 65535
EPOCH_MAX = 0xFFFFFFFF
EPOCH_BITS_MASK = 7

HEADER_LEN = 5
HELLO_HEADER_LEN = 15
OVERHEAD = HEADER_LEN + TAG_LEN
HELLO_OVERHEAD = HELLO_HEADER_LEN + TAG_LEN
FRAME_MAX = 255  # what one LoRa packet can hold; every link carries the same frame

COSE_PROTECTED = b"\xa1\x01\x0a"  # {1: 10}, AES-CCM-16-64-128
# CBOR ["Encrypt0", h'a1010a', bstr(15)] up to the last string's first byte
_AAD_HEAD = b"\x83\x68Encrypt0\x43\xa1\x01\x0a\x4f"


class FrameError(Exception):
    """The bytes are not a frame of this version."""


class Frame:
    """A parsed frame; `did` is None in a hello, `eui` and `epoch` are None in all others."""

    def __init__(self, ctl, kind, epoch_bits, did, ctr, eui, epoch, sealed):
        self.ctl = ctl
        self.kind = kind
        self.epoch_bits = epoch_bits  # epoch mod 8
        self.did = did
        self.ctr = ctr
        self.eui = eui
        self.epoch = epoch
        self.sealed = sealed  # ciphertext followed by the tag


def control(kind, epoch):
    """The first byte of a frame of this kind in this epoch."""
    return MTYPE | (kind << 3) | (epoch & EPOCH_BITS_MASK)


def header(kind, epoch, did, ctr):
    """The five bytes in front of the ciphertext of a data or fragment frame."""
    return struct.pack(">B2sH", control(kind, epoch), did, ctr)


def hello_header(eui, epoch, ctr):
    """The fifteen bytes in front of the ciphertext of a hello."""
    return struct.pack(">B8sIH", control(KIND_HELLO, epoch), eui, epoch, ctr)


def nonce(iv, ctr):
    """IV xor (eleven zero bytes, then the counter)."""
    return iv[:11] + bytes((iv[11] ^ (ctr >> 8), iv[12] ^ (ctr & 0xFF)))


def associated_data(ctl, eui, epoch, ctr):
    """The COSE Enc_structure that the tag covers beside the ciphertext."""
    return _AAD_HEAD + struct.pack(">B8sIH", ctl, eui, epoch, ctr)


def parse(data):
    """Split a received frame, or raise FrameError; nothing in it is to be believed before the tag was checked."""
    if len(data) < OVERHEAD:
        raise FrameError("frame of %d bytes is shorter than %d" % (len(data), OVERHEAD))
    if len(data) > FRAME_MAX:
        raise FrameError("frame of %d bytes is longer than %d" % (len(data), FRAME_MAX))
    ctl = data[0]
    if ctl & 0xE0 != MTYPE:
        raise FrameError("first byte 0x%02x is not of a Sealband frame" % ctl)
    kind = (ctl >> 3) & 3
    epoch_bits = ctl & EPOCH_BITS_MASK
    if kind == KIND_HELLO:
        if len(data) < HELLO_OVERHEAD:
            raise FrameError("hello of %d bytes is shorter than %d" % (len(data), HELLO_OVERHEAD))
        _, eui, epoch, ctr = struct.unpack(">B8sIH", data[:HELLO_HEADER_LEN])
        if epoch & EPOCH_BITS_MASK != epoch_bits:
            raise FrameError("hello names epoch %d but its first byte says %d mod 8" % (epoch, epoch_bits))
        return Frame(ctl, kind, epoch_bits, None, ctr, eui, epoch, bytes(data[HELLO_HEADER_LEN:]))
    if kind not in (KIND_DATA, KIND_FRAGMENT):
        raise FrameError("frame kind %d is reserved" % kind)
    _, did, ctr = struct.unpack(">B2sH", data[:HEADER_LEN])
    return Frame(ctl, kind, epoch_bits, did, ctr, None, None, bytes(data[HEADER_LEN:]))
