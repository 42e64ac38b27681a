"""A device as people name it: its EUI-64, and which of the identities that its board has had. Pure."""


class EuiError(Exception):
    """The text names no device."""

    remedy = "write the device's 16 hex digits"


def parse(text: str) -> tuple[bytes, int | None]:
    """What 16 hex digits, with or without `-` and `:`, say.

    Returns:
        The EUI (8 bytes) and the former identity's number, which stands behind a dot (`.1`, `.2` …); None for the
        present one: a board that was enrolled again may be worn by somebody else by now.

    Raises:
        EuiError: it says something else.
    """
    digits, dot, former = text.replace("-", "").replace(":", "").partition(".")
    try:
        eui = bytes.fromhex(digits)
        number = int(former) if dot else None
    except ValueError:
        eui, number = b"", None
    if len(eui) != 8:
        raise EuiError(f"{text!r} is not an EUI-64")
    return eui, number
