# Wi-Fi, against a station that behaves as MicroPython's on the ESP32.
import os
import sys
import time

import sealband
from sealband import provision
from sealband.crypto import cbor
from sealband.links.base import LinkError
from sealband.links.wifi import WifiBearer

SSID = "works"
KEY = "correct horse"
CONNECTING, GOT_IP, IDLE = 1001, 1010, 1000
NO_AP_FOUND, WRONG_PASSWORD = 201, 202


class FakeWlan:
    # up after so many questions; `failure` while it tries; what `faulty` names raises as the driver does
    def __init__(self, after=3, on=False, failure=CONNECTING, faulty=(), error=OSError("Wifi Internal Error")):
        self._after = after
        self._failure = failure
        self._faulty = faulty
        self._error = error
        self._on = on
        self._trying = on
        self.calls = []

    def _called(self, *call):
        self.calls.append(call)
        if call[0] in self._faulty or call in self._faulty:
            raise self._error

    def active(self, on=None):
        if on is not None:
            self._called("active", on)
            self._on = on
            self._trying = False
        return self._on

    def connect(self, ssid, key):
        self._called("connect", ssid, key)
        if not self._on:
            raise OSError("Wifi Not Started")
        if self._trying:
            raise OSError("Wifi Internal State Error")
        if not (type(ssid) is str and (key is None or type(key) is str)):
            raise TypeError("can't convert to str")
        self._trying = True

    def isconnected(self):
        self._after -= 1
        return self._on and self._trying and self._after <= 0

    def status(self):
        return self._failure

    def disconnect(self):
        self._called("disconnect")
        if not self._on:
            raise OSError("Wifi Not Started")
        self._trying = False


# Wait as it asks for; the pauses.
def waited(steps):
    pauses = []
    for pause_ms in steps:
        pauses.append(pause_ms)
        time.sleep_ms(pause_ms)
    return pauses


def join(wlan, key=KEY):
    return waited(WifiBearer(wlan).join((SSID, key), 5000))


def refused(wlan, ssid=SSID, key=KEY, timeout_ms=300):
    pauses = []
    try:
        for pause_ms in WifiBearer(wlan).join((ssid, key), timeout_ms):
            pauses.append(pause_ms)
            time.sleep_ms(pause_ms)
    except LinkError as error:
        assert key not in str(error)
        return pauses
    raise AssertionError("it came up")


def test_link_comes_up_in_short_pauses():
    wlan = FakeWlan()
    pauses = join(wlan)
    assert wlan.calls == [("active", False), ("active", True), ("connect", SSID, KEY)]
    assert len(pauses) == 2 and max(pauses) <= 250


def test_open_network_is_joined_without_a_key():
    wlan = FakeWlan()
    join(wlan, "")
    assert wlan.calls[-1] == ("connect", SSID, None)


def test_attempt_that_still_goes_on_from_before_a_soft_reset_does_not_stand_in_the_way():
    wlan = FakeWlan(on=True)
    join(wlan)
    assert wlan.isconnected()


def test_failure_that_the_chip_tries_to_mend_is_waited_for():
    join(FakeWlan(failure=NO_AP_FOUND))


def test_link_that_does_not_come_is_an_error_and_the_radio_is_off():
    for failure in (CONNECTING, NO_AP_FOUND, WRONG_PASSWORD, IDLE):
        wlan = FakeWlan(after=1000, failure=failure)
        pauses = refused(wlan)
        assert 200 <= sum(pauses) <= 500
        assert wlan.calls[-1] == ("active", False)
        assert not wlan.active()


def test_driver_that_fails_is_an_error_and_the_radio_is_off():
    for error in (OSError("Wifi Internal Error"), OSError(-1), RuntimeError("Wifi Unknown Error 0x0101"), ValueError()):
        for faulty in (("active", True), "connect"):
            wlan = FakeWlan(faulty=(faulty,), error=error)
            refused(wlan)
            assert wlan.calls[-1] == ("active", False)


def test_name_that_is_no_text_is_an_error():
    refused(FakeWlan(), ssid=7)


def test_going_down_never_raises():
    for faulty in ((), ("disconnect",), ("active",), ("disconnect", "active")):
        for error in (OSError("Wifi Not Started"), RuntimeError("x")):
            WifiBearer(FakeWlan(faulty=faulty, error=error)).down()
    wlan = FakeWlan()
    bearer = WifiBearer(wlan)
    waited(bearer.join((SSID, KEY), 5000))
    assert bearer.ready()
    assert waited(bearer.down()) == []
    assert not wlan.active() and not bearer.ready()
    assert ("disconnect",) in wlan.calls


PATH = "/tmp/sealband-test-wifi-provision"


def with_wifi(row):
    return {1: bytes(16), 2: bytes(16), 3: [], 4: row}


# A station, after a bearer was brought up with this in the provisioned file; None: it would not come up
def brought_up(table):
    before, provision.PATH = provision.PATH, PATH
    # it is loaded for an occasion only, and this is the one to be loaded
    sys.modules["sealband.provision"] = sealband.provision = provision
    wlan = FakeWlan()
    try:
        with open(PATH, "wb") as file:
            file.write(cbor.encode(table))
        waited(WifiBearer(wlan).up())
        return wlan
    except LinkError:
        return None
    finally:
        provision.PATH = before
        os.remove(PATH)


def test_bearer_joins_the_provisioned_network():
    assert brought_up(with_wifi([SSID, KEY])).calls[-1] == ("connect", SSID, KEY)


def test_bearer_without_a_provisioned_network_does_not_come_up():
    for row in (None, [SSID], [SSID, 7], "ab"):
        assert brought_up(with_wifi(row)) is None
    assert brought_up([]) is None
    assert provision.load("/tmp/none-there") is None


class FakeNetwork:
    STA_IF = 0

    @staticmethod
    def WLAN(interface):
        wlan = FakeWlan()
        wlan.interface = interface
        return wlan


def test_chip_s_own_station_is_taken():
    before = sys.modules.get("network")
    sys.modules["network"] = FakeNetwork
    try:
        assert WifiBearer()._wlan.interface == 0
    finally:
        sys.modules.pop("network")
        if before:
            sys.modules["network"] = before
