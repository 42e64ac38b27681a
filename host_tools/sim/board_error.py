"""The error of a virtual board, for all that it consists of."""


class BoardError(Exception):
    """The virtual board cannot do this; the text says why."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.remedy = remedy
