"""The device's client on a long-lived MicroPython, with limits short enough for tests. Not used by the product."""

from dataclasses import dataclass
from pathlib import Path

from tests.support.micropython import Micropython

# silence, window, rate, one document, one file: sealband.update.connection.Limits
QUICK = {"silence_ms": 800, "window_ms": 1200, "rate": 64, "get_ms": 4000, "download_ms": 8000}

SETUP = """
import gc, time
from sealband.update.fetch import FetchError, Limits, Source

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

def attempt(origins, ca, limits, name, *arguments):
    watch = Watch()
    source = Source(origins, ca, feed=watch.feed, limits=Limits(**limits))
    began = time.ticks_ms()
    try:
        value, code, status = getattr(source, name)(*arguments), 0, 0
    except FetchError as error:
        value, code, status = None, error.code, error.status
    passed = time.ticks_diff(time.ticks_ms(), began)
    watch.feed()
    return value, code, status, passed, watch.feeds, watch.longest_ms
"""


@dataclass
class Outcome:
    """What came of a fetch: its value, or a code of sealwire.update and the HTTP status."""

    value: bytes | int | None
    code: int
    status: int
    took_ms: int
    feeds: int
    longest_ms: int  # between two feeds of the watchdog


class Fetcher:
    """Evaluates `get` and `download` on MicroPython."""

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
