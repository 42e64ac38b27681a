# The settings that hold: an attribute each. Applying them is the business of those who are asked to configure().
from sealband import once


class SettingsError(Exception):
    # `code`: a result code of sealwire.messages, for the receipt
    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


class Config:
    # `defaults`: the application's values by name, for what the server has not set
    def __init__(self, store, defaults=None):
        self.store = store
        self.defaults = defaults or {}
        once("sealband.settings").apply(self)

    # Take over a whole map of settings, in flash first; SettingsError or StoreError: nothing changed.
    def change(self, settings):
        once("sealband.settings").change(self, settings)
