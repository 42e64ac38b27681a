"""Attacks on what a device is after it was enrolled: revoked, suspended, retired, claimed, and enrolled once more."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

from host_tools.gateway.broker import mosquitto_path
from tests.support.fleet import Device, EpochKey, message, own_topic, process, readings, store, telemetry
from tests.support.rollouts import Lifecycle, RolloutFleet, devices

from host_tools.ingest import broker_list  # isort: skip  needs the connected database
from provisioning import eui as eui_names, labels  # isort: skip
from provisioning.keys import claim_digest  # isort: skip
from provisioning.registry import claims  # isort: skip
from provisioning.registry.models import AuditEvent, Claim  # isort: skip


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[RolloutFleet]:
    fleet = RolloutFleet(tmp_path)
    yield fleet
    fleet.close()


def reasons(outcome) -> list[str]:
    return [one.reason.value for one in outcome.refused]


@pytest.mark.parametrize("step", ["revoke", "suspend", "write_off"])
def test_revoked_device_is_refused_with_its_next_frame(fleet: RolloutFleet, step: str):
    """By a worker that runs, and has the device's keys in its cache."""
    board = fleet.wear()
    for _ in range(3):
        board.send()
    eui = board.wearable.eui
    {
        "revoke": lambda: Lifecycle(fleet.vault).revoke(eui),
        "write_off": lambda: Lifecycle(fleet.vault).write_off(eui),
        "suspend": lambda: devices.suspend(eui, fleet.vault),
    }[step]()
    for frame in (board.wearable.seal(telemetry(70)), board.wearable.seal(telemetry(70), 1)):
        outcome = process(fleet.server, board.over_lora(frame))
        assert reasons(outcome) == ["device_not_active"] and outcome.publications == []
    hello = board.wearable.seal(telemetry(70), hello=True)
    assert reasons(process(fleet.server, board.over_lora(hello))) == ["device_not_active"]


def test_suspended_device_is_heard_again_only_after_it_is_resumed(fleet: RolloutFleet):
    board = fleet.wear()
    board.send()
    devices.suspend(board.wearable.eui, fleet.vault)
    assert board.send() is None
    devices.resume(board.wearable.eui, fleet.vault)
    assert board.send() is not None
    assert Device.objects.get(pk=board.wearable.pk).state == "active"


def test_revoked_device_gets_no_command_that_waited_for_it(fleet: RolloutFleet):
    from host_tools.ingest.models import Command

    board = fleet.wear()
    board.send()
    steps = Lifecycle(fleet.vault, fleet.clock)
    steps.rekey(board.wearable.eui)
    steps.revoke(board.wearable.eui)
    assert board.send() is None
    assert [row.state for row in Command.objects.all()] == ["superseded"]


def test_enrolled_device_becomes_active_with_a_genuine_frame_and_not_with_a_forged_one(fleet: RolloutFleet):
    board = fleet.wear()
    Device.objects.filter(pk=board.wearable.pk).update(state="enrolled", active_at=None)
    did = bytes(EpochKey.objects.get(device_id=board.wearable.pk, epoch=0).did)
    process(fleet.server, board.over_lora(bytes([0b11100000]) + did + os.urandom(30)))
    assert Device.objects.get(pk=board.wearable.pk).state == "enrolled"
    board.send()
    assert Device.objects.get(pk=board.wearable.pk).state == "active"
    events = AuditEvent.objects.filter(subject=board.wearable.eui.hex()).values_list("event", flat=True)
    assert list(events) == ["device_activated"]


# claims


def claimable(fleet: RolloutFleet) -> tuple[bytes, str]:
    board = fleet.wear()
    claim = os.urandom(10)
    eui = board.wearable.eui
    Claim.objects.create(device_id=board.wearable.pk, digest=claim_digest(eui, claim))
    return eui, labels.Label(eui, "test-band", claim).text


def wrong(eui: bytes) -> str:
    return labels.Label(eui, "test-band", os.urandom(10)).text


def test_guessed_label_secrets_lock_the_claims_of_that_device_for_an_hour(fleet: RolloutFleet):
    eui, label = claimable(fleet)
    other, other_label = claimable(fleet)
    clock = fleet.clock
    for _ in range(5):
        with pytest.raises(claims.ClaimRefused, match="fits no device"):
            claims.claim(wrong(eui), "guesser", fleet.vault, clock=clock)
    with pytest.raises(claims.ClaimRefused, match="locked until"):
        claims.claim(label, "owner", fleet.vault, clock=clock)
    claims.claim(other_label, "another", fleet.vault, clock=clock)  # nobody else is locked out
    clock.now += 3601
    assert claims.claim(label, "owner", fleet.vault, clock=clock).eui_hex == eui.hex()
    refused = AuditEvent.objects.filter(event="device_claim_refused", subject=eui.hex())
    assert refused.count() == 6
    assert other != eui


def test_a_right_claim_forgets_wrong_ones_and_a_label_of_another_device_opens_nothing(fleet: RolloutFleet):
    eui, label = claimable(fleet)
    _, other_label = claimable(fleet)
    mixed = labels.Label(eui, "test-band", labels.parse(other_label).claim).text
    for text in (mixed, wrong(eui), labels.Label(os.urandom(8), "test-band", labels.parse(label).claim).text):
        with pytest.raises(claims.ClaimRefused, match="fits no device"):
            claims.claim(text, "guesser", fleet.vault, clock=fleet.clock)
    claims.claim(label, "owner", fleet.vault, clock=fleet.clock)
    assert Claim.objects.get(device__eui=eui).failures == 0


def test_device_that_is_over_cannot_be_claimed_and_its_claim_ends(fleet: RolloutFleet):
    eui, label = claimable(fleet)
    claims.claim(label, "owner", fleet.vault, clock=fleet.clock)
    Lifecycle(fleet.vault, fleet.clock).revoke(eui)
    assert Claim.objects.get(device__eui=eui).account == ""
    with pytest.raises(claims.ClaimRefused, match="fits no device"):
        claims.claim(label, "owner", fleet.vault, clock=fleet.clock)


# a board with two lives


def test_readings_of_the_wearer_before_are_not_shown_under_the_boards_name(fleet: RolloutFleet):
    board = fleet.wear()
    eui = board.wearable.eui
    board.send(telemetry(70))
    Lifecycle(fleet.vault, fleet.clock).write_off(eui)
    Device.objects.filter(eui=eui).update(former=1)
    from tests.support.rollouts import Board

    second = Board(fleet, fleet.add(eui=eui))
    second.send(telemetry(90))
    reader = readings.Readings(store.Payloads(fleet.vault))

    def shown(*names: str) -> list[tuple[str, int]]:
        wanted = readings.Filter(devices=frozenset(eui_names.parse(name) for name in names))
        return [(one.device, int(one.value)) for one in reader.in_order(wanted)]

    assert shown(eui.hex()) == [(eui.hex(), 90)]
    assert shown(f"{eui.hex()}.1") == [(f"{eui.hex()}.1", 70)]
    assert sorted(shown()) == [(eui.hex(), 90), (f"{eui.hex()}.1", 70)]
    # the old identity's frames and hellos are still refused, the new one's hellos found
    assert reasons(process(fleet.server, board.over_lora(board.wearable.seal(telemetry(1))))) == ["device_not_active"]
    ahead = second.wearable.seal(telemetry(91), 9, hello=True)
    assert len(process(fleet.server, board.over_lora(ahead)).stored) == 1
    same_epoch = second.wearable.seal(message(2, 1, {1: 1}), 9, hello=True)
    assert len(process(fleet.server, board.over_lora(same_epoch)).stored) == 1


# brokers


def test_revoked_and_suspended_devices_are_refused_in_the_brokers_list(fleet: RolloutFleet):
    boards = [fleet.wear() for _ in range(4)]
    euis = [board.wearable.eui.hex() for board in boards]
    devices.suspend(bytes.fromhex(euis[1]), fleet.vault)
    Lifecycle(fleet.vault).revoke(bytes.fromhex(euis[2]))
    Lifecycle(fleet.vault).write_off(bytes.fromhex(euis[3]))
    listed = broker_list.document(0)
    assert [listed["devices"][eui]["allow"] for eui in euis] == [True, False, False, False]
    rules = broker_list.acl(listed, "user ingest\ntopic read #\n")
    assert (
        f"user CN={euis[0]},OU={Device.objects.get(eui=boards[0].wearable.eui).ticket.batch.name}\n" in rules
        and "user ingest" in rules
    )
    assert not any(eui in rules for eui in euis[1:])


@pytest.mark.skipif(mosquitto_path() is None, reason="needs mosquitto")
def test_mosquitto_lets_in_whom_the_list_names_to_their_own_topics_only(fleet: RolloutFleet, tmp_path: Path):
    good, revoked = fleet.wear(), fleet.wear()
    Lifecycle(fleet.vault).revoke(revoked.wearable.eui)
    folder = tmp_path / "broker"
    folder.mkdir(mode=0o755)
    rules = folder / "acl"
    subjects = broker_list.document(0)["devices"]
    broker_list.write(rules, broker_list.acl(broker_list.document(0), "user ingest\ntopic read #").encode())
    rules.chmod(0o644)
    settings = folder / "mosquitto.conf"
    port = 20000 + os.getpid() % 20000
    user = "user root\n" if os.geteuid() == 0 else ""
    settings.write_text(f"{user}listener {port} 127.0.0.1\nallow_anonymous true\nacl_file {rules}\n")
    program = mosquitto_path()
    assert program
    with subprocess.Popen(
        [program, "-c", str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as broker:
        try:
            heard: list[str] = []
            ingest = client("ingest", port)
            ingest.on_message = lambda _client, _data, arrived: heard.append(arrived.topic)
            ingest.subscribe("sb/v1/#", 1)
            mine, _ = own_topic(good.wearable, b"")
            others, _ = own_topic(revoked.wearable, b"")
            time.sleep(0.3)
            for board in (revoked, good):
                own = client(subjects[board.wearable.eui.hex()]["subject"], port)
                for topic in (others, mine):
                    own.publish(topic, b"frame", 1).wait_for_publish(2)
                own.disconnect()
            limit = time.monotonic() + 5
            while not heard and time.monotonic() < limit:
                time.sleep(0.05)
            time.sleep(0.3)
            assert heard == [mine]
        finally:
            broker.terminate()
    shutil.rmtree(folder)


def client(user: str, port: int) -> mqtt.Client:
    made = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    made.username_pw_set(user)
    limit = time.monotonic() + 10
    while True:
        try:
            made.connect("127.0.0.1", port)
            break
        except OSError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.1)
    made.loop_start()
    return made
