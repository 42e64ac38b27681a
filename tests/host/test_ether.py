"""The ether's server and client: real sockets and threads, virtual time."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from host_tools.sim.clock import SimClock
from host_tools.sim.ether import LINE_MAX, Ether, EtherClient, EtherError, RadioParams, Reception
from host_tools.sim.medium import Medium

SPEED = 20.0
UP = RadioParams(868_100_000, 7)
DOWN = replace(UP, invert_iq=True)
CHANNELS_HZ = (868_100_000, 868_300_000, 868_500_000)
PACKET = b"\xe0" + bytes(19)


@pytest.fixture
def ether() -> Iterator[Ether]:
    with Ether(SimClock.start(SPEED)) as running:
        yield running


def join(ether: Ether, name: str) -> EtherClient:
    assert ether.address is not None
    return EtherClient(ether.address, name, ether.clock)


def wait_until(true: object, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def test_a_gateway_hears_all_channels_and_spreading_factors(ether: Ether) -> None:
    heard: list[Reception] = []
    with join(ether, "gateway") as gateway, join(ether, "band") as band:
        gateway.listen(CHANNELS_HZ, heard.append)
        reports = []
        for number, (frequency_hz, sf) in enumerate([(CHANNELS_HZ[0], 7), (CHANNELS_HZ[1], 9), (CHANNELS_HZ[2], 12)]):
            reports.append(band.transmit(PACKET + bytes([number]), replace(UP, frequency_hz=frequency_hz, sf=sf)))
            ether.clock.sleep_until(reports[-1].end)
        band.transmit(PACKET, replace(UP, frequency_hz=869_525_000))  # not its channel
        wait_until(lambda: len(heard) == 3)
    assert [(h.packet[-1], h.params.frequency_hz, h.params.sf, h.at) for h in heard] == [
        (n, CHANNELS_HZ[n], sf, report.end) for n, (sf, report) in enumerate(zip((7, 9, 12), reports, strict=True))
    ]


def test_a_packet_is_not_heard_before_it_has_ended(ether: Ether) -> None:
    with join(ether, "one") as one, join(ether, "two") as two:
        report = one.transmit(PACKET, replace(UP, sf=12))
        heard = two.receive(replace(UP, sf=12), 10.0, start=report.start)
        assert heard is not None
        assert ether.clock.now() >= heard.at == report.end


def test_a_planned_downlink_is_heard_in_the_window_that_covers_it(ether: Ether) -> None:
    with join(ether, "gateway") as gateway, join(ether, "band") as band:
        due = ether.clock.now() + 8.0
        assert gateway.transmit(PACKET, DOWN, at=due).start == due
        ether.clock.sleep_until(due - 1)
        heard = band.receive(DOWN, 2.0)
        assert heard is not None
        assert heard.packet == PACKET


def test_a_receive_that_reaches_the_server_late_hears_what_its_window_covers(ether: Ether) -> None:
    with join(ether, "gateway") as gateway, join(ether, "band") as band:
        opened = ether.clock.now()
        report = gateway.transmit(PACKET, DOWN, at=opened + 0.1)
        ether.clock.sleep_until(report.end + 3)  # the request was held up for 150 ms of real time
        heard = band.receive(DOWN, 1.0, start=opened)
        assert heard is not None
        assert heard.at == report.end


def test_a_receiver_that_switched_on_a_little_late_hears_by_slack_only() -> None:
    for slack_s, expected in ((0.5, True), (0.0, False)):
        with (
            Ether(SimClock.start(SPEED), slack_s=slack_s) as ether,
            join(ether, "g") as gateway,
            join(ether, "b") as band,
        ):
            report = gateway.transmit(PACKET, DOWN)
            ether.clock.sleep_until(report.end + 1)
            assert (band.receive(DOWN, 0.5) is not None) is expected


def test_a_downlink_that_comes_in_late_is_heard_as_if_in_time(ether: Ether) -> None:
    with join(ether, "gateway") as gateway, join(ether, "band") as band, ThreadPoolExecutor(1) as pool:
        opened = ether.clock.now()
        waiting = pool.submit(band.receive, DOWN, 1.0, opened)
        ether.clock.sleep_until(opened + 1.5)  # the window is over, but not its slack
        gateway.transmit(PACKET, DOWN, at=opened + 0.5)
        heard = waiting.result(5)
        assert heard is not None
        assert opened + 0.5 < heard.at < opened + 0.7


def test_an_empty_window_ends(ether: Ether) -> None:
    with join(ether, "band") as band:
        begun = time.monotonic()
        assert band.receive(DOWN, 4.0) is None
        assert 0.2 <= time.monotonic() - begun < 2


def test_a_spoilt_packet_does_not_end_the_window() -> None:
    with Ether(SimClock.start(SPEED), medium=Medium(fading_db=0)) as ether:
        with join(ether, "a") as a, join(ether, "b") as b, join(ether, "c") as c:
            now = ether.clock.now()
            for sender in (a, b):
                sender.transmit(PACKET, UP, at=now + 1)  # collide
            a.transmit(b"second", UP, at=now + 2)
            heard = c.receive(UP, 5.0)
            assert heard is not None
            assert heard.packet == b"second"
        assert ether.statistics()["lost"]["collision"] == 2


def test_the_regulators_view_and_the_hook(ether: Ether) -> None:
    seen: list[bytes] = []
    ether.on_transmission.append(lambda sent: seen.append(sent.packet))
    with join(ether, "band") as band:
        for _ in range(3):
            report = band.transmit(PACKET, UP)
            ether.clock.sleep_until(report.end)  # sleeps on both sides may differ by a trifle
        ether.clock.sleep(1)
        sender = ether.statistics()["senders"]["band"]
    assert seen == [sent.packet for sent in ether.transmissions] == [PACKET] * 3
    assert sender["packets"] == 3
    assert sender["airtime_s"] == sender["busiest_hour_s"] == pytest.approx(3 * 0.056576)


def test_refusals_reach_the_caller_and_are_counted(ether: Ether) -> None:
    with join(ether, "band") as band:
        band.transmit(PACKET, replace(UP, sf=12))
        for packet, params, reason in ((PACKET, UP, "busy"), (b"", UP, "size"), (bytes(256), UP, "size")):
            with pytest.raises(EtherError) as refusal:
                band.transmit(packet, params)
            assert refusal.value.reason == reason
        with pytest.raises(EtherError) as refusal:
            band.transmit(PACKET, UP, at=ether.clock.now() + 1e6)
        assert refusal.value.reason == "time"
    assert ether.statistics()["refused"] == {"busy": 1, "size": 2, "time": 1}


def test_closing_wakes_who_waits(ether: Ether) -> None:
    band = join(ether, "band")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(band.receive, UP, 3600.0)
        time.sleep(0.1)
        band.close()
        with pytest.raises(EtherError, match="gone"):
            waiting.result(5)
    with pytest.raises(EtherError, match="closed"):
        band.transmit(PACKET, UP)


def test_the_end_of_the_ether_wakes_who_waits() -> None:
    ether = Ether(SimClock.start(SPEED))
    ether.start()
    before = threading.active_count()
    with ThreadPoolExecutor(1) as pool:
        band = join(ether, "band")
        waiting = pool.submit(band.receive, UP, 3600.0)
        time.sleep(0.1)
        ether.stop()
        with pytest.raises(EtherError):
            waiting.result(5)
        band.close()
    assert threading.active_count() < before
    with pytest.raises(EtherError, match="no ether"):
        EtherClient(("127.0.0.1", 1), "band", ether.clock)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not json",
        b"[]",
        b"5",
        b'{"id":"x","op":"transmit"}',
        b'{"id":1}',
        b'{"id":1,"op":"explode"}',
        b"[" * 4000,
        b'{"id":1,"op":"hello","name":""}',
        b'{"id":1,"op":"hello","name":"\\u001b[2J"}',
        b'{"id":1,"op":"transmit","packet":"zz","params":{},"at":0}',
        b'{"id":1,"op":"transmit","packet":"e0","params":{"frequency_hz":868100000,"sf":7},"at":NaN}',
        b'{"id":1,"op":"transmit","packet":"e0","params":{"frequency_hz":868100000,"sf":7},"at":1e400}',
        b'{"id":1,"op":"transmit","packet":"e0","params":{"frequency_hz":1e99,"sf":7},"at":0}',
        b'{"id":1,"op":"receive","params":{"frequency_hz":868100000,"sf":7},"start":0,"end":0}',
        b'{"id":1,"op":"receive","params":5,"start":null,"end":[]}',
        b'{"id":1,"op":"listen","frequencies_hz":[%s]}' % b",".join([b"868100000"] * 17),
        b'{"id":1,"op":"listen","frequencies_hz":[[]],"bw_hz":125000,"sync_word":52,"invert_iq":false}',
        b'{"id":1' + b"0" * 3900 + b',"op":"hello"}',
    ],
)
def test_a_line_that_is_no_request_is_refused_and_the_session_goes_on(ether: Ether, line: bytes) -> None:
    assert ether.address is not None
    with socket.create_connection(ether.address) as raw, raw.makefile("rwb") as lines:
        for request in (b'{"id":0,"op":"hello","name":"x"}', line, b'{"id":2,"op":"hello","name":"x"}'):
            lines.write(request + b"\n")
        lines.flush()
        answers = [json.loads(lines.readline()) for _ in range(3)]
    assert answers[0] == {"id": 0}
    assert "error" in answers[1]
    assert answers[2] == {"id": 2}
    assert sum(ether.statistics()["refused"].values()) == 1


def test_a_line_without_an_end_closes_its_session_only(ether: Ether) -> None:
    assert ether.address is not None
    with join(ether, "a") as a, join(ether, "b") as b, socket.create_connection(ether.address) as raw:
        with contextlib.suppress(OSError):
            raw.sendall(b"x" * (4 * LINE_MAX))
        raw.settimeout(5)
        with contextlib.suppress(ConnectionError):
            assert raw.recv(1) == b""
        report = a.transmit(PACKET, UP)
        assert b.receive(UP, 1.0, start=report.start) is not None


def test_one_session_cannot_wait_for_too_much(ether: Ether) -> None:
    with join(ether, "band") as band, ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(band.receive, UP, 20.0) for _ in range(20)]
        outcomes = [future.exception(10) for future in waiting]
    assert sum(isinstance(outcome, EtherError) for outcome in outcomes) == 4


def test_twenty_times_speed_on_a_busy_machine_loses_nothing(ether: Ether) -> None:
    """Every uplink is answered 5 s later (250 ms of real time) while other processes keep all cores busy."""
    spin = "while True: pass"
    burners = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(3)]
    try:
        with join(ether, "gateway") as gateway, join(ether, "band") as band:
            gateway.listen(
                CHANNELS_HZ,
                lambda heard: threading.Thread(
                    target=gateway.transmit, args=(b"\xe1" + heard.packet, DOWN, heard.at + 5)
                ).start(),
            )
            for number in range(10):
                packet = bytes([0xE0, number]) + bytes(30)
                report = band.transmit(packet, UP)
                ether.clock.sleep_until(report.end + 4.9)
                heard = band.receive(DOWN, 0.3)
                assert heard is not None
                assert heard.packet == b"\xe1" + packet
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
