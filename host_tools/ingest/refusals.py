"""Why an arrival is refused: a closed list, so that refusals can be counted. Decides nothing."""

from enum import StrEnum


class Reason(StrEnum):
    """One line for each way in which what arrives can be wrong; the value is what is stored and shown."""

    # at the door: where it came from and what it looks like
    BAD_TOPIC = "bad_topic"  # an MQTT topic that no device or gateway has
    BAD_ENVELOPE = "bad_envelope"  # not the map that a gateway bridge sends
    MALFORMED = "malformed"  # not a frame of this version
    UNSUPPORTED_KIND = "unsupported_kind"  # a frame, but of a kind that no device sends up
    # whose it is
    UNKNOWN_DEVICE = "unknown_device"  # nobody has this pseudonym or EUI
    DEVICE_NOT_ACTIVE = "device_not_active"  # retired or revoked
    OLD_EPOCH = "old_epoch"  # the device has gone on, and its keys of then are gone
    KEY_EXHAUSTED = "key_exhausted"  # the key was tried too often to be believed any more
    TOO_MANY_HELLOS = "too_many_hellos"  # so many forged ones named this device that no more are tried for now
    CHAIN_DAMAGED = "chain_damaged"  # the stored chain key can't be unwrapped
    # whether it is genuine and new
    BAD_TAG = "bad_tag"  # no candidate's key opens it: forged, changed, reflected, or of another device
    REPLAY = "replay"  # this device, epoch and counter were stored before
    INTERNAL = "internal"  # a defect of ours; the log says which
    # what it says; such a frame is genuine and was stored
    MALFORMED_MESSAGE = "malformed_message"  # the plaintext is not a message
    IMPLAUSIBLE_TIME = "implausible_time"  # its samples lie in the future


class Refused(Exception):
    """Something that arrived is refused, for `reason`; `detail` is for the log and holds no secret."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail
