# Wi-Fi as the way to updates: a station that brings IP up and takes it down again. It carries no sealed frames.
import time

from micropython import const

from sealband.links.base import LinkError

_STEP_MS = const(250)


class Wifi:
    # wlan: for tests; the chip's station otherwise
    def __init__(self, wlan=None):
        if wlan is None:
            import network

            wlan = network.WLAN(network.STA_IF)
        self._wlan = wlan

    # Connect and get an address, or LinkError. feed: called at least four times a second.
    def up(self, ssid, key, timeout_ms, feed=None):
        wlan = self._wlan
        try:
            # off first: an association of before a soft reset, or an attempt that goes on, makes connect() fail
            wlan.active(False)
            wlan.active(True)
            wlan.connect(ssid, key or None)
            began = time.ticks_ms()
            # the chip goes on trying by itself; what status() says meanwhile is the last failure, and no verdict
            while not wlan.isconnected():
                if feed:
                    feed()
                if time.ticks_diff(time.ticks_ms(), began) >= timeout_ms:
                    raise LinkError("no Wi-Fi: status %r" % wlan.status())
                time.sleep_ms(_STEP_MS)
        except LinkError:
            self.down()
            raise
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            # the driver's; it tells by OSError or RuntimeError, and refuses a name or key by the others
            self.down()
            raise LinkError("no Wi-Fi: %r" % error)

    # Radio off. Never raises: whoever calls it is going away.
    def down(self):
        for end in (self._wlan.disconnect, self._off):
            try:
                end()
            except (OSError, RuntimeError):
                pass  # it was not up

    def _off(self):
        self._wlan.active(False)
