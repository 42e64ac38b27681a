# What the factory wrote down for updates: for whom this board takes them, and from where. Never changed by an update.
from micropython import const

from sealband.crypto import cbor
from sealband.update import job
from sealwire import update as wire

_LENGTH_MAX = const(4096)
_UUID_LEN = const(16)


class Provision:
    def __init__(self, vendor, class_id, origins, wifi, ca):
        self.vendor = vendor  # UUID, 16 bytes
        self.class_id = class_id
        self.origins = origins  # scheme://host:port
        self.wifi = wifi  # (ssid, key) or None
        self.ca = ca  # DER or None


# None: this board was not provisioned for updates, so it takes none.
def load():
    try:
        with open(job.path("provision"), "rb") as file:
            table = cbor.decode(file.read(_LENGTH_MAX))
        held = Provision(
            table[wire.PROVISION_VENDOR],
            table[wire.PROVISION_CLASS],
            table[wire.PROVISION_ORIGINS],
            table.get(wire.PROVISION_WIFI),
            table.get(wire.PROVISION_CA),
        )
        if len(held.vendor) == _UUID_LEN and len(held.class_id) == _UUID_LEN and type(held.origins) is list:
            return held
    except (OSError, cbor.CborError, KeyError, TypeError, AttributeError):
        pass
    return None
