"""What the node asks of every link."""

class LinkError(Exception):
    """The hardware of a link does not answer. The node goes on with the others."""

class Link:
    """The base of the links. To write one of your own, read `sealband/links/base.py`."""

    frame_max: int
    """Longest frame in bytes."""
    grade: int
    """0 free to 9 dear, as the application sees it: the policy goes by it."""
    errors: int
    """Faults of its hardware since the start."""
