# Frame <-> plaintext, with the keys and counters of the chain. Does not know what a plaintext means.
from sealband.crypto import ccm
from sealband.errors import SealError
from sealwire import frame

PLAINTEXT_MAX = frame.FRAME_MAX - frame.OVERHEAD

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
    head = frame.header(frame.KIND_DATA, chain.epoch, chain.keys()[4], counter)
    return counter, _sealed(chain, head, counter, plaintext)


# The same for a server that seems to have lost this device: the frame says openly whose it is. (ctr, frame)
def hello(chain, plaintext):
    if len(plaintext) > frame.FRAME_MAX - frame.HELLO_OVERHEAD:
        raise SealError(TOO_LONG)
    counter = chain.take_counter()
    head = frame.hello_header(chain.eui, chain.epoch, counter)
    return counter, _sealed(chain, head, counter, plaintext)


def _sealed(chain, head, counter, plaintext):
    ku, _, iu, _, _ = chain.keys()
    aad = frame.associated_data(head[0], chain.eui, chain.epoch, counter)
    return head + ccm.encrypt(ku, frame.nonce(iu, counter), plaintext, aad, frame.TAG_LEN)


# Open a downlink: (epoch, ctr, plaintext), or SealError. Its counter is spent in flash before this returns.
def open_downlink(chain, data):
    try:
        parsed = frame.parse(data)
    except frame.FrameError:
        raise SealError(MALFORMED)
    if parsed.kind != frame.KIND_DATA:
        raise SealError(NOT_OURS)  # groups come later, and a server says no hello
    for epoch, downlink in chain.downlinks():
        if parsed.epoch_bits == epoch & frame.EPOCH_BITS_MASK and parsed.did == downlink.did:
            return epoch, parsed.ctr, _opened(chain, epoch, downlink, parsed)
    raise SealError(NOT_OURS)


def _opened(chain, epoch, downlink, parsed):
    # what is cheap comes first: a flood of these must not cost the battery an AES
    if parsed.ctr < downlink.next:
        raise SealError(REPLAY)
    if downlink.worn_out():
        raise SealError(WORN_OUT)
    aad = frame.associated_data(parsed.ctl, chain.eui, epoch, parsed.ctr)
    try:
        plaintext = ccm.decrypt(downlink.key, frame.nonce(downlink.iv, parsed.ctr), parsed.sealed, aad, frame.TAG_LEN)
    except ccm.AuthError:
        chain.downlink_failed(downlink)
        raise SealError(BAD_TAG)
    chain.downlink_accepted(downlink, parsed.ctr)
    return plaintext
