"""A fleet with rollouts, and wearables that answer orders as a device does. For tests of commands and rollouts.

Import it before anything of `host_tools.rollout` that has models, and take those from here: it connects Django.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provisioning import registry
from tests.support.fleet import Clock, Fleet, Wearable, downlink, message, own_topic, process, telemetry, uplink

APPS = ("host_tools.ingest", "host_tools.rollout")
registry.setup(":memory:", extra_apps=APPS)

from host_tools.ingest import commands  # noqa: E402
from host_tools.ingest.commands import Commands, Order  # noqa: E402
from host_tools.ingest.lifecycle import Lifecycle  # noqa: E402
from host_tools.ingest.models import Command, Contact  # noqa: E402
from host_tools.rollout import overview  # noqa: E402
from host_tools.rollout.dispatch import Dispatch  # noqa: E402
from host_tools.rollout.errors import RolloutError  # noqa: E402
from host_tools.rollout.models import Release, Rollout, RolloutDevice  # noqa: E402
from host_tools.rollout.published import Published  # noqa: E402
from host_tools.rollout.service import Rollouts  # noqa: E402
from host_tools.rollout.tracker import Tracker  # noqa: E402
from provisioning.registry import devices  # noqa: E402
from provisioning.registry.errors import RegistryError  # noqa: E402

__all__ = [
    "Command",
    "Commands",
    "Contact",
    "Dispatch",
    "Lifecycle",
    "Order",
    "RegistryError",
    "Release",
    "Rollout",
    "RolloutDevice",
    "RolloutError",
    "Tracker",
    "commands",
    "devices",
    "downlink",
    "message",
    "overview",
    "own_topic",
    "process",
    "telemetry",
    "uplink",
]

MODEL = "test-band"
URL = "https://updates.example/test-band/7/manifest.suit"
DIGEST = bytes(range(32))


class RolloutFleet(Fleet):
    """A registry with the tables of rollouts; `server` is the intake of a worker that serves them."""

    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        super().__init__(folder, clock)
        registry.setup(self.path, extra_apps=APPS)
        registry.migrate()
        self.rollouts = Rollouts(self.vault, "tester", self.clock)
        self.tracker = Tracker(self.vault, self.clock)
        self.server = self.intake(observers=[self.tracker])

    def wear(self, model: str = MODEL, **options: Any) -> "Board":
        """A device that knows how to update itself."""
        return Board(self, self.add(model=model), **options)

    def state(self, board: "Board", rollout: int | None = None) -> str:
        """How far the device is in its newest rollout, or in this one."""
        rows = RolloutDevice.objects.filter(device_id=board.wearable.pk)
        row = (rows.filter(rollout_id=rollout) if rollout else rows).order_by("-rollout_id").first()
        return row.state + (f": {row.reason}" if row.reason else "") if row else ""


def release(sequence: int = 7, model: str = MODEL, **changes: Any) -> Published:
    """A release as if it had been published."""
    fields: dict[str, Any] = {
        "model": model,
        "component": "app",
        "sequence": sequence,
        "version": f"1.{sequence}",
        "manifest_digest": bytes([sequence % 256]) + DIGEST[1:],
        "image_digest": bytes([sequence % 256]) * 32,
        "size": 102400,
        "url": f"https://updates.example/{model}/{sequence}/manifest.suit",
    }
    return Published(**{**fields, **changes})


@dataclass
class Board:
    """A wearable that opens its answers and does what they say, in the words of the wire format.

    Attributes:
        result: result code of its receipts.
        deaf: it misses all answers.
        heard: the items of each answer, syncs and commands.
        runs: release sequence that it runs.
    """

    fleet: RolloutFleet
    wearable: Wearable
    epoch: int = 0
    result: int = 0
    deaf: bool = False
    own_topic: bool = False
    data_rate: str = "SF7BW125"
    runs: int = 1
    heard: list[list[Any]] = field(default_factory=list)
    queue: list[bytes] = field(default_factory=list)  # plaintexts

    def send(self, plaintext: bytes | None = None) -> list[Any] | None:
        """Send one message (a reading, if nothing is given and nothing queued), and take the answer: its items."""
        if plaintext is None:
            plaintext = self.queue.pop(0) if self.queue else telemetry(70)
        return self.deliver(self.wearable.seal(plaintext, self.epoch))

    def deliver(self, frame: bytes) -> list[Any] | None:
        """Bring a frame to the server, and take the answer."""
        topic_and_payload = own_topic(self.wearable, frame) if self.own_topic else self.over_lora(frame)
        outcome = process(self.fleet.server, topic_and_payload)
        if not outcome.publications or self.deaf:
            return None
        (publication,) = outcome.publications
        sealed = publication[1] if self.own_topic else downlink(publication).frame
        ctr, items = self.wearable.open(sealed, self.epoch)
        self.heard.append(items)
        self.act(ctr, items)
        return items

    def over_lora(self, frame: bytes) -> tuple[str, bytes]:
        from host_tools.gateway.envelope import Uplink, uplink_topic
        from tests.support.fleet import GATEWAY

        heard = Uplink(
            frame=frame,
            gateway=GATEWAY,
            rssi=-71.0,
            snr=7.5,
            frequency_hz=868_100_000,
            data_rate=self.data_rate,
            region="EU868",
            context=bytes.fromhex("00000f4240"),
            received_at=self.fleet.clock.now,
        )
        return uplink_topic(GATEWAY), heard.to_bytes()

    def act(self, ctr: int, items: list[Any]) -> None:
        if items[0] in (17, 18):
            self.queue.append(message(4, ctr, self.result))
        if items[0] == 18 and self.result == 0:
            self.queue.append(self.report(1, release=items[1]))
        if items[0] == 21:
            self.queue.append(self.status())

    def report(self, state: int, code: int = 0, release: int = 7) -> bytes:
        return message(3, release, state, code)

    def status(self, release: int | None = None, digest: bytes | None = None) -> bytes:
        fields: dict[int, Any] = {1: 77, 4: self.runs if release is None else release}
        if digest is not None:
            fields[3] = digest[:8]
        return message(2, 1, fields)

    def contacts(self, count: int, apart_s: float = 600) -> list[int]:
        """So many frames, one every ten minutes; the types of the answers."""
        kinds = []
        for _ in range(count):
            answer = self.send()
            kinds.append(answer[0] if answer else None)
            self.fleet.clock.now += apart_s
        return kinds


def eui() -> bytes:
    """Of a device that is not there."""
    return b"\x06" + os.urandom(7)
