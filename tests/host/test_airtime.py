"""Time on air against Semtech's calculator, and the regulator's hour against its definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_tools.sim.airtime import HOUR_S, Ledger, RadioError, RadioParams, airtime_s, symbol_count

# Output of Semtech's "SX1261 LoRa Calculator", as recorded in micropython-lib's lora/tests/test_time_on_air.py:
# sf, bandwidth, coding rate, preamble, length, explicit header, CRC → symbols (the calculator shows 8 too few), ms
CALCULATOR = [
    (12, 500_000, 5, 8, 1, True, True, 17.25, 206.848),
    (12, 500_000, 5, 12, 64, True, True, 71.25, 649.216),
    (12, 500_000, 5, 8, 1, True, False, 12.25, 165.888),
    (12, 500_000, 5, 8, 192, True, True, 172.25, 1476.608),
    (12, 500_000, 5, 12, 16, False, False, 26.25, 280.576),
    (8, 125_000, 6, 8, 1, True, True, 18.25, 53.760),
    (8, 125_000, 6, 8, 3, True, True, 24.25, 66.048),
    (8, 125_000, 6, 8, 3, True, False, 18.25, 53.760),
    (8, 125_000, 6, 8, 253, True, True, 396.25, 827.904),
    (8, 125_000, 6, 12, 10, False, True, 34.25, 86.528),
    (5, 500_000, 5, 2, 1, True, False, 13.25, 1.360),
    (5, 500_000, 5, 12, 253, False, True, 523.25, 34.000),
    (5, 125_000, 8, 12, 253, False, True, 826.25, 213.568),
    (12, 7_810, 8, 128, 253, True, True, 540.25, 287532.907),
    (11, 10_420, 7, 25, 16, True, True, 57.25, 12824.568),
    (11, 10_420, 7, 25, 16, False, False, 50.25, 11448.752),
]


@pytest.mark.parametrize("case", CALCULATOR)
def test_airtime_is_what_semtechs_calculator_says(
    case: tuple[int, int, int, int, int, bool, bool, float, float],
) -> None:
    sf, bw_hz, coding_rate, preamble_len, length, explicit, crc, symbols, expected_ms = case
    params = RadioParams(868_100_000, sf, bw_hz, coding_rate, preamble_len, crc=crc, implicit_header=not explicit)
    assert symbol_count(params, length) == symbols + 8
    assert airtime_s(params, length) * 1000 == pytest.approx(expected_ms, rel=1e-5)


# What the LoRaWAN world quotes for EU868, 125 kHz, 4/5, preamble 8: e.g. thethingsnetwork.org's airtime calculator
@pytest.mark.parametrize(("sf", "length", "expected_ms"), [(7, 23, 61.696), (12, 23, 1482.752), (12, 64, 2793.472)])
def test_airtime_of_lorawan_packets(sf: int, length: int, expected_ms: float) -> None:
    assert airtime_s(RadioParams(868_100_000, sf), length) * 1000 == pytest.approx(expected_ms)


# 37 bytes at 125 kHz: the spreadsheet of AN1200.13's formulas that The Things Network publishes. Twice the bandwidth is
# half the time, as long as low data rate optimisation does not change with it (SF11 has it at 125 kHz, SF12 up to 250).
PUBLISHED_37 = {7: 82.176, 8: 143.872, 9: 267.264, 10: 493.568, 11: 1069.056, 12: 1974.272}


@pytest.mark.parametrize("bw_khz", [125, 250, 500])
@pytest.mark.parametrize("sf", sorted(PUBLISHED_37))
def test_airtime_at_every_data_rate_and_bandwidth_is_the_published_one(sf: int, bw_khz: int) -> None:
    params = RadioParams(868_100_000, sf, bw_khz * 1000)
    symbols = {11: 12.25 + 43, 12: 12.25 + 43}  # without it: 8 symbols and 7 blocks of 5
    if (sf == 11 and bw_khz > 125) or (sf == 12 and bw_khz > 250):
        assert airtime_s(params, 37) * 1000 == pytest.approx(symbols[sf] * (1 << sf) / bw_khz)
    else:
        assert airtime_s(params, 37) * 1000 == pytest.approx(PUBLISHED_37[sf] * 125 / bw_khz)


@pytest.mark.parametrize(
    "values",
    [
        {"sf": 4},
        {"sf": 13},
        {"sf": "7"},
        {"sf": True},
        {"bw_hz": 0},
        {"coding_rate": 4},
        {"frequency_hz": 0},
        {"frequency_hz": 868.1},
        {"crc": 1},
        {"power_dbm": 99},
        {"sync_word": -1},
        {"volume": 11},
    ],
)
def test_parameters_that_no_modem_has_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(RadioError):
        RadioParams.from_json({"frequency_hz": 868_100_000, "sf": 7} | values)


@pytest.mark.parametrize("value", [None, [], "SF7", {}, {"sf": 7}])
def test_what_is_no_parameters_is_refused(value: object) -> None:
    with pytest.raises(RadioError):
        RadioParams.from_json(value)


def test_parameters_survive_json() -> None:
    params = RadioParams(868_300_000, 9, 250_000, 8, 12, False, True, -3, 0x12, True)
    assert RadioParams.from_json(params.to_json()) == params


gaps_and_lengths = st.lists(st.tuples(st.floats(0.01, 2000), st.floats(0.01, 300)), min_size=1, max_size=30)


@given(gaps_and_lengths)
def test_busiest_hour_is_the_maximum_over_all_windows(pieces: list[tuple[float, float]]) -> None:
    ledger = Ledger()
    spans: list[tuple[float, float]] = []
    at = 0.0
    for gap, length in pieces:
        spans.append((at + gap, at + gap + length))
        at += gap + length
        ledger.note(*spans[-1])

    def used(opened: float) -> float:
        return sum(max(0.0, min(end, opened + HOUR_S) - max(start, opened)) for start, end in spans)

    # the sum is linear between these places, so its maximum is at one of them
    edges = [edge - shift for span in spans for edge in span for shift in (0.0, HOUR_S)]
    assert ledger.busiest_hour_s == pytest.approx(max(map(used, edges)))
    assert ledger.total_s == pytest.approx(sum(end - start for start, end in spans))


def test_ledger_keeps_one_hour_only() -> None:
    ledger = Ledger()
    for second in range(0, 100_000, 10):
        ledger.note(second, second + 0.1)
    assert len(ledger._recent) <= HOUR_S / 10 + 1
    assert ledger.packets == 10_000
