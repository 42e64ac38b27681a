# `network`: a Wi-Fi interface with no access point in range. Enough to switch the radio on, which feeds the RNG.
import _link
from micropython import const

STA_IF = const(0)
AP_IF = const(1)
STAT_IDLE = const(1000)
STAT_NO_AP_FOUND = const(201)


class WLAN:
    def __init__(self, interface=STA_IF):
        self._on = False

    def active(self, on=None):
        if on is not None:
            self._on = bool(on)
        return self._on

    def isconnected(self):
        return False

    def connect(self, ssid=None, key=None):
        if not self._on:
            raise OSError("Wifi Internal Error")

    def status(self):
        return STAT_NO_AP_FOUND if self._on else STAT_IDLE

    def config(self, name):
        if name != "mac":
            raise ValueError("unknown config param")
        return _link.mac
