"""After a restore no downlink nonce repeats, and every device is acknowledged again. Random histories, real code.

The server is the real intake on a real database; the devices run the real chain and back-off (`tests.support.band`).
Servers are lost and restored again and again, each time from any of the backups that were ever made, old ones too.
Every downlink that any of them seals is noted, whether its device hears it or not.
"""

import random
import sqlite3
from pathlib import Path

import pytest

from tests.support.band import Band
from tests.support.fleet import Clock, DeviceChain, Fleet, chains, models, own_topic, process, telemetry

# isort: split
# these have models, and fleet.py has connected Django
from django.db import connections

from host_tools.ingest import answers, dated
from provisioning import registry
from provisioning.registry import restored
from provisioning.registry.models import Device, EpochKey
from sealwire.frame import CTR_MAX

APPS = ("host_tools.ingest", "host_tools.rollout")
DAY_S, HOUR_S = 86400, 3600


class World:
    """Devices, servers that come and go, and the nonces of all downlinks that were ever sealed."""

    def __init__(self, folder: Path, seed: int, monkeypatch: pytest.MonkeyPatch, loss: float = 0.15) -> None:
        self.draw = random.Random(seed)
        self.folder, self.loss = folder, loss
        self.clock = Clock()
        self.fleet = Fleet(folder, self.clock)
        self.bands: list[Band] = []
        self.silent: set[bytes] = set()  # where no gateway is
        self.nonces: dict[tuple[bytes, bytes], str] = {}
        self.backups: list[Path] = []
        self.name = "first"
        self.server = self.fleet.intake()
        self.up = True
        real = answers.seal_downlink

        def noted(keys, eui, epoch, ctr, plaintext):
            nonce = (int.from_bytes(keys.id, "big") ^ ctr).to_bytes(13, "big")
            assert (keys.kd, nonce) not in self.nonces, (
                f"{self.name} seals again what {self.nonces[keys.kd, nonce]} sealed: epoch {epoch}, counter {ctr:#x}"
            )
            self.nonces[keys.kd, nonce] = self.name
            return real(keys, eui, epoch, ctr, plaintext)

        monkeypatch.setattr(answers, "seal_downlink", noted)

    def add(self) -> Band:
        wearable = self.fleet.add()
        self.bands.append(Band(wearable.eui, wearable.root, self._send, self.draw, self.clock.now))
        return self.bands[-1]

    def _send(self, band: Band, frame: bytes) -> list[bytes]:
        self.clock.now += 2
        if not self.up or band.eui in self.silent or self.draw.random() < self.loss:
            return []
        outcome = process(self.server, own_topic(band, frame))  # type: ignore[arg-type]
        return [payload for _, payload in outcome.publications if self.draw.random() >= self.loss]

    def back_up(self) -> None:
        path = self.folder / f"backup-{len(self.backups)}.db"
        with sqlite3.connect(path) as copy:
            connections["default"].ensure_connection()
            connections["default"].connection.backup(copy)
        copy.close()
        self.backups.append(path)

    def lose(self) -> None:
        self.up = False
        connections.close_all()

    def restore(self, backup: Path) -> None:
        """Another server takes over, with what a backup has. Journals are imported again."""
        self.name = f"server restored from {backup.name} at {self.clock.now - 1_790_000_000:.0f} s"
        path = self.folder / f"restored-{len(list(self.folder.glob('restored-*.db')))}.db"
        with sqlite3.connect(backup) as source, sqlite3.connect(path) as copy:
            source.backup(copy)
        source.close()
        copy.close()
        registry.setup(path, extra_apps=APPS)
        restored.mark(self.fleet.vault, clock=self.clock)
        for band in self.bands:
            if not Device.objects.filter(eui=band.eui).exists():
                self.fleet.add(band.eui, band.root)
        self.server = self.fleet.intake()
        self.up = True

    def live(self, seconds: float, interval_s: float = 3 * HOUR_S) -> None:
        end = self.clock.now + seconds
        while True:
            band = min(self.bands, key=lambda band: band.due_at(self.clock.now))
            at = band.due_at(self.clock.now)
            if at >= end:
                self.clock.now = max(self.clock.now, end)
                return
            self.clock.now = at
            band.run(at, interval_s)

    def state(self, band: Band) -> DeviceChain:
        return DeviceChain.objects.get(device__eui=band.eui)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    world = World(tmp_path, 1, monkeypatch)
    yield world
    world.fleet.close()


@pytest.mark.parametrize("seed", range(3))
def test_no_downlink_nonce_repeats_in_any_history_and_every_device_is_acknowledged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
):
    world = World(tmp_path, seed, monkeypatch)
    draw = world.draw
    try:
        for _ in range(2):
            world.add()
        world.back_up()
        losses = 0
        while losses < 3:
            world.live(draw.choice((HOUR_S / 2, 6 * HOUR_S, DAY_S)) * draw.uniform(0.5, 1.5))
            what = draw.choice(("back up", "lose", "start", "silence", "add"))
            if what == "back up":
                world.back_up()
            elif what == "start":
                draw.choice(world.bands).start(world.clock.now)
            elif what == "silence":
                world.silent = {band.eui for band in world.bands if draw.random() < 0.5}
            elif what == "add" and len(world.bands) < 4:
                world.add()
            elif what == "lose":
                world.lose()
                world.live(draw.choice((60, HOUR_S, 20 * HOUR_S)) * draw.uniform(0.5, 1.5))
                world.restore(draw.choice(world.backups))
                losses += 1
        world.silent = set()
        for band in world.bands:
            band.start(world.clock.now)  # at worst, none of them knows the time
        at = world.clock.now
        world.live(8 * HOUR_S)
        assert all(band.acknowledged_at > at for band in world.bands)
        world.live(3 * DAY_S)
        for band in world.bands:
            assert 0 < world.state(band).downlink_from_epoch <= band.chain.epoch, "the server counts again"
            assert world.state(band).newest_epoch == band.chain.epoch
            assert len(band.queue) < 8
        assert len(world.nonces) > 100
    finally:
        world.fleet.close()


def test_this_simulation_finds_the_nonces_that_a_naive_restore_repeats(world: World, monkeypatch: pytest.MonkeyPatch):
    world.add()
    world.live(HOUR_S)
    world.back_up()
    world.live(8 * HOUR_S)
    world.lose()
    monkeypatch.setattr(restored, "mark", lambda *_, **__: None)
    world.restore(world.backups[0])
    with pytest.raises(AssertionError, match="seals again"):
        world.live(DAY_S)


def test_same_backup_restored_twice_repeats_nothing(world: World):
    band = world.add()
    world.live(HOUR_S)
    world.back_up()
    for _ in range(3):
        world.live(6 * HOUR_S)
        world.lose()
        world.live(60)
        world.restore(world.backups[0])
    at = world.clock.now
    world.live(5 * HOUR_S)
    assert band.acknowledged_at > at


def test_device_that_is_a_year_ahead_of_the_backup_is_found_again(world: World):
    band = world.add()
    world.live(HOUR_S)
    world.back_up()
    # as if the server had been there every day of the year
    ck = band.root
    from provisioning import keys

    for _ in range(365):
        ck = keys.ratchet(ck)
    band.chain._commit(epoch=365, _ck=ck, _contact=365, _previous=None)
    band.chain._derive()
    world.lose()
    world.clock.now += 365 * DAY_S
    world.restore(world.backups[0])
    at = world.clock.now
    world.live(DAY_S)
    assert band.acknowledged_at > at
    assert world.state(band).newest_epoch >= 365


def test_restored_server_says_nothing_before_the_second_half_hour(world: World):
    band = world.add()
    world.back_up()
    world.live(HOUR_S)
    world.lose()
    world.restore(world.backups[0])
    at, said = world.clock.now, len(world.nonces)
    band.telemetry_at = at
    world.live(dated.SLOT_S - 10, interval_s=60)
    assert len(world.nonces) == said
    assert models.Frame.objects.count() > 1, "what it hears it stores"
    world.live(3 * HOUR_S, interval_s=60)  # by then its back-off is an hour and a half
    assert band.acknowledged_at > at
    first = next(iter(list(world.nonces.values())[said:]))
    assert first.startswith("server restored")


def test_replayed_frames_leave_a_restored_server_counters_for_its_device(world: World):
    world.loss = 0
    band = world.add()
    world.live(HOUR_S)
    old: list[bytes] = []
    real = world._send
    band._send = lambda sender, frame: (old.append(frame), real(sender, frame))[1]
    band.telemetry_at = world.clock.now
    world.live(HOUR_S, interval_s=600)
    world.back_up()
    world.lose()
    world.restore(world.backups[0])
    world.clock.now += 2 * dated.SLOT_S
    for slot in range(4):
        world.clock.now = (world.clock.now // dated.SLOT_S + 1) * dated.SLOT_S
        replies = 0
        for _ in range(40):
            world.clock.now += 10
            replies += len(process(world.server, own_topic(band, old[slot])).publications)  # type: ignore[arg-type]
        assert replies == dated.REPEATED_PER_SLOT
        at = world.clock.now
        band._put(2, telemetry(70))
        band.backoff = band._code.backoff.Backoff(world.draw.randrange)
        band.run(at, DAY_S)
        assert band.acknowledged_at >= at


def test_receipt_that_was_held_back_until_the_next_epoch_does_not_end_that_epochs_answers(world: World):
    """Dated counters were used in the epoch that it proves: were no more to follow, its device would be stuck there."""
    pk = world.fleet.add().pk
    restored.mark(world.fleet.vault, clock=world.clock)
    intake = world.fleet.intake()
    world.clock.now += 2 * dated.SLOT_S
    intake.chains.advance(pk, 1)
    taken = intake.chains.take_downlink_counters([(pk, 0), (pk, 1)])
    first = taken[pk, 1]
    intake.chains.prove([(pk, 0, taken[pk, 0])])
    assert DeviceChain.objects.get(device_id=pk).downlink_from_epoch == 1
    assert intake.chains.take_downlink_counters([(pk, 1)]) == {(pk, 1): first + 1}, "the device takes no lower one"
    world.clock.now += dated.SLOT_S
    assert intake.chains.take_downlink_counters([(pk, 1)]) == {(pk, 1): first + dated.PER_SLOT}
    intake.chains.advance(pk, 2)
    assert intake.chains.take_downlink_counters([(pk, 2)]) == {(pk, 2): 0}


def test_registry_of_before_dated_counters_goes_on_and_a_restored_one_uses_none_of_its_counters(world: World):
    """Such a version had gone on at 0x8000; its server may have used more of them after the backup."""
    pk = world.fleet.add().pk
    EpochKey.objects.filter(device_id=pk, epoch=0).update(downlink_ctr=0x8001)
    assert world.server.chains.take_downlink_counters([(pk, 0)]) == {(pk, 0): 0x8001}
    assert world.server.chains.take_downlink_counters([(pk, 0)], repeated=[(pk, 0)]) == {}
    world.back_up()
    EpochKey.objects.filter(device_id=pk, epoch=0).update(downlink_ctr=restored.EARLIER_END)
    assert world.server.chains.take_downlink_counters([(pk, 0)]) == {}
    world.lose()
    world.restore(world.backups[0])
    begin = (world.clock.now // dated.SLOT_S // dated.SLOTS + 1) * dated.SLOTS * dated.SLOT_S
    for slot in range(0, dated.SLOTS, 7):
        world.clock.now = begin + slot * dated.SLOT_S
        for ctr in world.server.chains.take_downlink_counters([(pk, 0)]).values():
            assert ctr >= restored.EARLIER_END
    assert EpochKey.objects.get(device_id=pk, epoch=0).downlink_ctr > restored.EARLIER_END


def test_receipt_from_before_the_restore_proves_nothing(world: World):
    for restored_at in (0.0, 1.79e9, 1.79e9 + 1799):
        first = dated.take(0, restored_at + 2 * dated.SLOT_S, restored_at, repeated=False)
        assert first is not None
        assert dated.proves(first, restored_at)
        for counter in (0, 1, 0x2000, dated.DATED_FIRST - 1):
            assert not dated.proves(counter, restored_at)
        for slots_ago in (2, 3, 100, 5000):
            # what an earlier restored server had used until this one was restored
            used = dated.take(0, restored_at - slots_ago * dated.SLOT_S + 2 * dated.SLOT_S, -1e9, repeated=False)
            assert used is not None
            assert not dated.proves(used, restored_at)


def test_dated_counters_of_different_half_hours_never_meet():
    taken: set[int] = set()
    for slot in range(2, dated.SLOTS + 2):
        following = 0
        for expected in range(dated.PER_SLOT):
            counter = dated.take(following, slot * dated.SLOT_S + 17, 0, repeated=False)
            assert counter is not None, expected
            assert dated.DATED_FIRST <= counter <= CTR_MAX
            assert counter > chains.COUNTED_MAX
            assert counter not in taken
            taken.add(counter)
            following = counter + 1
        assert dated.take(following, slot * dated.SLOT_S + 1799, 0, repeated=False) is None
    assert len(taken) == CTR_MAX + 1 - dated.DATED_FIRST
    assert dated.take(0, dated.SLOT_S * 2 - 1, 0, repeated=False) is None
    assert dated.take(0, 10**6, 10**6, repeated=False) is None


def test_counters_that_came_round_are_used_again_by_the_same_server_only_then():
    last = dated.take(0, (dated.SLOTS - 1 + 12288 * 3) * dated.SLOT_S, 0, repeated=False)
    assert last is not None
    first = dated.take(last + 1, (dated.SLOTS + 12288 * 3) * dated.SLOT_S, 0, repeated=False)
    assert first == dated.DATED_FIRST
