"""A bounded log of numbers, so that no reading and no key can get into it."""

class Log:
    """The node's log, `node.log`."""

    def note(self, event: str, *numbers: int) -> None:
        """Add an entry.

        Args:
            event: one of the words in `sealband/log.py`; anything else is noted as "fault".
            numbers: anything that is no whole number is left out.
        """
