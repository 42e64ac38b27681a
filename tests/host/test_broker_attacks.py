"""Who is refused, and what does not pass, at a broker with our configuration: the same table for mosquitto and amqtt.

Certificates come from the project's own issuing code; what the broker does is seen from outside, over TLS.
"""

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.x509.oid import NameOID

from host_tools.broker import rules
from host_tools.broker.guarded import SUBSCRIPTIONS_MAX
from host_tools.broker.mosquitto import Limits
from host_tools.gateway.broker import EmbeddedBroker, MosquittoBroker
from host_tools.gateway.envelope import ENVELOPE_MAX
from tests.support.broker_site import BATCH, CLOSED, OTHER_BATCH, Broker, BrokerSite, Client, Peer, name_of

A, B = bytes.fromhex("24a160fffe12345a"), bytes.fromhex("24a160fffe12345b")
UP, DOWN = f"sb/v1/d/{A.hex()}/up", f"sb/v1/d/{A.hex()}/down"
OTHERS_UP, OTHERS_DOWN = f"sb/v1/d/{B.hex()}/up", f"sb/v1/d/{B.hex()}/down"
MARK = ("sb/v1/gw/00005e1000000001/up", b"this one is allowed, and was sent last")
LIMITS = Limits(devices=4)
Join = Callable[..., Client]


@pytest.fixture(scope="module", params=[EmbeddedBroker, MosquittoBroker])
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[BrokerSite, Broker]]:
    if request.param is MosquittoBroker and not MosquittoBroker.available():
        pytest.skip("mosquitto is not installed")
    site = BrokerSite(tmp_path_factory.mktemp("broker"), LIMITS)
    site.allowed = {A.hex(): BATCH, B.hex(): OTHER_BATCH}
    with site.broker(request.param) as broker:
        yield site, broker


@pytest.fixture
def site(running: tuple[BrokerSite, Broker]) -> BrokerSite:
    return running[0]


@pytest.fixture
def broker(running: tuple[BrokerSite, Broker]) -> Broker:
    return running[1]


@pytest.fixture
def join(site: BrokerSite) -> Iterator[Join]:
    clients: list[Client] = []

    def make(peer: Peer, **how: object) -> Client:
        clients.append(site.client(peer, **how))  # type: ignore[arg-type]
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def ingest(site: BrokerSite, join: Join) -> Client:
    """A worker as `ingest run` is one: in the group that only the settings know."""
    worker = join(site.service("ingest"), door="services")
    for topic in ("sb/v1/d/+/up", "sb/v1/gw/+/up"):
        assert worker.subscribe(f"$share/{site.settings.shared}/{topic}")
    return worker


def everything(site: BrokerSite, join: Join, ingest: Client) -> list[tuple[str, bytes]]:
    """What ingest has got, up to a mark that is sent now."""
    join(site.service("bridge-a"), door="services").publish(*MARK)
    limit = time.monotonic() + 10
    while MARK not in ingest.got:
        assert time.monotonic() < limit, "the mark did not come"
        time.sleep(0.01)
    return [each for each in ingest.got if each != MARK]


# the right ones


def test_device_and_ingest_hear_each_other(site: BrokerSite, join: Join, ingest: Client):
    device = join(site.device(A), name=A.hex())
    assert device.subscribe(DOWN)
    device.publish(UP, b"frame")
    assert ingest.wait(1) == [(UP, b"frame")]
    ingest.publish(DOWN, b"answer")
    assert device.wait(1) == [(DOWN, b"answer")]


def test_bridge_and_ingest_hear_each_other(site: BrokerSite, join: Join, ingest: Client):
    bridge = join(site.service("bridge-a"), door="services")
    assert bridge.subscribe("sb/v1/gw/+/down")
    bridge.publish("sb/v1/gw/00005e1000000001/up", b"frame")
    assert ingest.wait(1) == [("sb/v1/gw/00005e1000000001/up", b"frame")]
    ingest.publish("sb/v1/gw/00005e1000000002/down", b"for the other bridge")
    ingest.publish("sb/v1/gw/00005e1000000001/down", b"answer")
    assert bridge.wait(1) == [("sb/v1/gw/00005e1000000001/down", b"answer")]


# who comes in


@pytest.mark.parametrize(
    ("what", "alert"),
    [
        ("of another authority", "UNKNOWN_CA"),
        ("expired", "CERTIFICATE_EXPIRED"),
        ("not valid yet", "BAD_CERTIFICATE"),
        ("none", "CERTIFICATE_REQUIRED"),
        ("a service's at the devices' door", "UNKNOWN_CA"),
    ],
)
def test_wrong_certificate_is_refused(site: BrokerSite, broker: Broker, what: str, alert: str):
    peer = {
        "of another authority": lambda: site.device(A, unknown=True),
        "expired": lambda: site.device(A, at=timedelta(days=-100)),
        "not valid yet": lambda: site.device(A, at=timedelta(days=10)),
        "none": lambda: None,
        "a service's at the devices' door": lambda: site.service("ingest"),
    }[what]()
    assert told(broker, site.refusal(peer), alert)


def told(broker: Broker, said: str, *alerts: str) -> bool:
    """Whether a handshake was ended for one of these reasons; asyncio closes the connection before it has told one."""
    return said == CLOSED if isinstance(broker, EmbeddedBroker) else any(one in said.upper() for one in alerts)


def test_devices_certificate_is_refused_at_the_services_door(site: BrokerSite, broker: Broker):
    assert told(broker, site.refusal(site.device(A), door="services"), "UNKNOWN_CA")


def test_client_refuses_a_broker_that_has_another_name_or_authority(site: BrokerSite):
    for context, name, reason in (
        (site.context(site.device(A)), "broker.example", "Hostname mismatch"),
        (site.context(site.device(A), authority="other.crt"), "localhost", "certificate verify failed"),
        (site.context(site.device(A), authority="root.crt"), "localhost", "certificate verify failed"),
    ):
        with (
            pytest.raises(ssl.SSLCertVerificationError, match=reason),
            socket.create_connection(site.settings.listen, 10) as raw,
            context.wrap_socket(raw, server_hostname=name),
        ):
            pass


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_tls_before_1_2_is_refused(site: BrokerSite, broker: Broker, version: ssl.TLSVersion):
    context = site.context(site.device(A))
    # OpenSSL would refuse on its own side first
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    said = site.refusal(None, context=context).upper()
    # amqtt's door says nothing, and OpenSSL calls that an end in the middle
    assert ("PROTOCOL_VERSION" if isinstance(broker, MosquittoBroker) else "EOF") in said


def test_tls_1_2_is_taken(site: BrokerSite):
    context = site.context(site.device(A))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert site.refusal(None, context=context) == ""


def test_issuing_key_of_one_batch_makes_no_device_of_another(site: BrokerSite, broker: Broker):
    # refused in the handshake: the name constraint of the issuing certificate
    for subject in (
        name_of(OTHER_BATCH, B.hex()),
        name_of(rules.SERVICES, "ingest", NameOID.ORGANIZATION_NAME),
    ):
        # which alert OpenSSL sends for a subtree violation is its own affair
        assert told(broker, site.refusal(site.forged(subject)), "ALERT")
    # its own batch's name with the other's number is a certificate like any other …
    own = site.device(B, batch=BATCH, allow=False)
    assert site.refusal(own) == ""


def test_number_of_another_batchs_device_gives_none_of_its_topics(
    site: BrokerSite, broker: Broker, join: Join, ingest: Client
):
    # … and is a user whom no rule names
    impostor = site.device(B, batch=BATCH, allow=False)
    if isinstance(broker, EmbeddedBroker):
        assert site.connack(impostor, connect(b"x")) == bytes.fromhex("20020005")
        return
    client = join(impostor)
    client.subscribe(OTHERS_DOWN)
    client.publish(OTHERS_UP, b"forged")
    ingest.publish(OTHERS_DOWN, b"secret")
    assert everything(site, join, ingest) == [] and client.got == []


# what passes


def test_device_publishing_as_another_is_not_passed_on(site: BrokerSite, join: Join, ingest: Client):
    device = join(site.device(A))
    for topic in (OTHERS_UP, OTHERS_DOWN, DOWN, "sb/v1/gw/00005e1000000001/up", f"{UP}/x", "sb/v1/d/x", "$SYS/x"):
        if topic.startswith("$") and device.lost.is_set():
            continue
        device.publish(topic, b"forged")
    device = join(site.device(A))
    device.publish(UP, b"genuine")
    assert everything(site, join, ingest) == [(UP, b"genuine")]


def test_device_hears_nothing_of_others_whatever_it_subscribes_to(site: BrokerSite, join: Join, ingest: Client):
    spy, other = join(site.device(A)), join(site.device(B, batch=OTHER_BATCH))
    for topic in ("#", "+/+/+/+/+", "sb/v1/d/+/up", OTHERS_DOWN, OTHERS_UP, "sb/v1/d/+/down", "$SYS/#"):
        spy.subscribe(topic)
    assert other.subscribe(OTHERS_DOWN)
    other.publish(OTHERS_UP, b"frame")
    ingest.publish(OTHERS_DOWN, b"for the other")
    ingest.publish(DOWN, b"for me")
    assert other.wait(1) == [(OTHERS_DOWN, b"for the other")]
    spy.wait(1)
    assert set(spy.got) == {(DOWN, b"for me")}
    assert everything(site, join, ingest) == [(OTHERS_UP, b"frame")]


def test_device_takes_no_frames_away_from_ingest_by_a_shared_subscription(site: BrokerSite, join: Join, ingest: Client):
    thief, other = join(site.device(A)), join(site.device(B, batch=OTHER_BATCH))
    for group in ("ingest", "x", "ingest-0"):
        thief.subscribe(f"$share/{group}/sb/v1/d/+/up")
        thief.subscribe(f"$share/{group}/#")
    for number in range(20):
        other.publish(OTHERS_UP, bytes((number,)))
    assert [payload[0] for _, payload in everything(site, join, ingest)] == list(range(20))
    assert thief.got == []


def test_will_on_another_devices_topic_is_not_published(site: BrokerSite, join: Join, ingest: Client):
    will = connect(b"x", will=(OTHERS_UP.encode(), b"forged"))
    # mosquitto lets it in and drops the will, amqtt refuses the connection: the socket is closed without DISCONNECT
    site.connack(site.device(A), will)
    own = connect(b"x", will=(UP.encode(), b"genuine"))
    assert site.connack(site.device(A), own) == bytes.fromhex("20020000")
    assert ingest.wait(1) == [(UP, b"genuine")]
    assert everything(site, join, ingest) == [(UP, b"genuine")]


def test_client_id_of_another_ends_and_takes_nothing_of_its_session(site: BrokerSite, join: Join, ingest: Client):
    victim = join(site.device(B, batch=OTHER_BATCH), name=B.hex(), clean=False)
    assert victim.subscribe(OTHERS_DOWN)
    for name in (B.hex(), f"CN={B.hex()},OU={OTHER_BATCH}"):
        thief = join(site.device(A), name=name, clean=False)
        ingest.publish(OTHERS_DOWN, b"still mine")
        thief.close()
    assert victim.wait(2) == [(OTHERS_DOWN, b"still mine")] * 2
    assert not victim.lost.is_set() and thief.got == []


def test_gateways_bridge_publishes_as_no_other_gateway(site: BrokerSite, join: Join, ingest: Client):
    bridge = join(site.service("bridge-b"), door="services")
    for topic in ("sb/v1/gw/00005e1000000001/up", "sb/v1/gw/00005e1000000001/down", UP, DOWN):
        bridge.publish(topic, b"forged")
    bridge.publish("sb/v1/gw/00005e1000000002/up", b"genuine")
    assert everything(site, join, ingest) == [("sb/v1/gw/00005e1000000002/up", b"genuine")]


def test_service_that_no_rule_names_says_nothing(site: BrokerSite, broker: Broker, join: Join, ingest: Client):
    stranger = site.service("bridge-c")
    if isinstance(broker, EmbeddedBroker):
        assert site.connack(stranger, connect(b"x"), door="services") == bytes.fromhex("20020005")
        return
    join(stranger, door="services").publish("sb/v1/gw/00005e1000000003/up", b"forged")
    assert everything(site, join, ingest) == []


# how much


def test_oversized_packet_ends_the_connection(site: BrokerSite, join: Join, ingest: Client):
    device = join(site.device(A))
    device.publish(UP, bytes(ENVELOPE_MAX))
    assert everything(site, join, ingest) == [(UP, bytes(ENVELOPE_MAX))]
    device.mqtt.publish(UP, bytes(LIMITS.packet + 1), qos=1)
    assert device.lost.wait(10)
    assert everything(site, join, ingest) == [(UP, bytes(ENVELOPE_MAX))]


@pytest.mark.parametrize("kind", [EmbeddedBroker, MosquittoBroker])
def test_too_many_devices_leave_the_services_door_open(kind: type[Broker], tmp_path: Path):
    """By devices that stay. mosquitto 2.0 counts those that leave twice, so this limit is none against an attacker."""
    if kind is MosquittoBroker and not MosquittoBroker.available():
        pytest.skip("mosquitto is not installed")
    site = BrokerSite(tmp_path, LIMITS)
    numbers = [bytes(7) + bytes((number,)) for number in range(LIMITS.devices + 1)]
    *peers, late = [site.device(number) for number in numbers]
    worker = site.service("ingest")
    with site.broker(kind), contextlib.ExitStack() as stack:
        for peer in peers:
            stack.callback(site.client(peer).close)
        assert site.refusal(late) != ""
        ingest = site.client(worker, door="services")
        stack.callback(ingest.close)
        assert ingest.subscribe("sb/v1/d/+/up")


def test_client_of_the_embedded_broker_has_so_many_subscriptions_and_no_more(
    site: BrokerSite, broker: Broker, join: Join
):
    if isinstance(broker, EmbeddedBroker):  # mosquitto knows no such limit: its memory has one
        device = join(site.device(A))
        assert [device.subscribe(f"{DOWN}/{n}") for n in range(SUBSCRIPTIONS_MAX + 1)] == [True] * 16 + [False]


# who was let in once; last, for it changes what the site allows


def test_revoked_device_is_refused_and_its_session_carries_nothing_any_more(
    site: BrokerSite, broker: Broker, join: Join, ingest: Client
):
    revoked = site.device(A)
    before, stays = join(revoked, clean=False), join(site.device(B, batch=OTHER_BATCH))
    assert before.subscribe(DOWN) and stays.subscribe(OTHERS_DOWN)
    before.publish(UP, b"while it may")
    assert ingest.wait(1) == [(UP, b"while it may")]
    time.sleep(1.1)  # lists are told apart by the second that they were made in
    site.revoked.add(revoked.serial)
    del site.allowed[A.hex()]
    written = site.write()
    assert not written.restart and set(written.changed) == {"crl.pem", "rules.acl"}
    broker.reload()
    limit = time.monotonic() + 10
    while not told(broker, site.refusal(revoked), "REVOKED"):
        assert time.monotonic() < limit, "the revoked certificate is still taken"
    if isinstance(broker, EmbeddedBroker):
        assert before.lost.wait(10)
    else:
        # mosquitto asks for no certificate again: the connection stays, and is worth nothing
        before.publish(UP, b"too late")
        ingest.publish(DOWN, b"too late")
    stays.publish(OTHERS_UP, b"goes on")
    assert everything(site, join, ingest) == [(UP, b"while it may"), (OTHERS_UP, b"goes on")]
    assert before.got == [] and not stays.lost.is_set()


def connect(client: bytes, will: tuple[bytes, bytes] | None = None) -> bytes:
    """CONNECT with a clean session (MQTT 3.1.1 section 3.1)."""
    body = struct.pack("!H4sBBH", 4, b"MQTT", 4, 0x02 | (0x0C if will else 0), 60)
    for text in (client, *(will or ())):
        body += struct.pack("!H", len(text)) + text
    return bytes((0x10, len(body))) + body


def test_what_was_queued_outlives_a_restart_of_mosquitto(tmp_path: Path):
    if not MosquittoBroker.available():
        pytest.skip("mosquitto is not installed")
    site = BrokerSite(tmp_path)
    device, worker = site.device(A), site.service("ingest")
    with site.broker(MosquittoBroker):
        sleeper = site.client(device, clean=False)
        assert sleeper.subscribe(DOWN)
        sleeper.close()
        sender = site.client(worker, door="services")
        sender.publish(DOWN, b"for when it wakes")
        sender.close()
    with site.broker(MosquittoBroker):
        sleeper = site.client(device, clean=False)
        assert sleeper.wait(1) == [(DOWN, b"for when it wakes")]
        sleeper.close()


def test_log_of_mosquitto_names_clients_and_no_payload(tmp_path: Path):
    if not MosquittoBroker.available():
        pytest.skip("mosquitto is not installed")
    site = BrokerSite(tmp_path)
    with site.broker(MosquittoBroker) as broker:
        device = site.client(site.device(A))
        device.publish(UP, b"planted-value")
        device.publish(OTHERS_UP, b"planted-value")
        device.close()
        assert isinstance(broker, MosquittoBroker)
        log = broker.log()
    assert f"CN={A.hex()},OU={BATCH}" in log and "planted" not in log


def test_list_that_is_over_refuses_everybody_at_mosquitto(tmp_path: Path):
    """Why `broker check` and `broker reload` say until when lists are good, and `config` takes none that is over."""
    if not MosquittoBroker.available():
        pytest.skip("mosquitto is not installed")
    site = BrokerSite(tmp_path)
    device = site.device(A)
    site.write()
    (site.home / "crl.pem").write_bytes(site.crl(days=1, at=-timedelta(days=2)))
    with MosquittoBroker(folder=site.home):
        assert "CERTIFICATE_EXPIRED" in site.refusal(device).upper()
