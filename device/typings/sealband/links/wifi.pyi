"""Wi-Fi for `Mqtt`."""

class WifiBearer:
    """The network that the station has written down."""

    name: str
    grade: int

    def __init__(self, wlan: object = None) -> None:
        """The bearer.

        Args:
            wlan: a `network.WLAN`, for tests.
        """
