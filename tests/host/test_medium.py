"""The radio medium: who hears whom, decided from virtual times."""

from dataclasses import replace

import pytest

from host_tools.sim import medium as medium_module
from host_tools.sim.airtime import RadioParams, airtime_s
from host_tools.sim.medium import Medium, Reception, Transmission, TransmitRefused, Window

UP = RadioParams(868_100_000, 7)
NOW = 1_735_689_600.0
PACKET = b"\xe0" + bytes(19)


def quiet(**settings: object) -> Medium:
    """A medium without chance."""
    return Medium(**{"fading_db": 0.0, **settings})  # type: ignore[arg-type]


def send(
    medium: Medium, sender: str, start: float = NOW, params: RadioParams = UP, packet: bytes = PACKET
) -> Transmission:
    return medium.transmit(sender, packet, params, start, start)


def hear(medium: Medium, receiver: str, window: Window) -> Reception | None:
    coming = medium.expected(receiver, window)
    return None if coming is None else medium.judge(receiver, coming)


def window(start: float = NOW - 1, end: float = NOW + 1, **params: object) -> Window:
    return Window(replace(UP, **params), start, end)  # type: ignore[arg-type]


def test_a_packet_is_heard_with_its_figures() -> None:
    medium = quiet(default_path_loss_db=120.0, delay_s=0.5)
    sent = send(medium, "band")
    heard = hear(medium, "gateway", window())
    assert heard is not None
    assert sent.end == sent.start + airtime_s(UP, len(PACKET))
    # -174 dBm/Hz + 51 dB + 6 dB noise figure: the SNR is 14 dBm - 120 dB + 117 dB
    assert (heard.packet, heard.at, heard.rssi) == (PACKET, sent.end + 0.5, -106.0)
    assert heard.snr == pytest.approx(10.1, abs=0.05)  # which a modem cannot tell from 11


@pytest.mark.parametrize(
    "setting",
    [
        {"frequency_hz": 868_300_000},
        {"sf": 8},
        {"bw_hz": 250_000},
        {"invert_iq": True},
        {"sync_word": 0x12},
        {"implicit_header": True},
    ],
)
def test_a_receiver_set_otherwise_hears_nothing(setting: dict[str, object]) -> None:
    medium = quiet()
    send(medium, "band")
    assert hear(medium, "gateway", window(**setting)) is None


def test_nobody_hears_himself() -> None:
    medium = quiet()
    send(medium, "band")
    assert hear(medium, "band", window()) is None


def test_a_packet_is_delivered_once_to_each_receiver() -> None:
    medium = quiet()
    send(medium, "band")
    assert hear(medium, "one", window()) is not None
    assert hear(medium, "one", window()) is None
    assert hear(medium, "other", window()) is not None


def test_a_receiver_must_catch_five_symbols_of_the_preamble() -> None:
    latest = NOW + 3 * UP.symbol_s
    medium = quiet()
    send(medium, "band")
    assert hear(medium, "late", window(start=latest + 1e-6)) is None
    assert hear(medium, "just", window(start=latest - 1e-6)) is not None


def test_a_receivers_time_out_ends_with_the_header() -> None:
    header = NOW + (8 + 4.25 + 8) * UP.symbol_s
    medium = quiet()
    send(medium, "band")
    assert hear(medium, "impatient", window(end=header - 1e-6)) is None
    assert hear(medium, "patient", window(end=header + 1e-6)) is not None


def test_two_packets_of_equal_power_destroy_each_other() -> None:
    medium = quiet()
    first, second = send(medium, "one"), send(medium, "two", NOW + 0.03)
    assert medium.judge("gateway", first) is None
    assert medium.judge("gateway", second) is None
    assert medium.lost["collision"] == 2


@pytest.mark.parametrize(("difference_db", "survives"), [(5.9, False), (6.0, True)])
def test_six_decibels_capture_the_receiver(difference_db: float, survives: bool) -> None:
    medium = quiet(path_loss_db={("near", "gateway"): 100.0, ("gateway", "far"): 100.0 + difference_db})
    near, far = send(medium, "near"), send(medium, "far", NOW + 0.01)
    assert (medium.judge("gateway", near) is not None) is survives
    assert medium.judge("gateway", far) is None


@pytest.mark.parametrize("setting", [{"sf": 8}, {"frequency_hz": 868_300_000}, {"invert_iq": True}])
def test_orthogonal_packets_do_not_disturb_each_other(setting: dict[str, int]) -> None:
    medium = quiet()
    first = send(medium, "one")
    second = send(medium, "two", params=replace(UP, **setting))  # type: ignore[arg-type]
    assert medium.judge("gateway", first) is not None
    assert medium.judge("gateway", second) is not None


def test_packets_one_after_the_other_do_not_collide() -> None:
    medium = quiet()
    first = send(medium, "one")
    second = send(medium, "two", first.end)
    assert medium.judge("gateway", first) is not None
    assert medium.judge("gateway", second) is not None


def test_who_transmits_is_deaf() -> None:
    medium = quiet()
    sent = send(medium, "band")
    send(medium, "gateway", NOW + 0.01, replace(UP, invert_iq=True))
    assert medium.judge("gateway", sent) is None
    assert medium.lost["half_duplex"] == 1


def test_the_spreading_factor_decides_what_a_weak_link_carries() -> None:
    medium = quiet(default_path_loss_db=144.0)  # SNR of -13 dB: below SF9's floor, above SF10's
    for sf, carried in ((7, False), (9, False), (10, True), (12, True)):
        sent = send(medium, f"sf{sf}", params=replace(UP, sf=sf))
        assert (medium.judge("gateway", sent) is not None) is carried
    assert medium.lost["weak"] == 2


def test_loss_is_as_frequent_as_set_and_the_same_in_each_run() -> None:
    def run(seed: int) -> list[bool]:
        medium = Medium(seed=seed, loss=0.3)
        return [medium.judge("gateway", send(medium, "band", NOW + i)) is not None for i in range(1000)]

    assert 630 <= sum(run(1)) <= 770  # five standard deviations of 14.5
    assert run(1) == run(1)
    assert run(1) != run(2)


def test_decisions_do_not_depend_on_the_order_of_the_calls() -> None:
    def run(order: tuple[int, ...]) -> list[Reception | None]:
        medium = Medium(seed=3)
        sent: dict[int, Transmission] = {}
        for i in order:
            sent[i] = medium.transmit(f"band-{i}", PACKET, UP, NOW + i * 0.05, NOW)
        return [medium.judge("gateway", sent[i]) for i in range(4)]

    assert run((0, 1, 2, 3)) == run((3, 1, 0, 2))


def test_one_radio_sends_one_packet_at_a_time() -> None:
    medium = quiet()
    sent = send(medium, "band")
    with pytest.raises(TransmitRefused) as refusal:
        send(medium, "band", sent.end - 0.01)
    assert refusal.value.reason == "busy"
    send(medium, "band", medium.after_own("band", sent.end - 0.01, tolerance_s=0.02))


@pytest.mark.parametrize("packet", [b"", bytes(256)])
def test_packets_that_no_modem_sends_are_refused(packet: bytes) -> None:
    with pytest.raises(TransmitRefused) as refusal:
        send(quiet(), "band", packet=packet)
    assert refusal.value.reason == "size"


def test_what_is_over_is_forgotten_and_a_flood_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(medium_module, "KEEP_MAX", 50)
    medium = quiet()
    for i in range(50):
        send(medium, "band", NOW + i)
    with pytest.raises(TransmitRefused) as refusal:
        send(medium, "band", NOW + 50)
    assert refusal.value.reason == "flood"
    later = NOW + medium_module.KEEP_S + 100
    send(medium, "band", later)
    medium.settle(later + 1)
    assert len(medium._air) == 1
    assert medium.ledgers["band"].packets == 51
