# Derives every key of the chain (sealwire/README.md, Keys). Pure: keeps nothing, writes nothing.
import hashlib

from sealband import once

# with this module they come and go
hkdf = once("sealband.crypto.hkdf")
labels = once("sealwire.keys")


# What both sides agree on at enrolment, as one CBOR array.
def transcript(ticket_id, eui, device_pub, ticket_pub, station_nonce, device_nonce):
    # once in a device's life
    from sealband.crypto import cbor
    from sealwire import enrolment

    return cbor.encode(
        [enrolment.TRANSCRIPT_LABEL, ticket_id, eui, device_pub, ticket_pub, station_nonce, device_nonce]
    )


# CK[0] from the ECDH secret z.
def root_key(z, agreed):
    prk = hkdf.extract(hashlib.sha256(agreed).digest(), z)
    return hkdf.expand(prk, labels.ROOT_LABEL, labels.CHAIN_KEY_LEN)


# Proof to the registry that this device holds CK[0]; tells nothing about it.
def confirm(root, agreed):
    key = hkdf.expand(root, labels.CONFIRM_LABEL, 32)
    return hkdf.hmac_sha256(key, hashlib.sha256(agreed).digest())[: labels.CONFIRM_LEN]


# The claim secret of CK[0].
def claim(root):
    from sealwire import enrolment

    return hkdf.expand(root, enrolment.CLAIM_LABEL, enrolment.CLAIM_LEN)


# CK[e+1] of CK[e], by contact.
def ratchet(ck):
    return hkdf.expand(ck, labels.RATCHET_LABEL, labels.CHAIN_KEY_LEN)


# CK[e+1] of CK[e] and the 16 random bytes of a rekey command.
def rekey(ck, r):
    return hkdf.expand(ck, labels.REKEY_LABEL + r, labels.CHAIN_KEY_LEN)


# (ku, kd, iu, id, did) of an epoch.
def epoch_keys(ck, eui):
    return labels.split(hkdf.expand(ck, labels.KEYS_LABEL + eui, labels.EPOCH_KEYS_LEN))
