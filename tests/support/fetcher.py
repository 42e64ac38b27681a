"""The device's client on a long-lived MicroPython, with limits short enough for tests. Not used by the product."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.micropython import Micropython

# silence, window, rate, one document, one file: sealband.update.connection.Limits
QUICK = {"silence_ms": 800, "window_ms": 1200, "rate": 64, "get_ms": 4000, "download_ms": 8000}

SETUP = """
import gc, time
from sealband.update import body as delivery
from sealband.update.fetch import FetchError, Limits, Source
from sealband.update.refused import UpdateRefused

class Watch:
    # a watchdog that notes how it is fed
    def __init__(self):
        self.feeds = 0
        self.longest_ms = 0
        self.last = time.ticks_ms()

    def feed(self):
        now = time.ticks_ms()
        self.longest_ms = max(self.longest_ms, time.ticks_diff(now, self.last))
        self.last = now
        self.feeds += 1

# What is read as it comes: (place of the first byte, of the one behind the last, what came, whether that
# was all). inflated: sections, in pieces of 512 bytes
def come(source, url, at, limit, inflated=0, count=None, busy_ms=0):
    body = source.open(url, at, limit)
    first = body.tell()
    out = bytearray()
    try:
        if inflated:
            reader = delivery.Sections(body)
            piece = memoryview(bytearray(512))
            while inflated:
                part = piece[:min(512, inflated)]
                reader.readinto(part)
                out += part
                inflated -= len(part)
                if busy_ms:
                    time.sleep_ms(busy_ms)
        else:
            byte = bytearray(1)
            while len(out) != count and body.readinto(byte):
                out += byte
        return first, body.tell(), bytes(out), body.ended()
    finally:
        body.close()

Source.come = come

def attempt(origins, ca, limits, name, *arguments):
    watch = Watch()
    source = Source(origins, ca, feed=watch.feed, limits=Limits(**limits))
    began = time.ticks_ms()
    try:
        value, code, status = getattr(source, name)(*arguments), 0, 0
    except FetchError as error:
        value, code, status = None, error.code, error.status
    except UpdateRefused as error:
        value, code, status = None, error.code, 0
    passed = time.ticks_diff(time.ticks_ms(), began)
    watch.feed()
    return value, code, status, passed, watch.feeds, watch.longest_ms
"""


@dataclass
class Outcome:
    """What came of a fetch: its value, or a code of sealwire.update and the HTTP status."""

    value: Any
    code: int
    status: int
    took_ms: int
    feeds: int
    longest_ms: int  # between two feeds of the watchdog


class Fetcher:
    """Evaluates `get`, `download` and what reads `open` on MicroPython."""

    def __init__(self, *, heap: str | None = None) -> None:
        self.micropython = Micropython(heap=heap)
        self.micropython.run(SETUP)

    def get(
        self,
        url: str,
        limit: int = 4096,
        *,
        origins: list[str] | None = None,
        ca: bytes | None = None,
        **limits: int,
    ) -> Outcome:
        """`Source.get`; the URL's own origin is provisioned unless others are given."""
        return self._attempt(url, origins, ca, limits, f"'get', {url!r}, {limit}")

    def download(
        self,
        url: str,
        path: Path | str,
        limit: int = 1 << 20,
        *,
        origins: list[str] | None = None,
        ca: bytes | None = None,
        **limits: int,
    ) -> Outcome:
        """`Source.download`."""
        return self._attempt(url, origins, ca, limits, f"'download', {url!r}, {str(path)!r}, {limit}")

    def come(
        self,
        url: str,
        at: int = 0,
        limit: int = 1 << 20,
        *,
        inflated: int = 0,
        count: int | None = None,
        busy_ms: int = 0,
        origins: list[str] | None = None,
        ca: bytes | None = None,
        **limits: int,
    ) -> Outcome:
        """`Source.open`, read to its end or `count` bytes of it, or inflated to so many.

        Its value: place of the first byte, of the one behind the last, what came, whether that was all of the file.
        """
        call = f"'come', {url!r}, {at}, {limit}, {inflated}, {count}, {busy_ms}"
        return self._attempt(url, origins, ca, limits, call)

    def _attempt(
        self, url: str, origins: list[str] | None, ca: bytes | None, limits: dict[str, int], call: str
    ) -> Outcome:
        if origins is None:
            origins = ["/".join(url.split("/")[:3])]
        result = self.micropython.call(f"attempt({origins!r}, {ca!r}, {QUICK | limits!r}, {call})")
        return Outcome(*result)

    def close(self) -> None:
        """End the interpreter."""
        self.micropython.close()

    def __enter__(self) -> "Fetcher":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
