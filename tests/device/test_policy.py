# Back-off: grows, is bounded, has jitter. The choice of a link keeps its rules, whatever the facts.
from sealband import sleep
from sealband.links.backoff import Backoff
from sealband.links.policy import choose, lost


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


def test_when_an_event_gets_through_before_a_pause_is_over_the_rest_need_not_wait_for_its_end():
    backoff = Backoff(lambda n: n - 1)
    for _ in range(9):
        backoff.ended(0, True, False, False)
    assert backoff.wait_ms(60000) > 1800000
    backoff.ended(60000, True, True, True)
    assert backoff.wait_ms(60000) == backoff.wait_ms(60000, True) == 0


def test_the_server_is_lost_after_so_many_silent_sessions_in_which_something_was_sent():
    backoff = Backoff(lambda n: 0)
    for _ in range(10):
        backoff.ended(0, False, False, False)
    assert not backoff.lost
    for i in range(3):
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


def test_an_event_is_tried_again_within_minutes_however_long_the_link_has_failed():
    for r, most_ms in ((lambda n: 0, 120000), (lambda n: n - 1, 360000)):
        backoff = Backoff(r)
        assert backoff.wait_ms(0, True) == 0
        for _ in range(12):
            backoff.ended(5, True, False, False)
            assert backoff.wait_ms(5, True) <= min(most_ms, backoff.wait_ms(5))
        assert backoff.wait_ms(5, True) >= 119000 and backoff.wait_ms(5) >= 1800000
        backoff.ended(9, True, True, True)


class Bench:
    hold_ms = next_ms = attempted_ms = 0


def test_state_survives_deep_sleep():
    backoff = Backoff(lambda n: 0)
    for _ in range(5):
        backoff.ended(7, True, False, False)
    other = Backoff(lambda n: 0)
    bench = Bench()
    bench.backoffs = [backoff]
    state = sleep.tried(bench)
    bench.backoffs = [other]
    sleep.retry(bench, state)
    assert other.lost and other.wait_ms(7) == backoff.wait_ms(7) > 0


# --- which link for which frame: stated rules, checked over every combination of a few values of each fact

EVENT, REPLY, TELEMETRY = 0, 1, 2
PATIENCE_S = 3600


def fact(wait_ms=0, hold_ms=0, spare=1000, grade=1, energy_mj=50, tries=0, tried=0):
    return (wait_ms, hold_ms, spare, grade, energy_mj, tries, tried)


# xorshift: the same draws on every run and on both MicroPythons
class Draw:
    def __init__(self, seed):
        self.state = seed

    def of(self, values):
        x = self.state
        x ^= x << 13 & 0xFFFFFFFF
        x ^= x >> 17
        x ^= x << 5 & 0xFFFFFFFF
        self.state = x
        return values[x % len(values)]


def situations(count):
    draw = Draw(2463534242)
    for _ in range(count):
        facts = [
            fact(
                draw.of((0, 0, 0, None, 700, 90000, 7200000)),
                draw.of((0, 0, 0, 15000, 3000000, 5400000)),
                draw.of((1000, 1000, 200, 199, 0)),
                draw.of((0, 1, 3, 9)),
                draw.of((1, 50, 4000)),
                draw.of((0, 0, 1, 2, 8, 9, 40)),
                draw.of((0, 0, 1)),
            )
            for _ in range(draw.of((1, 2, 3)))
        ]
        priority = draw.of((EVENT, REPLY, TELEMETRY))
        age_s = draw.of((0, 1, 1800, 3599, 3600, 90000))
        yield priority, age_s, facts, choose(priority, age_s, PATIENCE_S, facts)


def test_no_frame_for_a_link_that_cannot_carry_it_now_or_had_it_already():
    chosen = 0
    for priority, _, facts, (index, wait_ms) in situations(4000):
        if index is not None:
            assert wait_ms == 0 and facts[index][0] == 0 and facts[index][1] == 0 and not facts[index][6]
            chosen += 1
    assert 700 < chosen < 3500, chosen


def test_an_event_goes_over_every_ready_link_in_turn_the_ones_that_work_first():
    rounds = 0
    for priority, age_s, facts, _ in situations(2000):
        if priority != EVENT:
            continue
        order = []
        while True:
            index, wait_ms = choose(EVENT, age_s, PATIENCE_S, facts)
            if index is None:
                break
            order.append(index)
            facts[index] = facts[index][:6] + (1,)
        ready = [i for i, one in enumerate(facts) if one[0] == 0 and one[1] == 0]
        assert sorted(order) == [i for i in ready if i in order]
        assert all(facts[i][6] for i in ready), (facts, order)
        assert all(facts[a][5] <= facts[b][5] for a, b in zip(order, order[1:]))
        rounds += len(order) > 1
    assert rounds > 15, rounds


def test_telemetry_is_never_sent_over_a_dearer_link_before_its_age_unless_the_cheap_one_is_not_to_be_expected():
    early = 0
    for priority, age_s, facts, (index, _) in situations(6000):
        if priority == EVENT or index is None:
            continue
        left_ms = max(0, PATIENCE_S - age_s) * 1000
        for wait_ms, hold_ms, spare, grade, _, tries, _ in facts:
            if priority == TELEMETRY and spare < 200:
                hold_ms = max(hold_ms, 60000)
            if grade < facts[index][3] and left_ms:
                # it can't carry the frame, has failed for two hours, or will not be ready within the frame's age limit
                assert wait_ms is None or tries >= 9 or max(wait_ms, hold_ms) > left_ms, (age_s, facts, index)
                early += 1
    assert early > 100


def test_the_last_airtime_is_not_spent_on_telemetry():
    kept = 0
    for priority, _, facts, (index, _) in situations(4000):
        if index is not None and priority == TELEMETRY:
            assert facts[index][2] >= 200
        elif index is not None and facts[index][2] < 200:
            kept += 1
    assert kept > 100


def test_nothing_waits_for_ever_when_any_link_could_carry_it():
    for priority, age_s, facts, (index, wait_ms) in situations(4000):
        if [one for one in facts if one[0] is not None]:
            assert index is not None or 0 <= wait_ms <= 7200000, (priority, age_s, facts)
        else:
            assert (index, wait_ms) == (None, None)
    # and asking again when told to ends: time passes, waits run out, airtime comes back
    for priority, age_s, facts, (index, wait_ms) in situations(1500):
        facts = [one[:6] + (0,) for one in facts]
        if not [one for one in facts if one[0] is not None]:
            continue
        for _ in range(20):
            index, wait_ms = choose(priority, age_s, PATIENCE_S, facts)
            if index is not None:
                break
            age_s += -(-wait_ms // 1000)
            facts = [
                fact(one[0] and max(0, one[0] - wait_ms), max(0, one[1] - wait_ms), min(1000, one[2] + 200), *one[3:])
                for one in facts
            ]
        assert index is not None, (priority, facts)


def test_choices_one_by_one():
    lora, lte, wifi = fact(grade=1), fact(grade=3, energy_mj=9000), fact(grade=0, energy_mj=900)
    away = fact(hold_ms=60000, grade=0, tries=3)
    for priority in (REPLY, TELEMETRY):
        # the cheapest, and of equally cheap ones the one that takes less energy, whatever their order
        assert choose(priority, 0, 3600, [lora, lte, wifi]) == (2, 0)
        assert choose(priority, 0, 3600, [lte, fact(grade=1, energy_mj=51), lora]) == (2, 0)
        # waits for the cheap one, and no longer than its age limit
        assert choose(priority, 100, 3600, [lte, away]) == (None, 60000)
        assert choose(priority, 3590, 3600, [lte, away]) == (0, 0)
        assert choose(priority, 3540, 3600, [lte, away]) == (None, 60000)
        assert choose(priority, 3600, 3600, [lte, away]) == (0, 0)
        assert choose(priority, 0, 0, [lte, away]) == (0, 0)
        # one that has failed for long is not waited for, but tried when its pause is over
        assert choose(priority, 0, 3600, [lte, fact(hold_ms=60000, grade=0, tries=9)]) == (0, 0)
        assert choose(priority, 0, 3600, [lte, fact(grade=0, tries=9)]) == (1, 0)
        assert choose(priority, 0, 3600, []) == (None, None)
    # of links that failed equally often the cheaper one; a tried one only says when
    assert choose(EVENT, 0, 3600, [lte, lora]) == (1, 0)
    assert choose(EVENT, 0, 3600, [lte, fact(grade=1, tries=1)]) == (0, 0)
    assert choose(EVENT, 0, 3600, [lte, lora[:6] + (1,)]) == (0, 0)
    assert choose(EVENT, 0, 3600, [lora[:6] + (1,)]) == (None, 0)
    # telemetry looks again in a minute whether there is airtime for it; a dearer link does not take it before its age
    assert choose(TELEMETRY, 0, 3600, [fact(spare=199)]) == (None, 60000)
    assert choose(TELEMETRY, 0, 3600, [fact(spare=199), lte]) == (None, 60000)
    assert choose(TELEMETRY, 3600, 3600, [fact(spare=199), lte]) == (1, 0)
    assert choose(REPLY, 0, 3600, [fact(spare=0)]) == choose(EVENT, 0, 3600, [fact(spare=0)]) == (0, 0)


def test_the_server_is_lost_only_when_no_link_gets_through_and_one_should_have():
    def after(*sessions):
        backoff = Backoff(lambda n: 0)
        for sent, heard in sessions:
            backoff.ended(0, sent, heard, False)
        return backoff

    silent, broken, fine = after(*[(True, False)] * 3), after(*[(False, False)] * 3), after((True, True))
    assert lost([silent]) and lost([silent, broken]) and lost([broken, silent])
    assert not lost([silent, fine]) and not lost([broken]) and not lost([broken, fine]) and not lost([])
    assert not lost([silent, after((True, False), (False, False))])
