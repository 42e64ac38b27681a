# The one form of URL that is fetched, and whether it leads to a provisioned server. Pure: resolves and fetches nothing.
#
#   http[s]://host[:port]/segment/segment
#
# host: lower case, labels of [a-z0-9-] whose last begins with a letter, or an IPv4 address in four decimal numbers;
# segments of [A-Za-z0-9-._~], none empty, `.` or `..`. No user, query, fragment, percent sign, backslash or `[`. With
# one form, nobody who reads a URL can take it for another host's than we do (WHATWG's reader takes `0x7f.1` and
# `2130706433` for 127.0.0.1, RFC 3986's takes what is before an @ for a user).
from micropython import const

from sealband.update.refused import UpdateRefused
from sealwire import update as wire

JOINED_MAX = const(320)  # a URL of URL_MAX and a reference of as many
_HOST_MAX = const(253)
_LABEL_MAX = const(63)
_PORT_MAX = const(65535)
_PORTS = {"http": 80, "https": 443}
_LOWER = "abcdefghijklmnopqrstuvwxyz"
_DIGITS = "0123456789"
_SEGMENT = _LOWER + "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + _DIGITS + "-._~"


def _require(holds):
    if not holds:
        raise UpdateRefused(wire.HOST_REFUSED)


def _only(text, characters):
    for character in text:
        _require(character in characters)


# A decimal number without a leading zero; octal and decimal readers agree on it.
def _number(text, most):
    _require(0 < len(text) <= 5)
    _only(text, _DIGITS)
    _require(text == "0" or text[0] != "0")
    _require(int(text) <= most)
    return int(text)


def _host(text):
    _require(0 < len(text) <= _HOST_MAX)
    labels = text.split(".")
    if labels[-1][:1] in _LOWER:
        for label in labels:
            _require(0 < len(label) <= _LABEL_MAX)
            _only(label, _LOWER + _DIGITS + "-")
            _require(label[0] != "-" and label[-1] != "-")
    else:
        _require(len(labels) == 4)
        for label in labels:
            _number(label, 255)
    return text


def _path(text):
    for segment in text.split("/"):
        _require(segment not in ("", ".", ".."))
        _only(segment, _SEGMENT)


# (scheme, host, port) of scheme://host[:port]
def _origin(text):
    scheme, mark, rest = text.partition("://")
    _require(mark and scheme in _PORTS)
    host, mark, port = rest.partition(":")
    if not mark:
        return scheme, _host(host), _PORTS[scheme]
    number = _number(port, _PORT_MAX)
    _require(number > 0)
    return scheme, _host(host), number


# (scheme, host, port, path) of a URL, or UpdateRefused.
def parse(url, length_max=wire.URL_MAX):
    _require(type(url) is str and len(url) <= length_max)
    start = url.find("://")
    slash = url.find("/", start + 3)
    _require(start > 0 and slash > 0)
    _path(url[slash + 1 :])
    return _origin(url[:slash]) + (url[slash:],)


# The URL of what lies at `reference` in the folder of `url`'s file, or UpdateRefused. Never another host's.
def join(url, reference):
    parse(url)
    _require(type(reference) is str and len(reference) <= wire.URL_MAX)
    _path(reference)
    return url[: url.rfind("/") + 1] + reference


# Whether a URL's scheme, host and port are all those of one of the origins.
def allowed(url, origins, length_max=wire.URL_MAX):
    try:
        target = parse(url, length_max)[:3]
    except UpdateRefused:
        return False
    for origin in origins:
        try:
            if type(origin) is str and _origin(origin) == target:
                return True
        except UpdateRefused:
            pass  # provisioned wrongly: it allows nothing
    return False
