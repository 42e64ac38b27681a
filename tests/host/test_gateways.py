"""Which gateways a bridge believes, and how much: a protocol without authentication, so rules instead."""

import ipaddress

import pytest

from host_tools.gateway import gateways as rules
from host_tools.gateway.gateways import Bucket, Gateway, GatewayRefused, Gateways

HOME = ("192.0.2.1", 5000)
NOW = 1000.0


def eui(number: int) -> str:
    return f"{number:016x}"


def reason(error: pytest.ExceptionInfo[GatewayRefused]) -> str:
    return error.value.reason


def known(table: Gateways, number: int = 1, host: str = HOME[0], now: float = NOW) -> Gateway:
    table.admit(eui(number), host, 12, now)
    return table.enter(eui(number), host, now)


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = Bucket(rate=10, burst=5)
    assert [bucket.take(1, NOW) for _ in range(6)] == [True] * 5 + [False]
    assert not bucket.take(1, NOW + 0.05)
    assert bucket.take(1, NOW + 0.2)
    assert [bucket.take(1, NOW + 1000) for _ in range(6)] == [True] * 5 + [False]


def test_a_stranger_who_names_a_gateway_does_not_get_its_downlinks() -> None:
    table = Gateways()
    gateway = known(table)
    table.pulled(gateway, HOME, 2, NOW)
    for address in (("198.51.100.7", 5000), (HOME[0], 5001)):
        with pytest.raises(GatewayRefused) as refusal:
            table.pulled(gateway, address, 2, NOW + 10)
        assert reason(refusal) == "other_address"
    assert table.downlink(eui(1), "attempt", NOW + 10)[1] == HOME


def test_a_gateway_that_got_another_address_is_reached_again() -> None:
    table = Gateways()
    gateway = known(table)
    table.pulled(gateway, HOME, 2, NOW)
    moved = ("198.51.100.7", 6000)
    table.pulled(gateway, moved, 1, NOW + rules.PULL_SILENCE_S)
    assert table.downlink(eui(1), "attempt", NOW + rules.PULL_SILENCE_S)[1] == moved
    assert (gateway.host, gateway.version) == (moved[0], 1)


def test_a_gateway_that_does_not_pull_is_unreachable() -> None:
    table = Gateways()
    gateway = known(table)
    for number, now in ((1, NOW), (2, NOW)):
        with pytest.raises(GatewayRefused) as refusal:
            table.downlink(eui(number), "attempt", now)
        assert reason(refusal) == "unreachable"
    table.pulled(gateway, HOME, 2, NOW)
    table.downlink(eui(1), "attempt", NOW + rules.PULL_REACH_S)
    with pytest.raises(GatewayRefused):
        table.downlink(eui(1), "attempt", NOW + rules.PULL_REACH_S + 1)


def test_an_acknowledgement_must_answer_a_question() -> None:
    table = Gateways()
    gateway = known(table)
    table.pulled(gateway, HOME, 2, NOW)
    _, _, token = table.downlink(eui(1), "attempt", NOW)
    for host, answered in (("198.51.100.7", token), (HOME[0], token ^ 1)):
        with pytest.raises(GatewayRefused) as refusal:
            table.acknowledged(gateway, host, answered)
        assert reason(refusal) == "token"
    assert table.acknowledged(gateway, HOME[0], token) == "attempt"
    with pytest.raises(GatewayRefused):
        table.acknowledged(gateway, HOME[0], token)  # twice


def test_unanswered_downlinks_are_forgotten_at_last() -> None:
    table = Gateways()
    gateway = known(table)
    table.pulled(gateway, HOME, 2, NOW)
    tokens = [table.downlink(eui(1), "attempt", NOW)[2] for _ in range(10 * rules.PENDING_MAX)]
    assert list(gateway.pending) == tokens[-rules.PENDING_MAX :]


def test_a_flood_from_strangers_takes_nothing_from_a_gateway_at_work() -> None:
    table = Gateways()
    known(table)
    refused = 0
    for number in range(20_000):
        try:
            table.admit(eui(number), f"198.51.100.{number % 250}", 200, NOW + 1)
        except GatewayRefused:
            refused += 1
    assert refused >= 20_000 - rules.STRANGER_BURST - rules.GATEWAY_BURST
    table.admit(eui(1), HOME[0], 200, NOW + 1)


def test_a_gateways_own_flood_is_stopped_and_does_not_hurt_others() -> None:
    table = Gateways()
    table.enter(eui(1), HOME[0], NOW)
    table.enter(eui(2), "192.0.2.2", NOW)
    for _ in range(int(rules.GATEWAY_BURST)):
        table.admit(eui(1), HOME[0], 200, NOW)
    with pytest.raises(GatewayRefused) as refusal:
        table.admit(eui(1), HOME[0], 200, NOW)
    assert reason(refusal) == "rate"
    table.admit(eui(2), "192.0.2.2", 200, NOW)


def test_long_datagrams_cost_more() -> None:
    table = Gateways()
    table.enter(eui(1), HOME[0], NOW)
    for _ in range(int(rules.GATEWAY_BURST / 32)):
        table.admit(eui(1), HOME[0], 32_000, NOW)
    with pytest.raises(GatewayRefused):
        table.admit(eui(1), HOME[0], 32_000, NOW)


def test_one_address_cannot_fill_the_table() -> None:
    table = Gateways()
    for number in range(rules.PER_ADDRESS_MAX):
        table.enter(eui(number), HOME[0], NOW)
    with pytest.raises(GatewayRefused) as refusal:
        table.enter(eui(5000), HOME[0], NOW)
    assert reason(refusal) == "address_full"
    table.enter(eui(5000), "192.0.2.2", NOW)


def test_thousands_of_gateways_fill_the_table_and_no_memory() -> None:
    table = Gateways()
    mine = known(table, 99_999)
    refusals = 0
    for number in range(5_000):
        now = NOW + number / 100
        if number % 100 == 0:
            table.enter(mine.eui, HOME[0], now)
        try:
            table.enter(eui(number), f"198.51.{number % 250}.{number % 199}", now)
        except GatewayRefused as refusal:
            assert refusal.reason == "table_full"  # noqa: PT017
            refusals += 1
    assert len(table) == rules.GATEWAYS_MAX
    assert refusals == 5_000 - (rules.GATEWAYS_MAX - 1)
    assert table.enter(mine.eui, HOME[0], NOW + 60) is mine
    # once they are idle, a newcomer takes the place of the one that was silent longest
    table.enter(eui(70_000), "192.0.2.9", NOW + 50 + rules.IDLE_S)
    assert len(table) == rules.GATEWAYS_MAX
    assert eui(0) not in table.summary(NOW)
    assert mine.eui in table.summary(NOW)


def test_with_a_list_only_its_gateways_are_let_in_and_from_their_networks() -> None:
    table = Gateways({eui(1): ipaddress.ip_network("192.0.2.0/28"), eui(2): None})
    table.admit(eui(1), "192.0.2.1", 12, NOW)
    table.admit(eui(2), "203.0.113.5", 12, NOW)
    for number, host in ((3, "192.0.2.1"), (1, "192.0.2.16"), (1, "2001:db8::1")):
        with pytest.raises(GatewayRefused) as refusal:
            table.admit(eui(number), host, 12, NOW)
        assert reason(refusal) == "not_allowed"
