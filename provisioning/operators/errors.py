"""What an operator can be refused for, by what the caller does next: say it, ask again, or send to a login."""


class OperatorError(Exception):
    """Something about operators cannot be done; the message says why."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


class LoginRefused(OperatorError):
    """The one answer to every login that fails, whatever the reason was: it must not tell which names exist."""

    def __init__(self) -> None:
        super().__init__(
            "the name, the password or the code is not right, or this name has to wait",
            "try again; after some failures each wait is longer, and after ten it is a day or until an admin ends it",
        )


class SessionRefused(OperatorError):
    """A session or token that is unknown, has ended or was forged."""


class NotPermitted(OperatorError):
    """The operator is known and may not do this."""
