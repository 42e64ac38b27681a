"""The key chain's labels, lengths and order: what both halves feed into HKDF. Derives nothing itself."""

ROOT_LABEL = b"sealband/1 root"
CONFIRM_LABEL = b"sealband/1 confirm"
RATCHET_LABEL = b"sealband/1 ratchet"
REKEY_LABEL = b"sealband/1 rekey"
KEYS_LABEL = b"sealband/1 keys"

CHAIN_KEY_LEN = 32
CONFIRM_LEN = 16
REKEY_LEN = 16
# ku (16), kd (16), iu (13), id (13), did (2)
EPOCH_KEYS_LEN = 60

EPOCH_PERIOD_S = 86400
COUNTER_STEP = 256  # how far the high-water mark is raised at a time
EPOCHS_WITHOUT_CONTACT = 3  # how far past the last acknowledged epoch a device may go on by itself
FAILED_OPENINGS_MAX = 1 << 14  # a key stops being accepted after so many in its epoch


def split(block):
    """Cut the 60 derived bytes into (ku, kd, iu, id, did)."""
    return block[0:16], block[16:32], block[32:45], block[45:58], block[58:60]
