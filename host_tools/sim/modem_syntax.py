"""How AT commands are written, and what ends them (ITU-T V.250, 3GPP TS 27.007 section 9): lines, values, errors."""

import re
from collections.abc import Callable

# 27.007 section 9.2
NOT_ALLOWED, NO_SIM, NEEDS_PIN, NEEDS_PUK, SIM_FAILURE, WRONG_PASSWORD = 3, 10, 11, 12, 13, 16
NO_NETWORK, BAD_PARAMETERS, UNKNOWN, UNSPECIFIED_DATA = 30, 50, 100, 148
TEXTS = {
    NOT_ALLOWED: "operation not allowed",
    NO_SIM: "SIM not inserted",
    NEEDS_PIN: "SIM PIN required",
    NEEDS_PUK: "SIM PUK required",
    SIM_FAILURE: "SIM failure",
    WRONG_PASSWORD: "incorrect password",
    NO_NETWORK: "no network service",
    BAD_PARAMETERS: "Incorrect parameters",
    UNKNOWN: "unknown",
    UNSPECIFIED_DATA: "unspecified GPRS error",
}
_TOKEN = re.compile(r"[&\\]?[A-Za-z]\d*(?:=\d*)?\??")


class CommandError(Exception):
    """The modem says ERROR."""


class MobileError(Exception):
    """The modem says +CME ERROR with this number."""

    def __init__(self, code: int) -> None:
        super().__init__(TEXTS.get(code, TEXTS[UNKNOWN]))
        self.code = code


class Result(Exception):
    """The modem says this in place of OK, and may do something then."""

    def __init__(self, text: str | None, then: Callable[[], None] | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.then = then


def split_commands(text: str) -> list[str]:
    """The commands of one line, after its AT (V.250 section 5.2): basic ones in a row, others up to a semicolon.

    Raises:
        CommandError: it is no such line.
    """
    found = []
    rest = text.strip()
    while rest:
        if rest[0] in ";":
            rest = rest[1:]
        elif rest[0] in "+*":
            quoted, end = False, len(rest)
            for at, letter in enumerate(rest):
                if letter == '"':
                    quoted = not quoted
                elif letter == ";" and not quoted:
                    end = at
                    break
            found.append(rest[:end])
            rest = rest[end:]
        elif rest[0] in "Dd":
            found.append(rest)
            rest = ""
        else:
            basic = _TOKEN.match(rest)
            if basic is None:
                raise CommandError
            found.append(basic[0])
            rest = rest[basic.end() :].lstrip()
    return found


def arguments(text: str) -> list[str]:
    """The values of a command, without their quotes.

    Raises:
        MobileError: a quote is not closed.
    """
    parts: list[str] = []
    rest = text.strip()
    while True:
        found = re.match(r'\s*(?:"([^"]*)"|([^",]*))\s*(,|$)', rest)
        if not found:
            raise MobileError(BAD_PARAMETERS)
        parts.append(found[1] if found[1] is not None else found[2].strip())
        rest = rest[found.end() :]
        if found[3] != ",":
            return parts


def integers(text: str) -> list[int]:
    """The values of a command that are all numbers.

    Raises:
        MobileError: one is not.
    """
    parts = arguments(text)
    if not all(re.fullmatch(r"\d{1,9}", part) for part in parts):
        raise MobileError(BAD_PARAMETERS)
    return [int(part) for part in parts]
