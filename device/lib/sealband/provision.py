# What the factory wrote down for this board in /update/provision: for whom it takes updates and from where, and how it
# reaches the Internet and the broker. Read when it is needed, so that nothing of it stays on the heap; never written.
from micropython import const

from sealband.crypto import cbor

PATH = "/update/provision"
_LEN_MAX = const(4096)
_UUID_LEN = const(16)
_PORT_MAX = const(65535)

# keys: sealwire.update.PROVISION_…, without the heap that the other names there would take
_VENDOR = const(1)
_CLASS = const(2)
_ORIGINS = const(3)
_WIFI = const(4)
_CA = const(5)
_BROKER = const(6)
_CELLULAR = const(7)


class Provision:
    def __init__(self, table):
        self.vendor = table[_VENDOR]  # UUID, 16 bytes
        self.class_id = table[_CLASS]
        self.origins = table[_ORIGINS]  # scheme://host:port
        self.ca = table.get(_CA)  # DER or None
        self.wifi = _row(table, _WIFI, (str, str))  # [ssid, key] or None
        self.broker = _row(table, _BROKER, (str, int))  # [host, port] or None
        self.cellular = _row(table, _CELLULAR, (str, str, str, str))  # [apn, pin, user, password] or None


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
