"""What comes next for a device: every message in every state, and nothing that the server would repeat for ever."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_tools.rollout import plan
from host_tools.rollout.plan import ENDED, Progress, RolloutState, State
from sealwire import messages, update

NOW = 1_790_000_000.0
OPEN = sorted(set(State) - ENDED)


@pytest.mark.parametrize(
    ("runs", "state", "next_at"),
    [(0, State.WAITING, NOW), (6, State.WAITING, NOW), (7, State.CONFIRMED, None), (8, State.NEWER, None)],
)
def test_a_device_begins_where_it_stands(runs, state, next_at):
    begun = plan.begin(runs, 7, NOW)
    assert (begun.state, begun.next_at) == (state, next_at)


def test_what_is_due_is_ordered():
    after, order = plan.due(Progress(next_at=NOW), RolloutState.ACTIVE, True, NOW)
    assert order
    assert after == Progress(State.ORDERED, "", 1, None)


def test_before_its_time_nothing_is_ordered():
    for next_at in (None, NOW + 1):
        progress = Progress(next_at=next_at)
        assert plan.due(progress, RolloutState.ACTIVE, True, NOW) == (progress, False)


@pytest.mark.parametrize("state", State)
def test_a_rollout_that_is_held_orders_nothing(state):
    assert plan.due(Progress(state, next_at=0), RolloutState.HELD, True, NOW)[1] is False


@pytest.mark.parametrize("state", sorted(ENDED))
def test_what_has_ended_is_not_ordered_again(state):
    assert plan.due(Progress(state, next_at=0), RolloutState.ACTIVE, True, NOW) == (
        Progress(state, next_at=None),
        False,
    )


def test_a_suspended_device_gets_nothing_and_is_looked_at_again():
    after, order = plan.due(Progress(next_at=NOW), RolloutState.ACTIVE, False, NOW)
    assert not order
    assert (after.state, after.reason) == (State.WAITING, "not_active")
    assert plan.due(after, RolloutState.ACTIVE, True, after.next_at)[1]


REACHED = {
    update.ACCEPTED: State.ACCEPTED,
    update.VERIFIED: State.INSTALLING,
    update.FETCHED: State.INSTALLING,
    update.INSTALLED: State.INSTALLING,
    update.STARTED: State.TRIAL,
    update.CONFIRMED: State.CONFIRMED,
    update.ROLLED_BACK: State.ROLLED_BACK,
    update.REFUSED: State.REFUSED,
    update.FAILED: State.RETRYING,
    update.GAVE_UP: State.FAILED,
}


@pytest.mark.parametrize(("before", "told"), list(product(sorted(set(State) - {State.NEWER}), REACHED)))
def test_the_newest_report_decides_whatever_was_before(before, told):
    after = plan.by_report(Progress(before), told, 0, NOW)
    assert after.state is REACHED[told]
    assert (after.next_at is None) == (after.state in ENDED)


@pytest.mark.parametrize("state", [update.TRUSTED, 0, 12, 255])
def test_a_report_of_something_else_changes_nothing(state):
    assert plan.by_report(Progress(State.TRIAL), state, 5, NOW) == Progress(State.TRIAL)


@pytest.mark.parametrize("code", [update.TRUST_MALFORMED, update.TRUST_VERSION, update.TRUST_SIGNATURES])
def test_a_forged_trust_list_ends_no_rollout_of_the_same_number(code):
    # a mirror serves any garbage as the next list; the device says so with the list's version, and goes on
    before = Progress(State.ACCEPTED, orders=1, next_at=NOW + 5)
    assert plan.by_report(before, update.REFUSED, code, NOW) == before


@pytest.mark.parametrize(
    ("code", "reason"),
    [(0, ""), (update.TOO_FEW_SIGNATURES, "too_few_signatures"), (200, "code_200"), (-3, "code_-3")],
)
def test_a_code_becomes_a_word_of_a_closed_list_or_a_number(code, reason):
    assert plan.by_report(Progress(), update.REFUSED, code, NOW).reason == reason


@pytest.mark.parametrize(
    ("code", "state", "reason"),
    [
        (messages.RESULT_DONE, State.ACCEPTED, ""),
        (messages.RESULT_BUSY, State.WAITING, "receipt_busy"),
        (messages.RESULT_FAILED, State.WAITING, "receipt_failed"),
        (None, State.WAITING, "no_receipt"),
        (messages.RESULT_MALFORMED, State.REFUSED, "receipt_malformed"),
        (messages.RESULT_OUT_OF_RANGE, State.REFUSED, "receipt_out_of_range"),
        (messages.RESULT_UNSUPPORTED, State.REFUSED, "receipt_unsupported"),
        (99, State.REFUSED, "receipt_99"),
    ],
)
def test_receipts(code, state, reason):
    after = plan.by_receipt(Progress(State.ORDERED, orders=1), code, NOW)
    assert (after.state, after.reason) == (state, reason)


@pytest.mark.parametrize("state", sorted(set(State) - {State.WAITING, State.ORDERED}))
def test_a_receipt_that_comes_after_the_reports_takes_nothing_back(state):
    for code in (None, 0, 4, 6):
        assert plan.by_receipt(Progress(state), code, NOW) == Progress(state)


def test_orders_end():
    """A device that never answers, or is always busy, is asked eight times over some days."""
    for code in (None, messages.RESULT_BUSY):
        progress, now, orders = plan.begin(0, 7, NOW), NOW, 0
        while progress.state not in ENDED:
            assert progress.next_at is not None
            now = progress.next_at
            progress, order = plan.due(progress, RolloutState.ACTIVE, True, now)
            if order:
                orders += 1
                progress = plan.by_receipt(progress, code, now)
        assert orders == plan.ORDERS_MAX
        assert progress.state is State.FAILED
        assert progress.reason
        assert 3 * 86400 < now - NOW < 14 * 86400


def test_update_that_was_accepted_and_never_heard_of_is_asked_for_again():
    accepted = plan.by_receipt(Progress(State.ORDERED, orders=1), 0, NOW)
    assert not plan.due(accepted, RolloutState.ACTIVE, True, NOW + 86400)[1]
    after, order = plan.due(accepted, RolloutState.ACTIVE, True, NOW + plan.STALLED_S)
    assert order
    assert after.orders == 2


@pytest.mark.parametrize("state", [State.ORDERED, State.ACCEPTED, State.INSTALLING, State.RETRYING, State.TRIAL])
def test_status_on_trial_is_not_the_end_of_it(state):
    """New code names its release before it has shown that it is healthy."""
    progress = Progress(state, orders=1)
    assert plan.by_status(progress, 7, 7, True, True, NOW) == progress


@pytest.mark.parametrize(
    ("before", "runs", "is_image", "after"),
    [
        (Progress(), 7, True, State.CONFIRMED),
        (Progress(), 7, None, State.CONFIRMED),
        (Progress(), 7, False, State.FAILED),
        (Progress(), 6, None, State.WAITING),
        (Progress(State.REFUSED, orders=1), 7, True, State.CONFIRMED),
        (Progress(State.ORDERED, orders=1), 8, None, State.NEWER),
        (Progress(State.TRIAL, orders=1), 7, False, State.FAILED),
        (Progress(State.TRIAL, orders=1), 6, None, State.TRIAL),
        (Progress(State.CONFIRMED, orders=1), 6, None, State.ROLLED_BACK),
        (Progress(State.CONFIRMED, orders=1), 7, True, State.CONFIRMED),
        # it was in when the rollout began, and was never asked
        (Progress(State.CONFIRMED), 6, None, State.WAITING),
        (Progress(State.NEWER), 6, None, State.WAITING),
    ],
)
def test_status(before, runs, is_image, after):
    assert plan.by_status(before, runs, 7, is_image, before.orders > 0, NOW).state is after


@pytest.mark.parametrize("state", OPEN)
def test_pause_and_resume_lead_to_where_it_was_or_to_a_new_order(state):
    for was_sent in (True, False):
        held = plan.withdraw(Progress(state, orders=3, next_at=NOW), was_sent, for_good=False)
        assert held.next_at is None
        assert held.state is (State.WAITING if state is State.ORDERED and not was_sent else state)
        # an order that never left is none
        assert held.orders == (2 if state is State.ORDERED and not was_sent else 3)
        on = plan.resume(held, NOW)
        assert on.next_at == (NOW if state in (State.WAITING, State.ORDERED) else NOW + plan.STALLED_S)


def test_abort_withdraws_what_never_left():
    assert plan.withdraw(Progress(State.WAITING), False, for_good=True).state is State.WITHDRAWN
    assert plan.withdraw(Progress(State.ORDERED), False, for_good=True).state is State.WITHDRAWN
    # this one may carry it out
    assert plan.withdraw(Progress(State.ORDERED), True, for_good=True).state is State.ORDERED
    assert plan.withdraw(Progress(State.TRIAL), True, for_good=True).state is State.TRIAL
    assert plan.withdraw(Progress(State.REFUSED), True, for_good=True).state is State.REFUSED


steps = st.one_of(
    st.tuples(st.just("report"), st.integers(0, 255), st.integers(-255, 255)),
    st.tuples(st.just("receipt"), st.one_of(st.none(), st.integers(0, 255)), st.just(0)),
    st.tuples(st.just("status"), st.integers(0, 9), st.sampled_from([None, True, False])),
    st.tuples(st.just("wait"), st.integers(0, 10**6), st.booleans()),
)


@given(st.lists(steps, max_size=60))
def test_whatever_a_device_says_orders_are_bounded_and_ended_means_ended(told):
    progress, now, orders = plan.begin(0, 7, NOW), NOW, 0
    for kind, first, second in told:
        if kind == "report":
            progress = plan.by_report(progress, first, second, now)
        elif kind == "receipt":
            progress = plan.by_receipt(progress, first, now)
        elif kind == "status":
            progress = plan.by_status(progress, first, 7, second, orders > 0, now)
        else:
            now += first
            progress, order = plan.due(progress, RolloutState.ACTIVE, second, now)
            orders += order
        assert progress.state not in ENDED or progress.next_at is None
        assert len(progress.reason) <= 32
        assert progress.orders == orders <= plan.ORDERS_MAX
