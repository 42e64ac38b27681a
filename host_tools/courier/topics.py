"""How carried frames travel over MQTT between courier and server. Speaks no MQTT and opens nothing.

    sb/v1/courier/<courier>/up      payload: one sealed frame, as the device gave it
    sb/v1/courier/<courier>/down    payload: ANSWER_LEN bytes of the SHA-256 of the frame that is answered, then
                                    a sealed downlink

The answer names a frame and not a device: whoever delivers a frame that was heard on the air must not be told whose it
is. The courier knows from whom it took it.
"""

import re
from hashlib import sha256

UPLINK_FILTER = "sb/v1/courier/+/up"
DOWNLINK_FILTER = "sb/v1/courier/+/down"
ANSWER_LEN = 8
_UPLINK = re.compile(r"sb/v1/courier/([0-9a-f]{16})/up", re.ASCII)


def uplink_topic(courier: str) -> str:
    """Where this courier (16 lower-case hex digits) delivers."""
    return f"sb/v1/courier/{courier}/up"


def downlink_topic(courier: str) -> str:
    """Where it is answered."""
    return f"sb/v1/courier/{courier}/down"


def courier_of(topic: str) -> str | None:
    """The courier in whose topic something was delivered; None: it is another topic."""
    match = _UPLINK.fullmatch(topic)
    return match.group(1) if match else None


def digest(frame: bytes) -> bytes:
    """What an answer calls this frame."""
    return sha256(frame).digest()[:ANSWER_LEN]


def answer(answered: bytes, downlink: bytes) -> bytes:
    """The payload of an answer: to this frame, with this downlink."""
    return digest(answered) + downlink
