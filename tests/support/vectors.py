"""Reads the NIST and RFC vector files of PyPI's `cryptography_vectors`; knows their layout, tests nothing."""

from collections.abc import Iterator
from importlib.resources import files


def lines(path: str) -> Iterator[str]:
    """The lines of a vector file, without comments; `path` is relative to the package."""
    text = files("cryptography_vectors").joinpath(path).read_text(encoding="utf-8")
    for line in text.splitlines():
        line = line.strip()
        if not line.startswith("#"):
            yield line


def cases(path: str, last: str, section: str = "") -> Iterator[dict[str, str]]:
    """The test cases of a "name = value" file.

    Args:
        path: relative to the package.
        last: the name whose line completes a case; what stood before it holds for the following cases too.
        section: only what follows the heading "[section]", up to the next heading that is neither a value nor a
            method of key generation ("[B.4.2 …]").

    Yields:
        Name → value, with the values of the headings ("[Alen = 0, Plen = 24]") among them.
    """
    values: dict[str, str] = {}
    inside = not section
    for line in lines(path):
        if line.startswith("["):
            heading = line.strip("[]")
            if "=" not in heading and not heading.startswith("B.4."):
                inside = not section or heading == section
            line = heading
        for part in line.split(",") if line.count("=") > 1 else [line]:
            name, found, value = part.partition("=")
            if found and inside:
                values[name.strip()] = value.strip()
                if name.strip() == last:
                    yield dict(values)
