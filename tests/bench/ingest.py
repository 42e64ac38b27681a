"""Frames a second from MQTT to committed, by one ingest process; whatever feeds it is a process of its own.

As a child process: `python -m tests.bench.ingest send FILE PORT` publishes what FILE holds to a broker, `… broker` is
the embedded broker, and `… peer FILE` speaks MQTT to one client and delivers what FILE holds, `WINDOW` at a time.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cbor2
import paho.mqtt.client as mqtt

from host_tools.gateway.broker import EmbeddedBroker, MosquittoBroker
from tests.bench.figure import Figure
from tests.support.mqtt_peer import MqttPeer, wait

FRAMES = 16_000
FRAMES_BY_AMQTT = 3_000
DEVICES = 100
PATIENCE_S = 60
WINDOW = 1000  # messages that wait for their acknowledgement


def figures() -> list[Figure]:
    """Telemetry of 100 devices, seven values a frame; every frame is new, and all devices are answered."""
    name = "ingest, frames from MQTT to committed, one process"
    if MosquittoBroker.available():
        with MosquittoBroker() as broker:
            rate, note = _measure(FRAMES, broker.port)
        note = f"by mosquitto; {note}"
    else:
        rate, note = _measure(FRAMES, None)
        note = f"mosquitto is not installed: by a client of our own that speaks a broker's MQTT; {note}"
    with _child("broker") as (broker_process, port):
        slower, how = _measure(FRAMES_BY_AMQTT, port)
        assert broker_process.stdin is not None
        broker_process.stdin.close()
    return [
        Figure(name, rate, 2000, at_least=True, unit="/s", note=note),
        Figure("the same by the demo's broker", slower, unit="/s", note=f"amqtt, a process of its own; {how}"),
    ]


def _measure(count: int, port: int | None) -> tuple[float, str]:
    """Frames a second through the broker at that port, or (None) from a peer that delivers them itself."""
    from tests.support.fleet import Fleet, models, telemetry, uplink, worker

    with tempfile.TemporaryDirectory(prefix="sealband-bench-") as name:
        folder = Path(name)
        fleet = Fleet(folder)
        wearables = [fleet.add() for _ in range(DEVICES)]
        plaintext = telemetry(72, 73, 71, 74, 72, 70, 69)
        frames = [wearables[index % DEVICES].seal(plaintext) for index in range(count)]
        file = folder / "messages"
        file.write_bytes(cbor2.dumps([list(uplink(frame)) for frame in frames]))
        command = ("send", str(file), str(port)) if port else ("peer", str(file))
        with ExitStack() as open_things:
            if not port:
                _, port = open_things.enter_context(_child(*command))
            # the fleet's clock stands still, so no answer comes too late
            ingest = worker.IngestWorker("127.0.0.1", port, fleet.vault, fleet.clock)
            open_things.enter_context(ingest)
            if command[0] == "send":
                open_things.enter_context(_child(*command))
            started = time.perf_counter()
            while ingest.statistics().stored < count and time.perf_counter() < started + PATIENCE_S:
                time.sleep(0.005)
            took_s = time.perf_counter() - started
        done, stored = ingest.statistics(), models.Frame.objects.count()
        fleet.close()
    if stored != count:
        raise RuntimeError(f"{stored} of {count} frames were stored in {PATIENCE_S} s")
    note = f"{count} frames in {done.batches} transactions, SQLite synchronous=FULL; {done.synced} answers"
    return stored / took_s, note


@contextmanager
def _child(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """This module as a child process, and the number that it prints when it is ready."""
    command = [sys.executable, "-m", "tests.bench.ingest", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield process, int(process.stdout.readline())
            process.wait(PATIENCE_S)
        finally:
            process.kill()


def _serve() -> None:
    with EmbeddedBroker() as broker:
        print(broker.port, flush=True)
        sys.stdin.read()


def _send(file: str, port: str) -> None:
    messages = cbor2.loads(Path(file).read_bytes())
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(WINDOW)
    client.connect("127.0.0.1", int(port))
    client.loop_start()
    print(0, flush=True)
    waiting = []
    for topic, payload in messages:
        waiting.append(client.publish(topic, payload, qos=1))
        if len(waiting) >= WINDOW:
            for sent in waiting[: WINDOW // 2]:
                sent.wait_for_publish()
            del waiting[: WINDOW // 2]
    for sent in waiting:
        sent.wait_for_publish()
    client.disconnect()
    client.loop_stop()


def _deliver(file: str) -> None:
    messages = cbor2.loads(Path(file).read_bytes())
    with MqttPeer() as peer:
        print(peer.port, flush=True)
        for index, (topic, payload) in enumerate(messages):
            while index - len(peer.acked) >= WINDOW:
                time.sleep(0.001)
            peer.deliver(topic, payload, index % 65535 + 1)
        assert wait(lambda: len(peer.acked) == len(messages), PATIENCE_S)


if __name__ == "__main__":
    {"send": _send, "broker": _serve, "peer": _deliver}[sys.argv[1]](*sys.argv[2:])
