# Reads, checks and changes settings, kept in one A/B record. A change is checked whole before any of it is applied: one
# bad key or value and nothing changes. Loaded for the occasion, with the table of sealwire/settings.py.
from sealband import once
from sealband import store as names
from sealband.config import SettingsError
from sealband.crypto import cbor
from sealwire import messages

_TABLE = once("sealwire.settings")


# Check a map of settings against the table; SettingsError names the first key that is wrong.
def check(settings):
    if type(settings) is not dict or not settings:
        raise SettingsError(messages.RESULT_MALFORMED, "no settings")
    for key in settings:
        row = _TABLE.lookup(key)
        if row is None:
            raise SettingsError(messages.RESULT_UNKNOWN, "setting %s" % (key if type(key) is int else "?"))
        value = settings[key]
        if type(value) is not int:
            raise SettingsError(messages.RESULT_MALFORMED, row[1])
        if not row[2] <= value <= row[3]:
            raise SettingsError(messages.RESULT_OUT_OF_RANGE, "%s %d" % (row[1], value))


# What the server has set.
def _stored(store):
    data = store.load(names.CONFIG)
    if data is not None:
        try:
            stored = cbor.decode(data)
            check(stored)
            return stored
        except (cbor.CborError, SettingsError):
            pass  # of another version: the defaults hold until the server sets them again
    return {}


# Set the attributes of a Config.
def apply(config):
    stored = _stored(config.store)
    for key, name, _low, _high, default in _TABLE.SETTINGS:
        setattr(config, name, stored.get(key, config.defaults.get(name, default)))


def change(config, settings):
    check(settings)
    merged = _stored(config.store)
    before = dict(merged)
    merged.update(settings)
    if merged != before:
        config.store.save(names.CONFIG, cbor.encode(merged))
    apply(config)
