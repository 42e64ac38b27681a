"""The settings that hold."""

class Config:
    """The node's settings, `node.config`. Read them; the server changes them."""

    send_every_s: int
    """Seconds, 10 to 86400."""
    status_every_s: int
    """Seconds, 60 to 604800."""
    spreading_factor: int
    """7 to 12."""
    power_dbm: int
    """2 to 30; a link goes no higher than its region allows."""
    adaptive_rate: int
    """1: the data rate follows the server's reports; 0: it does not."""
    position_cell_m: int
    """Metres, 0 to 100000: positions are told as the centre of a cell of this size; 0: as measured."""
    quiet_from_min: int
    """Minute of the UTC day at which quiet hours begin, 0 to 1439."""
    quiet_to_min: int
    """Minute of the UTC day at which they end, 0 to 1439; the same as their beginning: there are none."""
