"""What a courier may ask in a visit; for the host only, since a device has these numbers where it serves them.

A reply begins with the request's own byte.
"""

from sealwire import ble

SERVICE_UUID = ble.UUID % ble.SERVICE
UP_UUID = ble.UUID % ble.UP
DOWN_UUID = ble.UUID % ble.DOWN

STATUS = 1  # -> plaintext of a status message (type, t, map)
LIST = 2  # from (2) -> keys of queued frames from this place on
FETCH = 3  # key -> the sealed frame; nothing: it is gone
DELIVER = 4  # sealed downlink -> result (1)

# Results of DELIVER. A downlink whose tag is wrong gets none: the device ends the visit
OPENED = 0
REFUSED = 1  # of another device or epoch, or used before

PROOF_COURIER = b"courier"
PROOF_DEVICE = b"device"

VALUE_MIN = 60  # less, and a message has more fragments than a device's queue keeps; MTU of 63
