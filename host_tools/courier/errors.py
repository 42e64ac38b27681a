"""What can go wrong for a courier, split by what to do next."""


class CourierError(Exception):
    """A visit or a delivery did not come to its end.

    Attributes:
        remedy: what to do about it.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


class NotTheDevice(CourierError):
    """Whoever answered does not hold the label's secret, or what it said was changed on the way."""


class VisitEnded(CourierError):
    """The device is gone, or it has ended the visit: too far away, too slow, or the label is not its own."""
