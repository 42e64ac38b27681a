"""Which gateway sends a downlink: the next one when one refuses, never two, never beyond the hour's share."""

from collections import Counter
from dataclasses import replace

import pytest

from host_tools.gateway.downlinks import AHEAD_S, AT_MOST_AHEAD_S, Attempt, Downlinks
from host_tools.gateway.dutycycle import Ledger
from host_tools.gateway.envelope import Downlink, Route
from host_tools.gateway.gateways import GatewayRefused

NOW = 1_735_700_000.0
ONE, TWO, THREE = "aa555a0000000101", "aa555a0000000102", "aa555a0000000103"


def downlink(*gateways: str, at: float = NOW + 4.0, rate: str = "SF7BW125", length: int = 30) -> Downlink:
    routes = tuple(Route(eui, b"\0" * 5, 868_100_000, rate, 14, "EU868") for eui in gateways)
    return Downlink(b"\xe0" * length, at, 5000, routes)


class Radio:
    """A kind of gateways that notes what it is given."""

    def __init__(self, *euis: str) -> None:
        self.euis = set(euis)
        self.unreachable: set[str] = set()
        self.asked: list[Attempt] = []

    def serves(self, route: Route) -> bool:
        return route.gateway in self.euis

    def send(self, attempt: Attempt) -> None:
        if attempt.downlink.routes[0].gateway in self.unreachable:
            raise GatewayRefused("unreachable", "")
        self.asked.append(attempt)

    @property
    def gateways(self) -> list[str]:
        return [attempt.downlink.routes[0].gateway for attempt in self.asked]


class Setting:
    def __init__(self, *radios: Radio) -> None:
        self.now = NOW
        self.ledger = Ledger()
        self.refused: Counter[str] = Counter()
        self.passed_on: list[Downlink] = []
        self.downlinks = Downlinks(radios, self.ledger, lambda: self.now, self.passed_on.append, self.refused)


def test_the_first_gateway_is_asked_and_no_other() -> None:
    radio = Radio(ONE, TWO)
    setting = Setting(radio)
    assert setting.downlinks.take(downlink(ONE, TWO))
    assert radio.gateways == [ONE]
    assert setting.refused == {}


def test_a_gateway_that_refuses_leads_to_the_next_and_gets_its_time_back() -> None:
    radio = Radio(ONE, TWO, THREE)
    setting = Setting(radio)
    setting.downlinks.take(downlink(ONE, TWO, THREE))
    assert setting.downlinks.failed(radio.asked[0])
    assert setting.downlinks.failed(radio.asked[1])
    assert radio.gateways == [ONE, TWO, THREE]
    assert not setting.downlinks.failed(radio.asked[2])  # there is no fourth
    assert [setting.ledger.used_s(eui, NOW + 10) for eui in (ONE, TWO, THREE)] == [0, 0, 0]


def test_a_gateway_that_says_nothing_has_it() -> None:
    radio = Radio(ONE, TWO)
    setting = Setting(radio)
    setting.downlinks.take(downlink(ONE, TWO))
    setting.now += 3
    assert radio.gateways == [ONE]
    assert setting.ledger.used_s(ONE, NOW + 10) > 0


def test_a_refusal_that_comes_too_late_leads_nowhere() -> None:
    radio = Radio(ONE, TWO)
    setting = Setting(radio)
    setting.downlinks.take(downlink(ONE, TWO))
    setting.now = NOW + 4.0 - AHEAD_S + 0.01
    assert not setting.downlinks.failed(radio.asked[0])
    assert radio.gateways == [ONE]
    assert setting.refused == {"too_late_for_another": 1}


def test_a_gateway_that_cannot_be_reached_is_passed_over() -> None:
    radio = Radio(ONE, TWO)
    radio.unreachable = {ONE}
    setting = Setting(radio)
    assert setting.downlinks.take(downlink(ONE, TWO))
    assert radio.gateways == [TWO]
    assert setting.refused == {"unreachable": 1}
    assert setting.ledger.used_s(ONE, NOW + 10) == 0


def test_kinds_of_gateways_stand_in_for_each_other() -> None:
    packet_forwarders, chirpstack = Radio(ONE), Radio(TWO)
    setting = Setting(packet_forwarders, chirpstack)
    setting.downlinks.take(downlink(ONE, TWO))
    setting.downlinks.failed(packet_forwarders.asked[0])
    assert chirpstack.gateways == [TWO]


def test_a_gateway_whose_hour_is_used_up_is_passed_over_and_what_none_may_send_is_dropped() -> None:
    radio = Radio(ONE, TWO)
    setting = Setting(radio)
    sent = [setting.downlinks.take(downlink(ONE, TWO, rate="SF12BW125", length=51)) for _ in range(40)]
    # 36 s of 2.466 s each
    assert Counter(radio.gateways) == {ONE: 14, TWO: 14}
    assert sent == [True] * 28 + [False] * 12
    assert setting.refused == {"duty_cycle": 26 + 12}
    setting.now += 3700
    assert setting.downlinks.take(downlink(ONE, TWO, at=setting.now + 4, rate="SF12BW125", length=51))


def test_what_another_bridge_serves_is_passed_on_without_the_routes_that_failed() -> None:
    here, there = Radio(ONE), Radio(TWO)
    first, second = Setting(here), Setting(there)
    asked = downlink(ONE, TWO, THREE)
    # both bridges hear of it
    assert first.downlinks.take(asked)
    assert not second.downlinks.take(asked)
    assert second.refused == {"unreachable": 1}
    first.downlinks.failed(here.asked[0])
    assert first.passed_on == [replace(asked, routes=asked.routes[1:])]
    assert second.downlinks.take(first.passed_on[0])
    assert there.gateways == [TWO]


def test_it_ends_though_every_gateway_is_another_bridges() -> None:
    settings = [Setting(), Setting()]
    waiting = [downlink(ONE, TWO, THREE)]
    for _ in range(10):
        for asked in waiting:
            for setting in settings:
                setting.downlinks.take(asked)
        waiting = [one for setting in settings for one in setting.passed_on]
        for setting in settings:
            setting.passed_on.clear()
    assert waiting == []


@pytest.mark.parametrize("at", [NOW + AT_MOST_AHEAD_S + 1, 2.0**33])
def test_a_downlink_of_the_far_future_fills_no_ledger(at: float) -> None:
    radio = Radio(ONE)
    setting = Setting(radio)
    assert not setting.downlinks.take(downlink(ONE, at=at))
    assert setting.refused == {"downlink_too_early": 1}
    assert radio.asked == []


def test_a_place_where_no_gateway_may_send_is_refused_and_counted() -> None:
    radio = Radio(ONE)
    setting = Setting(radio)
    (route,) = downlink(ONE).routes
    for changed in (replace(route, frequency_hz=923_300_000), replace(route, power_dbm=27)):
        setting.downlinks.take(replace(downlink(ONE), routes=(changed,)))
    assert setting.refused == {"band": 1, "power": 1}
    assert radio.asked == []
