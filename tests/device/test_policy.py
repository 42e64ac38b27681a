# Back-off: grows, is bounded, has jitter; links are chosen in order of preference.
from sealband.links.policy import LOST_AFTER, Backoff, choose


def test_pauses_double_up_to_an_hour_and_a_half_and_an_answer_resets_them():
    low, high = Backoff(lambda n: 0), Backoff(lambda n: n - 1)
    pauses = []
    for _ in range(14):
        low.ended(1000, True, False, False)
        high.ended(1000, True, False, False)
        pauses.append((low.wait_ms(1000), high.wait_ms(1000)))
    assert pauses[0] == (7500, 22499)
    assert pauses[1] == (15000, 44999)
    assert pauses[-1] == (1800000, 5399999)
    assert low.lost
    low.ended(2000, True, True, True)
    assert not low.lost and low.failures == 0
    low.ended(0, True, False, False)
    assert low.wait_ms(0) == 7500


def test_a_server_that_answers_is_not_kept_waiting_for_the_frames_it_does_not_take():
    backoff = Backoff(lambda n: n - 1)
    for _ in range(9):
        backoff.ended(0, True, False, False)
    backoff.ended(0, True, True, False)
    assert backoff.wait_ms(0) == 22499


def test_the_server_is_lost_after_so_many_silent_sessions_in_which_something_was_sent():
    backoff = Backoff(lambda n: 0)
    for _ in range(10):
        backoff.ended(0, False, False, False)
    assert not backoff.lost
    for i in range(LOST_AFTER):
        assert not backoff.lost
        backoff.ended(0, True, False, False)
    assert backoff.lost


def test_devices_that_lost_the_server_together_do_not_come_back_together():
    waits = set()
    for seed in range(100):
        backoff = Backoff(lambda n: seed * n // 100)
        for _ in range(9):
            backoff.ended(0, True, False, False)
        waits.add(backoff.wait_ms(0) // 10000)
    assert len(waits) >= 90


def test_blocked_waits_for_the_duty_cycle_and_a_little_longer():
    assert Backoff(lambda n: 0).wait_ms(0) == 0
    for r, wait_ms in ((lambda n: 0, 60000), (lambda n: n - 1, 60000 + 8500 - 1)):
        backoff = Backoff(r)
        backoff.hold(0, 60000, 8500)
        assert backoff.wait_ms(0) == wait_ms and backoff.wait_ms(70000) == 0


def test_state_survives_deep_sleep():
    backoff = Backoff(lambda n: 0)
    for _ in range(5):
        backoff.ended(7, True, False, False)
    other = Backoff(lambda n: 0)
    other.restore(backoff.state())
    assert other.lost and other.wait_ms(7) == backoff.wait_ms(7) > 0


class FakeLink:
    def __init__(self, wait_ms):
        self._wait_ms = wait_ms

    def wait_ms(self, length):
        return self._wait_ms


def test_the_first_link_that_is_ready_is_taken_else_the_one_that_is_soonest():
    a, b, c, never = FakeLink(0), FakeLink(500), FakeLink(90), FakeLink(None)
    assert choose([b, a, c], 51) == (a, 0)
    assert choose([a, FakeLink(0)], 51) == (a, 0)
    assert choose([b, never, c], 51) == (c, 90)
    assert choose([never], 51) == (None, None) and choose([], 51) == (None, None)
