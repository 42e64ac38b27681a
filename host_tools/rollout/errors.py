"""What can be wrong with a rollout that somebody asks for."""


class RolloutError(Exception):
    """It cannot be done; the message says why, `remedy` what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy
