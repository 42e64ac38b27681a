# Settings: checked whole before anything changes, kept over resets. The log: bounded, and nothing but numbers in it.
from device.fakes import World, sweep

from sealband.config import Config, SettingsError
from sealband.errors import StoreError
from sealband.log import EVENTS, Log, line
from sealband.store import Store
from sealwire import messages, settings


def refused(config, change):
    before = config.send_every_s, config.status_every_s, config.spreading_factor, config.power_dbm
    try:
        config.change(change)
    except SettingsError as error:
        assert (config.send_every_s, config.status_every_s, config.spreading_factor, config.power_dbm) == before
        return error.code
    raise AssertionError("accepted %r" % change)


def test_one_wrong_setting_changes_nothing():
    config = Config(Store(World().nvs))
    good = {settings.SEND_EVERY_S: 60, settings.POWER_DBM: 8}
    for wrong, code in (
        ({99: 1}, messages.RESULT_UNKNOWN),
        ({"send_every_s": 60}, messages.RESULT_UNKNOWN),
        ({b"": 60}, messages.RESULT_UNKNOWN),
        ({settings.STATUS_EVERY_S: "60"}, messages.RESULT_MALFORMED),
        ({settings.STATUS_EVERY_S: None}, messages.RESULT_MALFORMED),
        ({settings.STATUS_EVERY_S: True}, messages.RESULT_MALFORMED),
        ({settings.STATUS_EVERY_S: 3600.0}, messages.RESULT_MALFORMED),
        ({settings.STATUS_EVERY_S: [3600]}, messages.RESULT_MALFORMED),
        ({settings.STATUS_EVERY_S: 59}, messages.RESULT_OUT_OF_RANGE),
        ({settings.SPREADING_FACTOR: 13}, messages.RESULT_OUT_OF_RANGE),
        ({settings.SPREADING_FACTOR: 1 << 70}, messages.RESULT_OUT_OF_RANGE),
    ):
        change = dict(good)
        change.update(wrong)
        assert refused(config, change) == code, wrong
    for wrong in ({}, None, [], 7, b"", [1, 60]):
        assert refused(config, wrong) == messages.RESULT_MALFORMED
    config.change(good)
    assert config.send_every_s == 60 and config.power_dbm == 8


def test_settings_add_up_and_survive_a_reset_over_the_applications_defaults():
    world = World()
    config = Config(Store(world.nvs), {"send_every_s": 300, "spreading_factor": 9})
    assert (config.send_every_s, config.spreading_factor, config.power_dbm) == (300, 9, 14)
    config.change({settings.SEND_EVERY_S: 120})
    config.change({settings.POWER_DBM: 2})
    again = Config(Store(world.nvs), {"send_every_s": 300, "spreading_factor": 10})
    assert (again.send_every_s, again.spreading_factor, again.power_dbm) == (120, 10, 2)


def test_stored_settings_that_are_not_allowed_any_more_give_way_to_the_defaults():
    from sealband.crypto import cbor

    world = World()
    for data in (cbor.encode({99: 1}), cbor.encode({1: 5}), b"\xff", b"", cbor.encode([1])):
        Store(world.nvs).save("config", data)
        assert Config(Store(world.nvs), {"send_every_s": 300}).send_every_s == 300


def test_flash_that_refuses_leaves_the_settings_as_they_were():
    world = World()
    config = Config(Store(world.nvs))
    world.nvs.space = 0
    try:
        config.change({settings.SEND_EVERY_S: 60})
    except StoreError:
        assert config.send_every_s == 600
        return
    raise AssertionError("no StoreError")


def test_power_cut_leaves_all_of_the_old_settings_or_all_of_the_new():
    old, new = (60, 2), (120, 14)

    def run(world):
        config = Config(Store(world.nvs))
        for pair in (old, new):
            config.change({settings.SEND_EVERY_S: pair[0], settings.POWER_DBM: pair[1]})

    def check(world):
        config = Config(Store(world.nvs))
        assert (config.send_every_s, config.power_dbm) in ((600, 14), old, new)

    assert sweep(World(), run, check, depth=2) > 50


def test_log_is_bounded_and_takes_its_own_events_and_numbers_only():
    log = Log(lambda: 7)
    for i in range(100):
        log.note("sent", i, b"secret", "text", 1.5, None)
    entries = log.entries
    assert len(entries) == 16 and entries[-1] == (7, "sent", 99) and entries[0][2] == 84
    assert line(entries[-1]) == "[7] sent 99"
    log.note("what a stranger wrote", 3)
    assert log.entries[-1] == (7, "fault", 3)


def test_everything_that_the_code_notes_is_in_the_list():
    noted = set()
    for name in ("node", "session", "exchange", "commands", "orders", "report", "cell", "links/ble"):
        with open("device/lib/sealband/%s.py" % name) as source:
            for piece in source.read().split("log.note(")[1:]:
                noted.add(piece.split('"')[1])
    assert noted == set(EVENTS), noted
