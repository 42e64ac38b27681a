# Wi-Fi as a way to the Internet: a station that joins the provisioned network and leaves it again. Used by the updater
# (join, off) and under MQTT (the rest: a bearer). It scans nothing and remembers nothing; each time it begins anew.
import time

from micropython import const

from sealband.links.base import LinkError

_STEP_MS = const(100)
_UP_MS = const(30000)


class WifiBearer:
    name = "wifi"
    grade = 0
    # ESP32 datasheet, current consumption: receiving 95 to 100 mA, sending 190 mA, at 3.3 V
    power_mw = 400
    up_ms = 4000  # to join and get an address, usually

    # wlan: for tests; the chip's station otherwise
    def __init__(self, wlan=None):
        if wlan is None:
            import network

            wlan = network.WLAN(network.STA_IF)
        self._wlan = wlan

    # Connect to (ssid, key) and get an address, or LinkError within that time: a generator of pauses in ms.
    def join(self, network, timeout_ms):
        wlan = self._wlan
        try:
            # off first: an association of before a soft reset, or an attempt that goes on, makes connect() fail
            wlan.active(False)
            wlan.active(True)
            wlan.connect(network[0], network[1] or None)
            began = time.ticks_ms()
            # the chip goes on trying by itself; what status() says meanwhile is the last failure, and no verdict
            while not wlan.isconnected():
                if time.ticks_diff(time.ticks_ms(), began) >= timeout_ms:
                    raise LinkError("no Wi-Fi: status %r" % wlan.status())
                yield _STEP_MS
        except LinkError:
            self.off()
            raise
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            # the driver's; it tells by OSError or RuntimeError, and refuses a name or key by the others
            self.off()
            raise LinkError("no Wi-Fi: %r" % error)

    # Radio off. Never raises: whoever calls it is going away.
    def off(self):
        for call, arguments in ((self._wlan.disconnect, ()), (self._wlan.active, (False,))):
            try:
                call(*arguments)
            except (OSError, RuntimeError):
                pass  # it was not up

    # --- a bearer, as links/mqtt.py wants it

    def up(self):
        from sealband import provision

        site = provision.load()
        if site is None or not site.wifi:
            raise LinkError("no Wi-Fi: not provisioned")
        return self.join(site.wifi, _UP_MS)

    def ready(self):
        return self._wlan.isconnected()

    def down(self):
        self.off()
        return ()

    # an access point says nothing of it
    def time(self):
        return None
