# `network` as the ESP32 has it, as far as a station and PPP need it. Each class is loaded when it is used: on the chip
# they are C and take no heap.
from micropython import const

STA_IF = const(0)
AP_IF = const(1)
AUTH_OPEN = const(0)
AUTH_WPA2_PSK = const(3)
STAT_IDLE = const(1000)
STAT_CONNECTING = const(1001)
STAT_GOT_IP = const(1010)
STAT_BEACON_TIMEOUT = const(200)
STAT_NO_AP_FOUND = const(201)
STAT_WRONG_PASSWORD = const(202)
STAT_ASSOC_FAIL = const(203)
STAT_HANDSHAKE_TIMEOUT = const(204)


def __getattr__(name):
    if name == "WLAN":
        import _wlan

        return _wlan.WLAN
    if name == "PPP":
        import _ppp

        return _ppp.PPP
    raise AttributeError(name)
