# Adaptation of data rate and power against a channel whose true signal is known: it settles, it stays, it comes back.
# The demodulation floors are those of the SX1261/2 datasheet, table 6-1.
from sealband.links import rate

FLOOR_DB = {7: -7.5, 8: -10.0, 9: -12.5, 10: -15.0, 11: -17.5, 12: -20.0}


# what the server reports for a signal of so many dB over the noise at 14 dBm
def margin(state, snr_at_14_dbm):
    return int(snr_at_14_dbm + state[1] - 14 - FLOOR_DB[state[0]])


def settle(state, snr, reports=40, slowest=12, power_max=14):
    for _ in range(reports):
        db = margin(state, snr)
        rate.adapt(state, db if db >= 0 else None, slowest, power_max)


def test_a_strong_signal_makes_it_fast_and_then_quiet():
    state = rate.begin(12, 14)
    settle(state, 20)
    assert state[0] == 7 and state[1] < 14
    # LoRaWAN's usual 10 dB stay
    assert margin(state, 20) >= 10


def test_a_weak_signal_leaves_it_slow_and_loud():
    state = rate.begin(12, 14)
    settle(state, -16)
    assert state[:2] == [12, 14]


def test_it_settles_for_every_signal_and_changes_no_more():
    for tenth in range(-200, 300, 7):
        snr = tenth / 10
        for begin in ((7, 14), (12, 14), (7, 2), (9, 5)):
            state = rate.begin(*begin)
            settle(state, snr)
            held = state[:2]
            for _ in range(50):
                settle(state, snr, 1)
                assert state[:2] == held, (snr, begin, state)
            # never between: either there is margin enough, or it is at its slowest and loudest
            assert margin(state, snr) >= 5 or held == [12, 14], (snr, begin, state)


def test_noise_on_the_reports_does_not_make_it_flap():
    seed = 3
    state = rate.begin(12, 14)
    settle(state, -2)
    changes = 0
    for _ in range(300):
        seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
        before = state[:2]
        # +-3 dB of fading
        rate.adapt(state, margin(state, -2) + (seed >> 9) % 7 - 3, 12, 14)
        changes += state[:2] != before
    assert changes <= 15, changes


def test_one_good_report_is_not_enough_and_the_worst_of_three_counts():
    for reports in ((25, 25, 14), (14, 25, 25), (25, 14, 25)):
        state = rate.begin(10, 14)
        for db in reports[:2]:
            rate.adapt(state, db, 12, 14)
            assert state[:2] == [10, 14]
        rate.adapt(state, reports[2], 12, 14)
        assert state[:2] == [9, 14]


def test_silence_takes_one_step_at_a_time_first_to_full_power_then_slower():
    state = rate.begin(7, 14)
    state[1] = 8
    seen = []
    for _ in range(20):
        rate.adapt(state, None, 12, 14)
        if not seen or seen[-1] != state[:2]:
            seen.append(state[:2])
    assert seen == [[7, 8], [7, 11], [7, 14], [8, 14], [9, 14], [10, 14], [11, 14], [12, 14]]


def test_a_region_that_has_no_slower_rate_stays_there():
    state = rate.begin(7, 13)
    for _ in range(50):
        rate.adapt(state, None, 10, 13)
    assert state[:2] == [10, 13]


def test_loss_that_is_not_of_distance_lowers_the_rate_seldom():
    # half of all exchanges unanswered, as at 30 % loss of frames either way, and a strong signal
    seed = 1
    state = rate.begin(7, 14)
    settle(state, 12)
    slow = 0
    for _ in range(2000):
        seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
        rate.adapt(state, None if seed & 0x40000 else margin(state, 12), 12, 14)
        slow += state[0] > 7
    assert slow < 100, slow


def test_after_silence_a_strong_signal_brings_it_back_at_once():
    state = rate.begin(7, 14)
    for _ in range(30):
        rate.adapt(state, None, 12, 14)
    assert state[:2] == [12, 14]
    settle(state, 15, 3)
    assert state[0] == 7


def test_any_report_keeps_the_state_in_bounds_and_fit_for_bytes():
    seed = 9
    for slowest, power_max in ((12, 14), (10, 13), (12, 2)):
        state = rate.begin(9, power_max)
        for _ in range(3000):
            seed = (seed * 1103515245 + 12345) & 0x7FFFFFFF
            db = None if seed & 0x10000 else (seed >> 8) % 200 - 100
            rate.adapt(state, db, slowest, power_max)
            assert 7 <= state[0] <= slowest and 2 <= state[1] <= power_max
            assert list(bytes(state)) == state
