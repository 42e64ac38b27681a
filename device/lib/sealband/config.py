# Settings that the server may change, kept in one A/B record. A change is checked whole before any of it is applied:
# one bad key or value and nothing changes. Applying them is the business of those who are asked to configure().
from sealband import store as names
from sealband.crypto import cbor
from sealwire import messages
from sealwire import settings as table


class SettingsError(Exception):
    # `code`: a result code of sealwire.messages, for the receipt
    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


# Check a map of settings against the table; SettingsError names the first key that is wrong.
def check(settings):
    if type(settings) is not dict or not settings:
        raise SettingsError(messages.RESULT_MALFORMED, "no settings")
    for key in settings:
        row = table.lookup(key)
        if row is None:
            raise SettingsError(messages.RESULT_UNKNOWN, "setting %s" % (key if type(key) is int else "?"))
        value = settings[key]
        if type(value) is not int:
            raise SettingsError(messages.RESULT_MALFORMED, row[1])
        if not row[2] <= value <= row[3]:
            raise SettingsError(messages.RESULT_OUT_OF_RANGE, "%s %d" % (row[1], value))


class Config:
    # `defaults`: the application's values by name, for what the server has not set
    def __init__(self, store, defaults=None):
        self._store = store
        self._defaults = dict(defaults or {})
        self._set = {}
        data = store.load(names.CONFIG)
        if data is not None:
            try:
                stored = cbor.decode(data)
                check(stored)
                self._set = stored
            except (cbor.CborError, SettingsError):
                pass  # of another version: the defaults hold until the server sets them again
        self._apply()

    def _apply(self):
        for key, name, _low, _high, default in table.SETTINGS:
            setattr(self, name, self._set.get(key, self._defaults.get(name, default)))

    # Take over a whole map of settings, in flash first; SettingsError or StoreError: nothing changed.
    def change(self, settings):
        check(settings)
        merged = dict(self._set)
        merged.update(settings)
        self._store.save(names.CONFIG, cbor.encode(merged))
        self._set = merged
        self._apply()
