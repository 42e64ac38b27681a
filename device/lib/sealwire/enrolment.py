"""Enrolment: lengths, labels and the order of fields in the transcript and in the device's signed record.

transcript  CBOR [TRANSCRIPT_LABEL, ticket_id, eui, device_pub, ticket_pub, station_nonce, device_nonce]
record      COSE_Sign1 (tag 18) by the device's key, ES256; protected header {1: -9}; payload
            CBOR [RECORD_LABEL, ticket_id, eui, device_pub, ticket_pub, station_nonce, device_nonce, confirm, model,
            release sequence]
"""

TRANSCRIPT_LABEL = "sealband/1 enrol"
RECORD_LABEL = "sealband/1 record"
CLAIM_LABEL = b"sealband/1 claim"  # claim secret = HKDF-Expand(CK[0], CLAIM_LABEL, CLAIM_LEN)

TICKET_ID_LEN = 8
PUBLIC_KEY_LEN = 65  # 04, x, y
NONCE_LEN = 16
CLAIM_LEN = 10
CERTIFICATE_MAX = 900  # bytes of a device's TLS certificate; what its flash record holds beside the key
MODEL_MAX = 32  # bytes of UTF-8
RECORD_MAX = 512  # bytes; a longer one is refused before it is parsed

COSE_SIGN1_TAG = 18
COSE_PROTECTED_ES256 = b"\xa1\x01\x28"  # {1: -9}, ESP256


def eui_from_mac(mac):
    """EUI-64 of a chip: the MAC's first three bytes, ff fe, its last three."""
    return mac[:3] + b"\xff\xfe" + mac[3:]
