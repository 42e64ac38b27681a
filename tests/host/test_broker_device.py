"""The device's own MQTT link, on MicroPython, at brokers with our configuration and with certificates that we issue."""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from host_tools.gateway.broker import EmbeddedBroker, MosquittoBroker
from tests.support.broker_site import BATCH, OTHER_BATCH, Broker, BrokerSite, Client, Peer
from tests.support.mqtt_board import EUI, MqttBoard

UP, DOWN = f"sb/v1/d/{EUI}/up", f"sb/v1/d/{EUI}/down"
FRAME = bytes((0xE0,)) + bytes(60)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MqttBoard]:
    with MqttBoard(tmp_path_factory.mktemp("board")) as board:
        yield board


@pytest.fixture(scope="module", params=[EmbeddedBroker, MosquittoBroker])
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[BrokerSite, Broker]]:
    if request.param is MosquittoBroker and not MosquittoBroker.available():
        pytest.skip("mosquitto is not installed")
    site = BrokerSite(tmp_path_factory.mktemp("broker"))
    site.allowed = {EUI: BATCH}
    with site.broker(request.param) as broker:
        yield site, broker


@pytest.fixture
def site(running: tuple[BrokerSite, Broker]) -> BrokerSite:
    return running[0]


@pytest.fixture
def broker(running: tuple[BrokerSite, Broker]) -> Broker:
    return running[1]


@pytest.fixture
def ingest(site: BrokerSite) -> Iterator[Client]:
    worker = site.client(site.service("ingest"), door="services")
    assert worker.subscribe(f"$share/{site.settings.shared}/sb/v1/d/+/up")
    yield worker
    worker.close()


def begin(board: MqttBoard, site: BrokerSite, peer: Peer, *, host: str = "localhost") -> str | None:
    """A start of the board with this certificate; None, or why it does not get in."""
    pem = peer.pem.read_bytes()
    key = load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    board.begin(
        None,  # type: ignore[arg-type]
        site.settings.listen[1],
        host=host,
        key=key,
        certificate=x509.load_pem_x509_certificate(pem),
        ca=site.services_root,
    )
    return board.connect()


def test_board_sends_and_is_answered(board: MqttBoard, site: BrokerSite, ingest: Client):
    assert begin(board, site, site.device(bytes.fromhex(EUI))) is None
    assert board.drive(f"link.send({FRAME!r})") is True
    assert ingest.wait(1) == [(UP, FRAME)]
    ingest.publish(DOWN, FRAME)
    assert board.drive("link.listen()") == [FRAME]
    board.drive("link.disconnect()")


def test_answer_waits_for_a_board_that_sleeps(board: MqttBoard, site: BrokerSite, broker: Broker, ingest: Client):
    """At mosquitto; the embedded broker keeps nothing for who is away."""
    peer = site.device(bytes.fromhex(EUI))
    assert begin(board, site, peer) is None
    board.drive("link.disconnect()")
    ingest.publish(DOWN, FRAME)
    assert begin(board, site, peer) is None
    assert board.drive("link.listen()") == ([FRAME] if isinstance(broker, MosquittoBroker) else [])
    board.drive("link.disconnect()")


@pytest.mark.parametrize("what", ["expired", "of another authority", "of a batch that does not have it"])
def test_board_that_is_not_let_in_gives_up_and_says_so(board: MqttBoard, site: BrokerSite, ingest: Client, what: str):
    eui = bytes.fromhex(EUI)
    peer = {
        "expired": lambda: site.device(eui, at=timedelta(days=-100)),
        "of another authority": lambda: site.device(eui, unknown=True),
        "of a batch that does not have it": lambda: site.device(eui, batch=OTHER_BATCH, allow=False),
    }[what]()
    refusal = begin(board, site, peer)
    if refusal is None:
        # mosquitto lets in whoever has a certificate; there are no topics for this one
        board.drive(f"link.send({FRAME!r})")
        board.drive("link.disconnect()")
    time.sleep(0.3)
    assert ingest.got == [] and (refusal or what == "of a batch that does not have it")


def test_board_refuses_a_broker_of_another_name_or_authority(board: MqttBoard, site: BrokerSite, tmp_path: Path):
    peer = site.device(bytes.fromhex(EUI))
    assert begin(board, site, peer, host="127.0.0.1")  # the certificate is for localhost
    other = BrokerSite(tmp_path)
    other.services_root = other.other_root
    other.settings = site.settings
    assert begin(board, other, peer)
