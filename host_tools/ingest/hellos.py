"""How many forged hellos are tried for one device. Pure: time is passed in.

A hello names its device and epoch openly, so whoever knows an EUI can send hellos for the epochs to come and run their
keys into the limit of 2^14 failed openings; the device would be locked out for good. So only so many failures an hour
are allowed, far too few to reach that limit within an epoch. Meanwhile the device's data frames are opened as ever.
"""

from collections import OrderedDict

FAILURES_AN_HOUR = 32
DEVICES_MAX = 10_000
_HOUR_S = 3600.0


class HelloLimit:
    """Counts failed hellos by device, for the last hour or so; forgets the longest quiet device when there are many."""

    def __init__(self) -> None:
        self._failures: OrderedDict[bytes, tuple[float, int]] = OrderedDict()

    def allows(self, eui: bytes, now: float) -> bool:
        """Whether another hello of this device may be tried."""
        begun, count = self._failures.get(eui, (now, 0))
        return count < FAILURES_AN_HOUR or not 0 <= now - begun < _HOUR_S

    def failed(self, eui: bytes, now: float) -> None:
        """A hello of this device did not open."""
        begun, count = self._failures.pop(eui, (now, 0))
        if not 0 <= now - begun < _HOUR_S:
            begun, count = now, 0
        self._failures[eui] = begun, count + 1
        if len(self._failures) > DEVICES_MAX:
            self._failures.popitem(last=False)
