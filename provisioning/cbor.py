"""Deterministic CBOR (RFC 8949 section 4.2.1), read strictly: what could be written in two ways is refused in one."""

from typing import Any

import cbor2


def dumps(value: object) -> bytes:
    """One item in its deterministic form."""
    return cbor2.dumps(value, canonical=True)


def loads(data: bytes) -> Any:
    """The one item that the bytes hold.

    Raises:
        ValueError: they hold none, more than one, or one that is not in its deterministic form.
    """
    try:
        value = cbor2.loads(data)
        again = dumps(value)
    except Exception:
        # cbor2 also builds dates, fractions and patterns out of tags, and lets through whatever those raise
        raise ValueError("not CBOR") from None
    if again != data:
        raise ValueError("not one item of deterministic CBOR")
    return value
