"""The gateways' ledger: no hour of any of them ever holds more than the regulator allows, whatever is asked of it.

The model it is held against knows nothing of it: it takes the list of what was let through, computes time on air with
the simulator's own formula, and slides an hour over it.
"""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host_tools.gateway import dutycycle, ledgerfile
from host_tools.gateway.dutycycle import BANDS, Ledger, TransmissionRefused, airtime_s, band_of
from host_tools.gateway.ledgerfile import KeptLedger, LedgerError
from host_tools.sim.airtime import RadioParams
from host_tools.sim.airtime import airtime_s as simulated_airtime_s

GATEWAY = "aa555a0000000101"
# (frequency, share of an hour): ERC Recommendation 70-03 annex 1, as the model has it
SHARES = {868_100_000: 0.01, 868_300_000: 0.01, 867_100_000: 0.01, 869_525_000: 0.1, 863_500_000: 0.001}
BAND_OF = {868_100_000: "M", 868_300_000: "M", 867_100_000: "L", 869_525_000: "P", 863_500_000: "K"}


def params(frequency_hz: int, data_rate: str) -> RadioParams:
    sf, _, khz = data_rate.removeprefix("SF").partition("BW")
    return RadioParams(frequency_hz, int(sf), 1000 * int(khz), invert_iq=True)


def busiest_hour_s(sent: list[tuple[float, float]]) -> float:
    """The most time on air in any hour: it begins or ends with a transmission's edge."""
    busiest = 0.0
    for edge in [time for pair in sent for time in pair]:
        for opened in (edge, edge - 3600):
            busiest = max(busiest, sum(max(0.0, min(end, opened + 3600) - max(start, opened)) for start, end in sent))
    return busiest


@pytest.mark.parametrize("sf", range(5, 13))
@pytest.mark.parametrize("khz", [125, 250, 500])
def test_time_on_air_is_the_simulators(sf: int, khz: int) -> None:
    rate = f"SF{sf}BW{khz}"
    for length in (1, 13, 20, 51, 52, 115, 222, 255):
        assert airtime_s(rate, length) == pytest.approx(simulated_airtime_s(params(868_100_000, rate), length))


requests = st.lists(
    st.tuples(
        st.floats(0, 4000),  # seconds since the request before, mostly far less than an hour
        st.floats(0, 5),  # planned so far ahead, so not in the order of their times
        st.sampled_from(sorted(SHARES)),
        st.sampled_from(("SF7BW125", "SF10BW125", "SF12BW125")),
        st.integers(13, 255),
        st.booleans(),  # the gateway refuses it
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(requests)
def test_no_hour_holds_more_than_its_band_allows(asked: list[tuple[float, float, int, str, int, bool]]) -> None:
    ledger, now = Ledger(), 1_735_700_000.0
    sent: dict[str, list[tuple[float, float]]] = {}
    for pause_s, ahead_s, frequency_hz, rate, length, fails in asked:
        now += pause_s if pause_s > 3000 else pause_s / 100
        start = now + ahead_s
        try:
            entry = ledger.reserve(GATEWAY, "EU868", frequency_hz, rate, length, 14, start)
        except TransmissionRefused as refusal:
            reason = refusal.reason
        else:
            reason = ""
            assert entry is not None
            if fails:
                ledger.release(entry)
            else:
                took_s = simulated_airtime_s(params(frequency_hz, rate), length)
                sent.setdefault(BAND_OF[frequency_hz], []).append((start, start + took_s))
        assert reason in ("", "duty_cycle")
    for frequency_hz, share in SHARES.items():
        assert busiest_hour_s(sent.get(BAND_OF[frequency_hz], [])) <= 3600 * share + 1e-6


def test_a_busy_day_is_held_to_one_percent_and_nearly_uses_it() -> None:
    ledger, rng = Ledger(), random.Random(5)
    sent: list[tuple[float, float]] = []
    refused = 0
    for second in range(0, 4 * 3600, 5):
        start = second + rng.uniform(0, 5)
        try:
            ledger.reserve(GATEWAY, "EU868", rng.choice((868_100_000, 868_500_000)), "SF12BW125", 30, 14, start)
        except TransmissionRefused:
            refused += 1
        else:
            sent.append((start, start + simulated_airtime_s(params(868_100_000, "SF12BW125"), 30)))
    assert 33 < busiest_hour_s(sent) <= 36
    assert refused > 2000
    assert ledger.used_s(GATEWAY, 4 * 3600) <= 36


def test_each_gateway_and_each_band_has_an_account_of_its_own() -> None:
    ledger = Ledger()

    def fill(gateway: str, frequency_hz: int) -> int:
        for count in range(1000):
            try:
                ledger.reserve(gateway, "EU868", frequency_hz, "SF12BW125", 51, 14, 1000.0)
            except TransmissionRefused as refusal:
                return count if refusal.reason == "duty_cycle" else -1
        return 1000

    counts = [fill(GATEWAY, 868_100_000), fill("aa555a0000000102", 868_100_000), fill(GATEWAY, 867_100_000)]
    assert counts == [14, 14, 14]  # 36 s of 2.466 s each (Semtech's calculator)
    assert fill(GATEWAY, 868_500_000) == 0  # the same band as 868.1
    assert fill(GATEWAY, 869_525_000) == 145


def test_what_was_not_sent_is_given_back() -> None:
    ledger = Ledger()
    entries = [ledger.reserve(GATEWAY, "EU868", 868_100_000, "SF12BW125", 51, 14, 0.0) for _ in range(14)]
    assert entries[3] is not None
    ledger.release(entries[3])
    ledger.release(entries[3])  # twice is once
    ledger.reserve(GATEWAY, "EU868", 868_100_000, "SF12BW125", 51, 14, 0.0)
    with pytest.raises(TransmissionRefused):
        ledger.reserve(GATEWAY, "EU868", 868_100_000, "SF12BW125", 51, 14, 0.0)


@pytest.mark.parametrize(
    ("region", "frequency_hz", "rate", "power_dbm", "reason"),
    [
        ("EU868", 868_650_000, "SF7BW125", 14, "band"),  # alarms' band between M and N
        ("EU868", 868_590_000, "SF7BW125", 14, "band"),  # its upper edge lies outside
        ("EU868", 923_300_000, "SF7BW125", 14, "band"),
        ("EU868", 868_100_000, "SF7BW125", 17, "power"),
        ("EU868", 869_525_000, "SF7BW125", 27, ""),
        ("US915", 923_300_000, "SF10BW500", 27, ""),
        ("US915", 868_100_000, "SF7BW125", 14, "band"),
        ("IN865", 865_985_000, "SF7BW125", 14, ""),
        ("XX", 868_100_000, "SF7BW125", 14, "band"),
    ],
)
def test_bands_and_powers(region: str, frequency_hz: int, rate: str, power_dbm: int, reason: str) -> None:
    try:
        Ledger().reserve(GATEWAY, region, frequency_hz, rate, 20, power_dbm, 0.0)
    except TransmissionRefused as refusal:
        assert refusal.reason == reason  # noqa: PT017
    else:
        assert reason == ""


def test_where_there_is_no_limit_nothing_is_kept() -> None:
    ledger = Ledger()
    for number in range(5000):
        assert ledger.reserve(GATEWAY, "US915", 923_300_000, "SF12BW500", 200, 20, float(number)) is None
    assert ledger.used_s(GATEWAY, 5000) == 0


def test_memory_is_bounded_whatever_gateways_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dutycycle, "ACCOUNTS_MAX", 10)
    ledger = Ledger()
    for number in range(10):
        ledger.reserve(f"{number:016x}", "EU868", 868_100_000, "SF7BW125", 20, 14, 0.0)
    with pytest.raises(TransmissionRefused, match="too many"):
        ledger.reserve("f" * 16, "EU868", 868_100_000, "SF7BW125", 20, 14, 100.0)
    ledger.reserve("f" * 16, "EU868", 868_100_000, "SF7BW125", 20, 14, 4000.0)  # the others' hour is over


def test_every_downlink_of_the_regions_lies_in_a_band() -> None:
    from sealwire import radio

    for region in BANDS:
        channels, _, _, power_dbm, frame_max = radio.region(region)
        for khz in channels:
            for sf in frame_max:
                down_khz, down_sf, bw = radio.downlink(region, khz, sf, 125)
                band = band_of(region, round(down_khz * 1000), f"SF{down_sf}BW{bw}")
                assert power_dbm <= band.power_dbm


# over a restart


def spend(ledger: Ledger, gateway: str = GATEWAY, start: float = 1000.0) -> int:
    """How many frames of 2.466 s it still takes."""
    for count in range(100):
        try:
            ledger.reserve(gateway, "EU868", 868_100_000, "SF12BW125", 51, 14, start)
        except TransmissionRefused:
            return count
    return 100


def test_a_bridge_that_is_started_again_goes_on_with_its_hour(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    first = KeptLedger(path, 1000.0)
    for _ in range(10):
        first.reserve(GATEWAY, "EU868", 868_100_000, "SF12BW125", 51, 14, 1000.0)
    # killed: it is not closed
    assert spend(KeptLedger(path, 1010.0), start=1010.0) == 4
    assert spend(KeptLedger(path, 1010.0), start=1010.0) == 0
    assert spend(KeptLedger(path, 5000.0), start=5000.0) == 14  # that hour is over


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_line_that_is_cut_short_costs_no_other(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "ledger"
    ledger = KeptLedger(path, 1000.0)
    for _ in range(3):
        ledger.reserve(GATEWAY, "EU868", 868_100_000, "SF12BW125", 51, 14, 1000.0)
    path.write_bytes(path.read_bytes()[:-cut])
    assert spend(KeptLedger(path, 1000.0)) in (11, 12)


def test_nonsense_in_the_file_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.write_bytes(b"\xff\n\n" + b"a b c d e f\n" + f"{GATEWAY} EU868 868100000 SF7BW125 1e9 nan\n".encode())
    assert spend(KeptLedger(path, 1000.0)) == 14


def test_a_disk_that_takes_nothing_stops_the_transmissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, _: str) -> None:
            raise OSError(28, "No space left on device")

        def close(self) -> None: ...

    ledger = KeptLedger(tmp_path / "ledger", 1000.0)
    monkeypatch.setattr(ledger, "_file", Full())
    with pytest.raises(TransmissionRefused) as refusal:
        ledger.reserve(GATEWAY, "EU868", 868_100_000, "SF12BW125", 51, 14, 1000.0)
    assert refusal.value.reason == "ledger_file"
    assert ledger.used_s(GATEWAY, 1000.0) == 0
    with pytest.raises(LedgerError, match="No such file"):
        KeptLedger(tmp_path / "nowhere" / "ledger", 1000.0)


def test_the_file_does_not_grow_without_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgerfile, "LINES_MAX", 20)
    ledger = KeptLedger(tmp_path / "ledger", 0.0)
    for number in range(200):
        ledger.reserve(GATEWAY, "EU868", 868_100_000, "SF7BW125", 20, 14, 400.0 * number)
    assert len((tmp_path / "ledger").read_text().splitlines()) <= 20


def test_an_hour_of_many_transmissions_is_not_written_anew_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that refuses all that it is asked to send gets an entry, and so a line, each time."""
    monkeypatch.setattr(ledgerfile, "LINES_MAX", 20)
    written = []
    replace = ledgerfile.wholefile.replace
    monkeypatch.setattr(
        ledgerfile.wholefile, "replace", lambda path, *rest: (written.append(path), replace(path, *rest))
    )
    ledger = KeptLedger(tmp_path / "ledger", 0.0)
    for number in range(1000):
        entry = ledger.reserve(GATEWAY, "EU868", 868_100_000, "SF7BW125", 20, 14, number / 100)
        assert entry is not None
        ledger.release(entry)
    assert len(written) < 10
    # and when that hour is over, the file is as short as it was
    for number in range(1000):
        ledger.reserve(GATEWAY, "EU868", 868_100_000, "SF7BW125", 20, 14, 8000.0 + 400 * number)
    assert len((tmp_path / "ledger").read_text().splitlines()) <= 20


def test_a_link_that_lies_in_wait_beside_the_file_is_not_followed(tmp_path: Path) -> None:
    """The ledger may be in a folder that others can write to, as /tmp is."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "ledger.new").symlink_to(victim)
    KeptLedger(tmp_path / "ledger", 1000.0).reserve(GATEWAY, "EU868", 868_100_000, "SF12BW125", 51, 14, 1000.0)
    assert victim.read_text() == "mine"
    assert spend(KeptLedger(tmp_path / "ledger", 1000.0)) == 13
