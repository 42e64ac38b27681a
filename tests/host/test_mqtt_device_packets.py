"""The device's MQTT packets, on MicroPython, against amqtt's, which another hand has written."""

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest
from amqtt.adapters import BufferReader
from amqtt.mqtt import packet_class
from amqtt.mqtt.connack import ConnackPacket
from amqtt.mqtt.packet import MQTTFixedHeader, MQTTPacket, PacketIdVariableHeader
from amqtt.mqtt.pingresp import PingRespPacket
from amqtt.mqtt.puback import PubackPacket
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.suback import SubackPacket, SubackPayload

from tests.support.micropython import Micropython

TOPICS = ("sb/v1/d/24a160fffe123456/up", "a", "ä/𪛔")
PAYLOADS = [random.Random(5).randbytes(length) for length in (0, 1, 60, 99, 100, 127, 128, 255)]


@pytest.fixture(scope="module")
def device() -> Iterator[Micropython]:
    with Micropython() as device:
        device.run("from sealband.links import dial, publisher")
        device.run(
            """
def text(data):
    return len(data).to_bytes(2, "big") + data
class Stream:
    heard = b""
    def write(self, data):
        self.heard += data
        return len(data)
    def readinto(self, view):
        return None
def said(steps):
    client = publisher.Publisher(text(UP), DOWN)
    client.ip.stream = Stream()
    client._number = NUMBER
    next(steps(client), None)
    return client.ip.stream.heard
def taken(data):
    at, end = publisher.extent(data, len(data))
    assert end == len(data)
    return publisher.message(data[0], data[at:end])
"""
        )
        yield device


def read(data: bytes) -> tuple[Any, bytes]:
    """The packet that amqtt reads first, and what is behind it."""

    async def parse() -> tuple[Any, bytes]:
        reader = BufferReader(data)
        header = await MQTTFixedHeader.from_stream(reader)
        assert header
        packet = await packet_class(header).from_stream(reader, fixed_header=header)
        return packet, await reader.read()

    return asyncio.run(parse())


@pytest.mark.parametrize("topic", TOPICS)
def test_what_the_device_publishes_is_what_amqtt_reads(device: Micropython, topic: str) -> None:
    for payload in PAYLOADS:
        for number in (1, 255, 256, 65535):
            device.run(f"UP, DOWN, NUMBER = {topic.encode()!r}, b'', {number - 1}")
            packet, rest = read(device.call(f"said(lambda client: client.publish({payload!r}))"))
            assert isinstance(packet, PublishPacket) and rest == b""
            assert (packet.topic_name, packet.data, packet.packet_id) == (topic, payload, number)
            assert (packet.qos, packet.dup_flag, packet.retain_flag) == (1, False, False)


def test_how_the_device_connects_is_what_amqtt_reads(device: Micropython) -> None:
    """CONNECT and SUBSCRIBE at once: client id, session kept, keepalive; no will, no user, no password."""
    device.run(
        """
class Fake:
    stream = Stream()
    def begin(self, host, port): pass
    def made(self, ms, context, host): return True
    def close(self): pass
from sealband.links import ip
ip.Connection = Fake
steps = dial.connect(b"24a160fffe123456", "host", 8883, None)
next(steps)
"""
    )
    connect, rest = read(device.call("Fake.stream.heard"))
    assert (connect.proto_name, connect.proto_level, connect.keep_alive) == ("MQTT", 4, 60)
    assert (connect.client_id, connect.clean_session_flag) == ("24a160fffe123456", False)
    assert not any((connect.will_flag, connect.username_flag, connect.password_flag, connect.reserved_flag))
    subscribe, rest = read(rest)
    assert subscribe.payload.topics == [("sb/v1/d/24a160fffe123456/down", 1)]
    assert subscribe.variable_header.packet_id == 1 and rest == b""


@pytest.mark.parametrize("topic", TOPICS)
def test_what_amqtt_publishes_is_what_the_device_reads(device: Micropython, topic: str) -> None:
    for payload in PAYLOADS:
        for number in (1, 255, 256, 65535):
            for dup in (False, True):
                data = PublishPacket.build(topic, payload, number, dup, 1, False).to_bytes()
                assert device.call(f"taken({data!r})") == (number, topic.encode(), payload)
        data = PublishPacket.build(topic, payload, None, False, 0, False).to_bytes()
        assert device.call(f"taken({data!r})") == (0, topic.encode(), payload)


def test_answers_of_amqtt_are_those_that_the_device_waits_for(device: Micropython) -> None:
    suback = SubackPacket.build(1, [1])
    assert isinstance(suback.payload, SubackPayload) and isinstance(suback.variable_header, PacketIdVariableHeader)
    packets: list[tuple[MQTTPacket[Any, Any, Any], int, bytes]] = [
        (ConnackPacket.build(0, 0), 0x20, b"\x00\x00"),
        (ConnackPacket.build(1, 0), 0x20, b"\x01\x00"),
        (suback, 0x90, b"\x00\x01\x01"),
        (PubackPacket.build(513), 0x40, b"\x02\x01"),
        (PingRespPacket.build(), 0xD0, b""),
    ]
    for packet, first, rest in packets:
        data = packet.to_bytes()
        at, end = device.call(f"publisher.extent({data!r}, {len(data)})")
        assert (data[0], data[at:end], end) == (first, rest, len(data))
