"""What a configure message may set: key, name, least and greatest value, default. All values are integers.

Keys are never reused. A message with one key or value that is not allowed changes nothing.
"""

SEND_EVERY_S = 1
STATUS_EVERY_S = 2
SPREADING_FACTOR = 3
POWER_DBM = 4

# key, name, least, greatest, default
SETTINGS = (
    (SEND_EVERY_S, "send_every_s", 10, 86400, 600),
    (STATUS_EVERY_S, "status_every_s", 60, 604800, 86400),
    (SPREADING_FACTOR, "spreading_factor", 7, 12, 7),
    (POWER_DBM, "power_dbm", 2, 14, 14),
)


def lookup(key):
    """The row of a key, or None."""
    for row in SETTINGS:
        if row[0] == key and type(key) is int:
            return row
    return None
