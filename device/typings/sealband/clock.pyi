"""Message time."""

class Clock:
    """The node's clock, `node.clock`."""

    valid: bool
    """The server has told the time since the cold start."""

    def now(self) -> int:
        """Seconds since 2025-01-01 UTC; before the first sync a time that is surely past."""

    def uptime(self) -> int:
        """Seconds since the start, through deep sleep."""

    def uptime_ms(self) -> int:
        """Milliseconds since the start, through deep sleep."""
