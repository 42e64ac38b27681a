"""A courier's visit over Bluetooth Low Energy: identifiers, lengths and limits of both halves. Speaks to no radio.

Whoever holds the label's claim secret may read the status, take copies of sealed frames along and bring sealed
downlinks back. Nothing of it relies on Bluetooth's own pairing. The courier writes to UP, the device notifies on DOWN.

    fragment    index (7 bits, from 0) with LAST on the last one, then a part of the message
    courier     VERSION nonce_c (16)
    device      VERSION nonce_d (16)
    courier     proof_c (16)
    device      proof_d (16)
    courier     sealed request; then the device: sealed reply; and so on, one after the other

    base        HKDF-Extract(salt = BASE_LABEL, ikm = claim)
    keys        HKDF-Expand(HKDF-Extract(salt = nonce_c, nonce_d; ikm = base), KEYS_LABEL + eui, KEYS_LEN)
    proof_c     HMAC-SHA256(ka, "courier")[0:16]; proof_d with "device"
    sealed      AES-CCM, 8-byte tag, no associated data, nonce = IV xor the number of the request, from 0
    pseudonym   r (4), HMAC-SHA256(HKDF-Expand(base, NAME_LABEL, 32), r)[0:6]: in the scan response, anew each time
"""

UUID = "8e7dc8b%s-c5b7-418f-a36d-72c04b8cb3e5"
SERVICE = "d"
UP = "e"  # written by the courier
DOWN = "f"  # notified by the device

VERSION = 1
NONCE_LEN = 16
PROOF_LEN = 16
TAG_LEN = 8
KEYS_LEN = 90
NAME_RANDOM_LEN = 4
NAME_LEN = 10

BASE_LABEL = b"sealband/1 courier"
KEYS_LABEL = b"sealband/1 courier keys"
NAME_LABEL = b"sealband/1 courier name"

LAST = 0x80
VALUE_MAX = 182  # a fragment: what the usual MTU of 185 carries
MESSAGE_MAX = 264

# Requests are in visits.py
KEY_LEN = 7  # priority (1) epoch (4) ctr (2)
LIST_MAX = 36  # keys in a reply
STATUS_MAX = 250  # bytes of the status


def split(block):
    """Cut the derived bytes into (kc, kd, ic, id, ka): key and IV of each direction, key of the proofs."""
    return block[0:16], block[16:32], block[32:45], block[45:58], block[58:90]
