"""What a configure message may set: key, name, least and greatest value, default. All values are integers.

Keys are never reused. A message with one key or value that is not allowed changes nothing.
"""

SEND_EVERY_S = 1
STATUS_EVERY_S = 2
SPREADING_FACTOR = 3
POWER_DBM = 4  # a link goes no higher than its region allows
ADAPTIVE_RATE = 5  # 1: the data rate follows the server's margin reports
POSITION_CELL_M = 6  # a position is told as the centre of a cell of this size; 0: as measured
QUIET_FROM_MIN = 7  # quiet hours begin at this minute of the UTC day
QUIET_TO_MIN = 8  # and end at this one; equal: there are none

# key, name, least, greatest, default
SETTINGS = (
    (SEND_EVERY_S, "send_every_s", 10, 86400, 600),
    (STATUS_EVERY_S, "status_every_s", 60, 604800, 86400),
    (SPREADING_FACTOR, "spreading_factor", 7, 12, 7),
    (POWER_DBM, "power_dbm", 2, 30, 14),
    (ADAPTIVE_RATE, "adaptive_rate", 0, 1, 1),
    (POSITION_CELL_M, "position_cell_m", 0, 100000, 100),
    (QUIET_FROM_MIN, "quiet_from_min", 0, 1439, 0),
    (QUIET_TO_MIN, "quiet_to_min", 0, 1439, 0),
)


def lookup(key):
    """The row of a key, or None."""
    for row in SETTINGS:
        if row[0] == key and type(key) is int:
            return row
    return None
