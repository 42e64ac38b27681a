# Wi-Fi as a way to the Internet: a station that joins a network and leaves it again. Used by the updater (join, down)
# and as the bearer of mqtt.py. It scans nothing and remembers nothing: each time it begins anew.
import time

from micropython import const

from sealband import once
from sealband.links.base import LinkError

_STEP_MS = const(100)
_UP_MS = const(30000)


class WifiBearer:
    name = "wifi"
    grade = 0
    up_ms = 4000  # to join and get an address, usually

    # wlan: for tests; the chip's station otherwise
    def __init__(self, wlan=None):
        if wlan is None:
            import network

            wlan = network.WLAN(network.STA_IF)
        self._wlan = wlan
        self.ready = wlan.isconnected

    # Join the provisioned network.
    def up(self):
        site = once("sealband.provision").load()
        return self.join(site and site.wifi, _UP_MS)

    # Connect to (name, key) and get an address, or LinkError within that time: a generator of pauses in ms.
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
                    raise OSError(wlan.status())
                yield _STEP_MS
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            # the driver's; it tells by OSError or RuntimeError, and refuses a name or key by the others
            self.down()
            raise LinkError("Wi-Fi: %r" % error)

    # Radio off, with nothing to wait for. Never raises: whoever calls it is going away.
    def down(self):
        for call, given in ((self._wlan.disconnect, ()), (self._wlan.active, (False,))):
            try:
                call(*given)
            except (OSError, RuntimeError):
                pass  # it was not up
        return ()

    # an access point says nothing of it
    def time(self):
        return None
