"""The commands `gateway run` and `sim ether` as processes: what they say, how they end."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from host_tools.gateway.broker import EmbeddedBroker
from host_tools.sim.clock import ENVIRONMENT, SimClock
from host_tools.sim.ether import EtherClient, RadioParams

EUI = "aa555a0000000101"
COMMAND = (sys.executable, "-c", "from host_tools.cli import main; main()")


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The command with `--json`, and the first line that it prints."""
    process = subprocess.Popen(
        [*COMMAND, *arguments, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate(timeout=5)[1]
        yield process, json.loads(line)
    finally:
        process.kill()
        process.communicate()


def end(process: subprocess.Popen[str], number: int) -> list[dict[str, Any]]:
    """Send the signal, and return the lines that follow."""
    process.send_signal(number)
    output, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")
    return [json.loads(line) for line in output.splitlines()]


def refused(*arguments: str) -> tuple[int, str]:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ether_and_gateway_work_together_and_end_well(number: int) -> None:
    with (
        EmbeddedBroker() as broker,
        running("gateway", "run", "--listen", "127.0.0.1:0", "--mqtt", f"127.0.0.1:{broker.port}") as (bridge, serving),
        running("sim", "ether", "--speed", "20", "--gateway", f"{EUI}@127.0.0.1:{serving['udp'][1]}") as (ether, air),
    ):
        assert serving["event"] == air["event"] == "serving"
        clock = SimClock(*(float(part) for part in air["environment"][ENVIRONMENT].split(",")))
        with EtherClient(tuple(air["address"]), "band", clock) as band:
            for number_sent in range(3):
                report = band.transmit(b"\xe0" + bytes([number_sent]) * 20, RadioParams(868_100_000, 7))
                clock.sleep_until(report.end + 2)
        (on_air,) = end(ether, number)
        (passed,) = end(bridge, number)
    assert on_air["senders"]["band"]["packets"] == on_air["delivered"] == 3
    assert (passed["uplinks"], passed["refused"]) == (3, {})
    assert passed["gateways"][EUI]["uplinks"] == 3


def test_it_ends_with_one_line_when_the_broker_is_not_there() -> None:
    status, said = refused("gateway", "run", "--listen", "127.0.0.1:0", "--mqtt", "127.0.0.1:1")
    assert status == 1
    assert said.splitlines() == [
        "error: the MQTT broker at 127.0.0.1:1 does not take us: Connection refused",
        "to do: start it, and check its address, password and access rules",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--listen", "127.0.0.1"),
        ("--listen", "127.0.0.1:70000"),
        ("--mqtt", ":1883"),
        ("--mqtt", "broker:0"),
        ("--gateway", "aa555a000000010"),
        ("--gateway", "aa555a0000000101@300.0.0.0/8"),
        ("--gateway", "aa555a0000000101@10.0.0.1/8"),
        ("--report", "0"),
    ],
)
def test_options_that_make_no_sense_are_used_wrongly(arguments: tuple[str, str]) -> None:
    status, said = refused("gateway", "run", *arguments)
    assert status == 2
    assert arguments[0] in said


def test_a_gateways_name_may_be_written_as_its_label_has_it() -> None:
    with EmbeddedBroker() as broker:
        listen = ("--listen", "127.0.0.1:0", "--mqtt", f"127.0.0.1:{broker.port}")
        with running("gateway", "run", *listen, "--gateway", "AA:55:5A:00:00:00:01:01@127.0.0.0/8") as (process, _):
            end(process, signal.SIGTERM)


def test_a_taken_port_of_the_ether_is_said_to_be_taken() -> None:
    with running("sim", "ether") as (_, air):
        status, said = refused("sim", "ether", "--port", str(air["address"][1]))
    assert status == 1
    assert "in use" in said


def test_the_ether_takes_its_clock_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimClock(1000.0, 2000.0, 7.0)
    monkeypatch.setitem(os.environ, ENVIRONMENT, clock.to_environment()[ENVIRONMENT])
    with running("sim", "ether") as (_, air):
        assert air["environment"] == clock.to_environment()
