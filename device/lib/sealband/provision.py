# What the factory wrote down for this board in /update/provision: for whom it takes updates and from where, and how it
# reaches the Internet and the broker. Read when it is needed, so that nothing of it stays on the heap; never written.
from micropython import const

from sealband.crypto import cbor
from sealwire import update as wire

PATH = "/update/provision"
_LEN_MAX = const(4096)
_UUID_LEN = const(16)
_PORT_MAX = const(65535)


class Provision:
    def __init__(self, table):
        self.vendor = table[wire.PROVISION_VENDOR]  # UUID, 16 bytes
        self.class_id = table[wire.PROVISION_CLASS]
        self.origins = table[wire.PROVISION_ORIGINS]  # scheme://host:port
        self.ca = table.get(wire.PROVISION_CA)  # DER or None
        self.wifi = _row(table, wire.PROVISION_WIFI, (str, str))  # [ssid, key] or None
        self.broker = _row(table, wire.PROVISION_BROKER, (str, int))  # [host, port] or None
        self.cellular = _row(table, wire.PROVISION_CELLULAR, (str, str, str, str))  # [apn, pin, user, password] or None


# A row of these types, or None: a link that it is meant for is not provisioned then, and the others are.
def _row(table, key, types):
    row = table.get(key)
    if type(row) is not list or tuple(map(type, row)) != types:
        return None
    if types[-1] is int and not 0 < row[-1] <= _PORT_MAX:
        return None
    return row


# None: this board was not provisioned, so it takes no updates and has LoRa only.
def load(path=None):
    try:
        with open(path or PATH, "rb") as file:
            held = Provision(cbor.decode(file.read(_LEN_MAX)))
        if len(held.vendor) == _UUID_LEN and len(held.class_id) == _UUID_LEN and type(held.origins) is list:
            return held
    except (OSError, cbor.CborError, LookupError, TypeError, AttributeError):
        pass
    return None
