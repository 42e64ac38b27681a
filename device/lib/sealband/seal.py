# Frame <-> plaintext, with the keys and counters of the chain. Does not know what a plaintext means. Loaded for the
# occasion; frame.py and ccm.py are loaded by each function when it needs them, and let go of before flash is written.
from micropython import const

from sealband import once
from sealband.errors import SealError

# sealwire.frame
PLAINTEXT_MAX = const(242)
_HELLO_PLAINTEXT_MAX = const(232)
_KIND_DATA = const(0)
_EPOCH_BITS_MASK = const(7)
_TAG_LEN = const(8)

# Reasons of a SealError
TOO_LONG = "too_long"
MALFORMED = "malformed"
NOT_OURS = "not_ours"
REPLAY = "replay"
BAD_TAG = "bad_tag"
WORN_OUT = "worn_out"


# Seal an uplink: (ctr, frame). The epoch is chain.epoch afterwards; a new one may have begun.
def seal(chain, plaintext):
    if len(plaintext) > PLAINTEXT_MAX:
        raise SealError(TOO_LONG)
    counter = chain.take_counter()
    return counter, _sealed(plaintext, *_framed(chain, counter, False))


# The same for a server that seems to have lost this device: the frame says openly whose it is. (ctr, frame)
def hello(chain, plaintext):
    if len(plaintext) > _HELLO_PLAINTEXT_MAX:
        raise SealError(TOO_LONG)
    counter = chain.take_counter()
    return counter, _sealed(plaintext, *_framed(chain, counter, True))


# what stands in front of the ciphertext, and what else ccm.encrypt takes
def _framed(chain, counter, hello):
    frame = once("sealwire.frame")
    ku, _, iu, _, did = chain.keys()
    if hello:
        head = frame.hello_header(chain.eui, chain.epoch, counter)
    else:
        head = frame.header(_KIND_DATA, chain.epoch, did, counter)
    aad = frame.associated_data(head[0], chain.eui, chain.epoch, counter)
    return head, ku, frame.nonce(iu, counter), aad


def _sealed(plaintext, head, ku, nonce, aad):
    return head + _ccm().encrypt(ku, nonce, plaintext, aad, _TAG_LEN)


def _ccm():
    return once("sealband.crypto.ccm")


# Open a downlink: (epoch, ctr, plaintext), or SealError. Its counter is spent in flash before this returns.
def open_downlink(chain, data):
    epoch, downlink, counter, opening = _parsed(chain, data)
    plaintext = _opened(*opening)
    if plaintext is None:
        chain.downlink_failed(downlink)
        raise SealError(BAD_TAG)
    chain.downlink_accepted(downlink, counter)
    return epoch, counter, plaintext


# (epoch, the chain's keys for it, counter, what ccm.decrypt takes)
def _parsed(chain, data):
    frame = once("sealwire.frame")
    try:
        parsed = frame.parse(data)
    except frame.FrameError:
        raise SealError(MALFORMED)
    if parsed.kind != _KIND_DATA:
        raise SealError(NOT_OURS)  # groups come later, and a server says no hello
    counter = parsed.ctr
    for epoch, downlink in chain.downlinks():
        if parsed.epoch_bits == epoch & _EPOCH_BITS_MASK and parsed.did == downlink.did:
            break
    else:
        raise SealError(NOT_OURS)
    # what is cheap comes first: a flood of these must not cost the battery an AES
    if counter < downlink.next:
        raise SealError(REPLAY)
    if downlink.worn_out():
        raise SealError(WORN_OUT)
    aad = frame.associated_data(parsed.ctl, chain.eui, epoch, counter)
    opening = (downlink.key, frame.nonce(downlink.iv, counter), parsed.sealed, aad, _TAG_LEN)
    return epoch, downlink, counter, opening


# None: it was not sealed with this key
def _opened(*opening):
    ccm = _ccm()
    try:
        return ccm.decrypt(*opening)
    except ccm.AuthError:
        pass
