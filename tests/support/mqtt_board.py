"""The device's MQTT link on a long-lived MicroPython with real sockets. Not used by the product."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from sealwire import update as wire
from sealwire.messages import EPOCH_2025
from tests.support.authority import Authority, common_name
from tests.support.micropython import ROOT, Micropython

EUI = "24a160fffe123456"

SETUP = """
import gc, sys, time
from sealband.links.base import LinkError

class Bearer:
    name = "wifi"
    grade = 0
    def __init__(self):
        self.calls = []
        self.says = None
    def up(self):
        self.calls.append("up")
        yield 1
    def down(self):
        self.calls.append("down")
        return ()
    def ready(self):
        return True
    def time(self):
        return self.says

class Store:
    def __init__(self, records):
        self.records = records
    def load(self, name):
        return self.records.get(name)

class Clock:
    valid = True
    skew_s = 0
    def now(self):
        return int(time.time()) - EPOCH_2025 + self.skew_s
    def uptime_ms(self):
        return time.ticks_ms()

class Machine:
    set_to = []
    class RTC:
        def datetime(self, parts):
            Machine.set_to.append(parts)

sys.modules["machine"] = Machine
longest_ms = took_ms = 0

# Drive a generator of pauses: (what came of it, or the error's text)
def drive(steps):
    global longest_ms, took_ms
    longest_ms = 0
    began = last = time.ticks_ms()
    try:
        while True:
            pause_ms = next(steps)
            now = time.ticks_ms()
            longest_ms = max(longest_ms, time.ticks_diff(now, last))
            assert type(pause_ms) is int and 0 <= pause_ms <= 100, pause_ms
            time.sleep_ms(pause_ms)
            last = time.ticks_ms()
    except StopIteration as end:
        value = end.value
    except LinkError as error:
        value = str(error)
    took_ms = time.ticks_diff(time.ticks_ms(), began)
    longest_ms = max(longest_ms, time.ticks_diff(time.ticks_ms(), last))
    return value

def make(records, ntp=None):
    global link, bearer, clock
    from sealband.links import mqtt
    bearer, clock = Bearer(), Clock()
    link = mqtt.Mqtt(None, bearer, ntp=ntp)
    link.open(Store(records), clock, None, lambda n: n // 2)
"""

# the publisher's own waits, in ms, and what they are where a test waits for their end
QUICK = {
    "_WRITE_MS = const(30000)": 1500,
    "_ANSWER_MS = const(20000)": 800,
    "_LISTEN_MS = const(10000)": 1200,
    "_QUIET_MS = const(500)": 500,
}


def library(folder: Path, quick: dict[str, int] = QUICK) -> Path:
    """A copy of the device's library whose publisher is impatient, and that is provisioned in the folder."""
    shutil.copytree(ROOT / "device" / "lib", folder / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    changes = {line: f"{line.split(' = ')[0]} = const({ms})" for line, ms in quick.items()}
    _change(folder / "lib" / "sealband" / "links" / "publisher.py", changes)
    _change(folder / "lib" / "sealband" / "links" / "ntp.py", {"_ANSWER_MS = const(2000)": "_ANSWER_MS = const(500)"})
    path = {'PATH = "/update/provision"': f"PATH = {str(folder / 'provision')!r}"}
    _change(folder / "lib" / "sealband" / "provision.py", path)
    return folder / "lib"


def _change(source: Path, changes: dict[str, str]) -> None:
    text = source.read_text()
    for line, other in changes.items():
        assert text.count(line) == 1
        text = text.replace(line, other)
    source.write_text(text)


class MqttBoard:
    """A device with an identity, a TLS key and its certificate, on the other side of a pipe."""

    def __init__(
        self,
        folder: Path,
        *,
        heap: str | None = None,
        quick: dict[str, int] = QUICK,
        compiled: Callable[[Path, Path, str, int], None] | None = None,
    ) -> None:
        self.provisioned = folder / "provision"
        modules = library(folder, quick)
        if compiled:
            for source in modules.rglob("*.py"):
                compiled(source, source.with_suffix(".mpy"), source.relative_to(modules).as_posix(), 3)
                source.unlink()
        self.micropython = Micropython(path=[modules], heap=heap)
        self.micropython.run(f"EPOCH_2025 = {EPOCH_2025}\n{SETUP}")

    def begin(
        self,
        authority: Authority,
        port: int,
        *,
        host: str = "localhost",
        key: ec.EllipticCurvePrivateKey | None = None,
        certificate: x509.Certificate | None = None,
        ca: bytes | None = None,
        eui: str = EUI,
        ntp: tuple[str, int] | None = None,
        first: tuple[str, ...] = (),
    ) -> None:
        """A start of the board; it is certified by the authority unless it is given a certificate.

        `first`: what is executed when all is there but the link.
        """
        key = key or ec.generate_private_key(ec.SECP256R1())
        certificate = certificate or authority.sign(key.public_key(), common_name(eui))
        self.provisioned.write_bytes(
            cbor2.dumps(
                {
                    wire.PROVISION_VENDOR: bytes(16),
                    wire.PROVISION_CLASS: bytes(16),
                    wire.PROVISION_ORIGINS: [],
                    wire.PROVISION_WIFI: ["ward", "password"],
                    wire.PROVISION_CA: authority.der if ca is None else ca,
                    wire.PROVISION_BROKER: [host, port],
                },
                canonical=True,
            )
        )
        private = key.private_numbers().private_value.to_bytes(32, "big")
        tls = b"\x01" + private + certificate.public_bytes(Encoding.DER)
        records = {"tls": tls, "chain": b"\x01" + bytes.fromhex(eui) + bytes(40)}
        for statement in (f"records = {records!r}", *first):
            self.micropython.run(statement)
        self.micropython.run(f"make(records, {ntp!r})")

    def call(self, expression: str) -> Any:
        """The value of an expression there."""
        return self.micropython.call(expression)

    def drive(self, expression: str) -> Any:
        """What comes of a generator of pauses, or the text of a LinkError."""
        return self.micropython.call(f"drive({expression})")

    def connect(self) -> str | None:
        """Connect; None, or why that came to nothing."""
        refusal: str | None = self.drive("link.connect()")
        assert self.call("link.client is None") is (refusal is not None)
        return refusal

    def close(self) -> None:
        """End the interpreter."""
        self.micropython.close()

    def __enter__(self) -> "MqttBoard":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
