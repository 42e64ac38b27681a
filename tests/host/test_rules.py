"""The ether as the regulator: what breaks a region's rules is listed, and nothing else.

Expected values are those of the regulations and of LoRaWAN's tables.
"""

import json
import signal
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host_tools.sim.airtime import RadioError, RadioParams, airtime_s
from host_tools.sim.clock import SimClock
from host_tools.sim.ether import Ether, EtherClient
from host_tools.sim.medium import Medium
from host_tools.sim.rules import PLANS, VIOLATIONS_MAX, Rules
from sealwire import radio
from tests.support.micropython import ROOT

HOUR = 3600.0


def _send(rules: Rules, params: RadioParams, length: int, at: float, sender: str = "band-1") -> float:
    end = at + airtime_s(params, length)
    rules.check(sender, length, params, (at, end))
    return end


def _broken(region: str, params: RadioParams, length: int = 20) -> list[str]:
    rules = Rules(region)
    _send(rules, params, length, 0.0)
    return [violation.rule for violation in rules.violations]


# ETSI EN 300 220-2 V3.2.1 annex B: seconds in an hour
@pytest.mark.parametrize(
    ("frequency_hz", "band", "budget_s"),
    [
        (864_100_000, "K", 3.6),
        (867_100_000, "L", 36.0),
        (868_100_000, "M", 36.0),
        (868_800_000, "N", 3.6),
        (869_525_000, "P", 360.0),
        (869_850_000, "Q", 36.0),
    ],
)
def test_duty_cycle_is_each_sub_band_s(frequency_hz: int, band: str, budget_s: float) -> None:
    rules = Rules("EU868")
    params = RadioParams(frequency_hz, 7)
    each = airtime_s(params, 50)
    count = int(budget_s / each)
    at = 0.0
    for _ in range(count):
        _send(rules, params, 50, at)
        at += (HOUR - 60) / count
    assert not rules.violations and rules.ledgers["band-1", band].busiest_hour_s <= budget_s
    _send(rules, params, 50, at)
    assert [v.rule for v in rules.violations] == ["duty"] and f"of {budget_s}" in rules.violations[0].detail


def test_sub_bands_and_senders_do_not_share_a_budget() -> None:
    rules = Rules("EU868")
    params = RadioParams(868_100_000, 12), RadioParams(867_100_000, 12)
    for sender in ("band-1", "band-2"):
        for one in params:
            at = 0.0
            for _ in range(14):  # 14 times 2.466 s: 34.5 of 36 s
                at = _send(rules, one, 51, at, sender) + 1
    assert not rules.violations
    # three channels of one sub-band are one budget
    for frequency_hz in (868_100_000, 868_300_000, 868_500_000):
        at = _send(rules, RadioParams(frequency_hz, 12), 51, at) + 1
    assert rules.counts == {"duty": 3}


def test_after_an_hour_it_is_as_before() -> None:
    rules = Rules("EU868")
    params = RadioParams(868_100_000, 12)
    for hour in range(5):
        for i in range(14):
            _send(rules, params, 51, hour * (HOUR + 100) + 5 * i)
    assert not rules.violations


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0.5, 900), st.integers(7, 12), st.booleans()), min_size=1, max_size=40))
def test_duty_cycle_is_broken_where_an_hour_somewhere_has_more(schedule: list[tuple[float, int, bool]]) -> None:
    rules = Rules("EU868")
    spans: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    at = 0.0
    for gap, sf, low in schedule:
        params = RadioParams(867_100_000 if low else 868_100_000, sf)
        at += gap
        end = _send(rules, params, 51, at)
        spans[low].append((at, end))
        at = end

    def worst(band: list[tuple[float, float]]) -> float:
        return max(
            (sum(max(0.0, min(e, end) - max(s, end - HOUR)) for s, e in band) for _, end in band),
            default=0.0,
        )

    assert bool(rules.counts["duty"]) == any(worst(band) > 36.000001 for band in spans.values())


@pytest.mark.parametrize(
    ("region", "mhz", "sf", "length", "expected"),
    [
        ("EU868", 868.1, 7, 222, []),
        ("EU868", 868.56, 7, 20, ["channel"]),  # leaves sub-band M by 22.5 kHz
        ("EU868", 868.65, 7, 20, ["channel"]),  # between M and N
        ("EU868", 870.1, 7, 20, ["channel"]),
        ("EU868", 868.1, 12, 64, []),
        ("EU868", 868.1, 12, 65, ["payload"]),
        ("EU868", 868.1, 6, 20, ["rate"]),
        ("US915", 902.3, 7, 222, []),
        ("US915", 914.9, 10, 24, []),
        ("US915", 914.9, 10, 25, ["payload", "dwell", "occupancy"]),
        ("US915", 902.4, 7, 20, ["channel"]),
        ("US915", 915.1, 7, 20, ["channel"]),
        ("US915", 902.3, 11, 20, ["rate", "dwell", "occupancy"]),
        ("AU915", 915.2, 9, 66, []),
        ("AU915", 902.3, 9, 66, ["channel"]),
        ("AU915", 927.8, 9, 67, ["payload", "dwell"]),
        ("AS923", 923.2, 8, 138, []),
        ("AS923", 923.2, 12, 13, ["rate", "dwell"]),
        ("IN865", 865.0625, 12, 51, []),
        ("IN865", 867.1, 12, 51, ["channel"]),
    ],
)
def test_channels_rates_lengths_and_dwell_time(
    region: str, mhz: float, sf: int, length: int, expected: list[str]
) -> None:
    assert _broken(region, RadioParams(round(mhz * 1e6), sf), length) == expected


def test_downlinks_are_where_the_region_has_them() -> None:
    down = {"crc": False, "invert_iq": True}
    assert not _broken("EU868", RadioParams(868_100_000, 12, **down), 64)  # type: ignore[arg-type]
    assert not _broken("US915", RadioParams(923_300_000, 10, 500_000, **down), 64)  # type: ignore[arg-type]
    assert not _broken("AU915", RadioParams(927_500_000, 10, 500_000, **down), 64)  # type: ignore[arg-type]
    assert _broken("US915", RadioParams(902_300_000, 10, **down), 24) == ["channel", "rate"]  # type: ignore[arg-type]


def test_power_is_the_sub_band_s() -> None:
    assert not _broken("EU868", RadioParams(869_525_000, 9, power_dbm=27))
    assert _broken("EU868", RadioParams(868_100_000, 9, power_dbm=15)) == ["power"]


def test_one_channel_is_used_for_400_ms_in_20_s_at_most() -> None:
    rules = Rules("US915")
    params = RadioParams(902_300_000, 7)
    each = airtime_s(params, 100)  # 174 ms
    at = 0.0
    for _ in range(10):
        _send(rules, params, 100, at)
        _send(rules, params, 100, at + 1)
        at += 21.2
    assert not rules.violations and each > 0.133
    _send(rules, params, 100, at)
    _send(rules, params, 100, at + 5)
    _send(rules, params, 100, at + 10)
    assert [v.rule for v in rules.violations] == ["occupancy"]
    # on other channels it is allowed
    for i in range(8):
        _send(rules, RadioParams(903_900_000 + 200_000 * i, 7), 100, at + 11 + i)
    assert len(rules.violations) == 1


@pytest.mark.parametrize("region", sorted(PLANS))
def test_what_the_devices_table_allows_breaks_no_rule(region: str) -> None:
    channels_khz, permille, dwell_ms, power_dbm, frame_max = radio.region(region)
    rules = Rules(region)
    at = 0.0
    for khz in channels_khz:
        for sf, length in frame_max.items():
            params = RadioParams(khz * 1000, sf, power_dbm=power_dbm)
            assert not dwell_ms or airtime_s(params, length) <= dwell_ms / 1000
            at = _send(rules, params, length, at + HOUR)
            down_khz, down_sf, down_bw_khz = radio.downlink(region, khz, sf, 125)
            down = RadioParams(down_khz * 1000, down_sf, down_bw_khz * 1000, crc=False, invert_iq=True)
            at = _send(rules, down, radio.downlink_max(down_sf, down_bw_khz), at + HOUR, "gateway")
    assert not rules.violations
    band = [band for band in PLANS[region].sub_bands if band.low_hz <= 1000 * channels_khz[0] <= band.high_hz]
    assert permille / 1000 == (band[0].duty or 0)


# RP002-1.0.4, US902-928 and AU915-928, "receive windows": channel modulo 8
@pytest.mark.parametrize(
    ("region", "up_khz", "down_khz"),
    [
        ("US915", 902_300, 923_300),
        ("US915", 903_700, 927_500),
        ("US915", 903_900, 923_300),
        ("US915", 914_900, 927_500),
        ("AU915", 915_200, 923_300),
        ("AU915", 916_800, 923_300),
        ("AU915", 927_800, 927_500),
        ("EU868", 868_300, 868_300),
        ("AS923", 923_400, 923_400),
    ],
)
def test_answer_comes_where_lorawan_s_first_window_is(region: str, up_khz: int, down_khz: int) -> None:
    bw_khz = 500 if region in ("US915", "AU915") else 125
    assert radio.downlink(region, up_khz, 9, 125) == (down_khz, 9, bw_khz)


def test_longest_downlinks_pass_lorawan_s_limits() -> None:
    # RP002-1.0.4, US902-928: MACPayload of DR8 to DR13, plus MHDR and MIC
    for sf, most in {12: 61, 11: 137, 10: 250, 9: 250, 8: 250, 7: 250}.items():
        assert radio.downlink_max(sf, 500) <= most + 5
    assert [radio.downlink_max(sf, 125) for sf in range(7, 13)] == [222, 222, 115, 51, 51, 51]


def test_who_begins_while_another_is_heard_is_listed() -> None:
    medium = Medium(path_loss_db={("a", "b"): 60.0}, rules=Rules("AS923", lbt_dbm=-80.0))
    params = RadioParams(923_200_000, 9, power_dbm=13)
    medium.transmit("a", bytes(50), params, 10.0, 10.0)
    medium.transmit("b", bytes(50), params, 10.2, 10.2)  # -47 dBm are on the channel
    medium.transmit("c", bytes(50), params, 10.25, 10.25)  # far away: -97 dBm
    medium.transmit("b", bytes(50), RadioParams(923_400_000, 9, power_dbm=13), 11.0, 11.0)
    medium.settle(20.0)
    assert medium.rules is not None
    assert [(v.sender, v.rule) for v in medium.rules.violations] == [("b", "lbt")]


def test_the_list_is_bounded_and_the_count_is_not() -> None:
    rules = Rules("EU868")
    for second in range(300):
        _send(rules, RadioParams(866_999_000, 7), 20, float(10 * second))
        _send(rules, RadioParams(868_610_000, 7), 20, float(10 * second + 5))
    assert len(rules.violations) == VIOLATIONS_MAX and rules.counts["channel"] == 300


def test_unknown_region_is_refused() -> None:
    with pytest.raises(RadioError, match="AS923, AU915, EU868, IN865, US915"):
        Rules("MARS")


def test_ether_lists_what_broke_the_rules_in_its_statistics() -> None:
    clock = SimClock.start(50)
    with Ether(clock, region="EU868") as ether, EtherClient(ether.address or ("", 0), "loud", clock) as loud:
        begin = clock.now()
        for i in range(16):
            loud.transmit(bytes(51), RadioParams(868_100_000 + 200_000 * (i % 3), 12), begin + 3 * i)
        loud.transmit(bytes(51), RadioParams(866_000_000, 12), begin + 60)
        clock.sleep(70)
        rules = ether.statistics()["rules"]
    assert rules["region"] == "EU868" and rules["broken"] == {"duty": 2}
    assert {v["sender"] for v in rules["violations"]} == {"loud"}
    assert rules["busiest_hour_s"]["loud"] == {"L": pytest.approx(2.465792), "M": pytest.approx(16 * 2.465792)}


def test_command_tells_what_broke_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimClock.start(50)
    for name, value in clock.to_environment().items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-c", "from host_tools.cli import main; main()", "sim", "ether", "--region", "AS923"]
    with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout
        host, port = json.loads(process.stdout.readline())["address"]
        with EtherClient((host, port), "slow", clock) as slow:
            slow.transmit(bytes(51), RadioParams(923_200_000, 12, power_dbm=13))
            clock.sleep(10)
        process.send_signal(signal.SIGINT)
        told = json.loads(process.stdout.readline())["rules"]
    assert told["region"] == "AS923" and told["broken"] == {"rate": 1, "dwell": 1}
