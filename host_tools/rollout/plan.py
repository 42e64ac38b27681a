"""What comes next for a device in a rollout: pure, without clock or database.

    waiting → ordered → accepted → installing → trial → confirmed
                                      ↕           ↘ rolled_back
                                   retrying → failed        (refused: from anywhere before the trial)

A device's messages carry numbers that only go up, so the newest decides, whatever order they arrive in; who calls this
leaves older ones out. What a device says moves that device and no other, and only within its own order: a word for
each number of the wire format, from a closed list.

The server orders again by itself only what nobody decided against: no receipt, a device that is busy or whose flash
failed, an update that was accepted and never heard of again. A refusal and a roll-back are final in that rollout.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from sealwire import messages, names, update

ORDERS_MAX = 8
AGAIN_FIRST_S = 3600.0  # doubles with each order, up to
AGAIN_LAST_S = 86400.0
# Accepted and then silent for so long: asked again. A trial takes a day at most before the device rolls back.
STALLED_S = 3 * 86400.0


class State(StrEnum):
    """How far a device is."""

    WAITING = "waiting"  # no order is on its way
    ORDERED = "ordered"  # a command is queued or was sent; no receipt yet
    ACCEPTED = "accepted"
    INSTALLING = "installing"  # verified, fetched or installed
    RETRYING = "retrying"  # an attempt failed, the device makes another
    TRIAL = "trial"  # the new code runs and has to show that it is healthy
    CONFIRMED = "confirmed"
    NEWER = "newer"  # it runs something newer already
    ROLLED_BACK = "rolled_back"
    REFUSED = "refused"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"  # the rollout ended before it was ordered


class RolloutState(StrEnum):
    """What of a rollout's state matters here."""

    ACTIVE = "active"
    HELD = "held"  # paused, or over


ENDED = frozenset((State.CONFIRMED, State.NEWER, State.ROLLED_BACK, State.REFUSED, State.FAILED, State.WITHDRAWN))
SUCCEEDED = frozenset((State.CONFIRMED, State.NEWER))

_BY_REPORT = {
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
# A trust list's version stands in place of the sequence there, and whoever serves the files chooses that list.
_OF_LISTS = frozenset((update.TRUST_MALFORMED, update.TRUST_VERSION, update.TRUST_SIGNATURES))
_NOT_NOW = frozenset((messages.RESULT_BUSY, messages.RESULT_FAILED))


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a device stands.

    Attributes:
        state: how far it is.
        reason: why it is not further, from a closed list; "" as a rule.
        orders: how many commands were queued for it.
        next_at: Unix seconds at which the server does something of itself; None: it is the device's turn.
    """

    state: State = State.WAITING
    reason: str = ""
    orders: int = 0
    next_at: float | None = 0.0


def begin(release: int, target: int, now: float) -> Progress:
    """A device that comes into a rollout.

    Args:
        release: sequence that it last said it runs, of the target's component; 0: not known.
        target: the rollout's sequence.
        now: Unix seconds.
    """
    if release == target:
        return Progress(State.CONFIRMED, next_at=None)
    if release > target:
        return Progress(State.NEWER, next_at=None)
    return Progress(next_at=now)


def due(progress: Progress, rollout: RolloutState, is_active: bool, now: float) -> tuple[Progress, bool]:
    """What the server does of itself: the new progress, and whether to queue an order now.

    Args:
        is_active: the device is neither suspended nor retired.
    """
    if rollout is not RolloutState.ACTIVE or progress.state in ENDED:
        return replace(progress, next_at=None), False
    if progress.next_at is None or progress.next_at > now:
        return progress, False
    if not is_active:
        # looked at again: it may be let in again
        return replace(progress, state=State.WAITING, reason="not_active", next_at=now + AGAIN_FIRST_S), False
    if progress.orders >= ORDERS_MAX:
        reason = progress.reason or "no_news"
        return replace(progress, state=State.FAILED, reason=reason, next_at=None), False
    return Progress(State.ORDERED, "", progress.orders + 1, None), True


def by_receipt(progress: Progress, code: int | None, now: float) -> Progress:
    """The order's command ended.

    Args:
        code: the receipt's; None: it was sent as often as is allowed, and none came.
    """
    if progress.state not in (State.WAITING, State.ORDERED):
        return progress  # its reports have said more already
    if code == messages.RESULT_DONE:
        return replace(progress, state=State.ACCEPTED, reason="", next_at=now + STALLED_S)
    reason = "no_receipt" if code is None else f"receipt_{names.RESULTS.get(code, code)}"
    if code is None or code in _NOT_NOW:
        return replace(progress, state=State.WAITING, reason=reason, next_at=now + _pause_s(progress.orders))
    return replace(progress, state=State.REFUSED, reason=reason, next_at=None)


def by_report(progress: Progress, state: int, code: int, now: float) -> Progress:
    """The device said so of this rollout's release; a state that is not known changes nothing."""
    reached = _BY_REPORT.get(state)
    if reached is None or progress.state is State.NEWER or code in _OF_LISTS:
        return progress
    reason = names.UPDATE_CODES.get(code, f"code_{code}") if code else ""
    return replace(progress, state=reached, reason=reason, next_at=None if reached in ENDED else now + STALLED_S)


def by_status(
    progress: Progress, release: int, target: int, is_image: bool | None, was_sent: bool, now: float
) -> Progress:
    """The device said which release it runs.

    During an update the status is not believed to be the end of it: code on trial names its release, too. There the
    reports decide; when they were lost, the next order brings the answer.

    Args:
        release: sequence that it runs, of the target's component.
        target: the rollout's sequence.
        is_image: whether the digest in the status is that of the rollout's image; None: it was not told.
        was_sent: an order has left the server, so the device may be at it.
    """
    if release > target:
        return replace(progress, state=State.NEWER, reason="", next_at=None)
    if release == target and is_image is False:
        # two images with one number: somebody signed both, or runs what nobody signed
        return replace(progress, state=State.FAILED, reason="other_image", next_at=None)
    if release == target:
        untouched = progress.state in (State.WAITING, State.ORDERED) and not was_sent
        if untouched or (progress.state in ENDED and progress.state is not State.CONFIRMED):
            return replace(progress, state=State.CONFIRMED, reason="", next_at=None)
        return progress
    if progress.state in SUCCEEDED:
        if not was_sent:
            return replace(progress, state=State.WAITING, reason="runs_older", next_at=now)
        return replace(progress, state=State.ROLLED_BACK, reason="runs_older", next_at=None)
    return progress


def withdraw(progress: Progress, was_sent: bool, for_good: bool) -> Progress:
    """The rollout is paused, or (for good) aborted or replaced.

    Args:
        was_sent: the last order left the server at least once, so the device may carry it out.
        for_good: there is no going on.
    """
    if progress.state in ENDED:
        return progress
    back = State.WITHDRAWN if for_good else State.WAITING
    if progress.state is State.WAITING:
        return replace(progress, state=back, next_at=None)
    if progress.state is State.ORDERED and not was_sent:
        return replace(progress, state=back, orders=progress.orders - 1, next_at=None)
    return replace(progress, next_at=None)


def resume(progress: Progress, now: float) -> Progress:
    """The rollout goes on: what was withdrawn is ordered again; a device that has its order is waited for."""
    if progress.state in ENDED:
        return progress
    if progress.state in (State.WAITING, State.ORDERED):
        return replace(progress, next_at=now)
    return replace(progress, next_at=now + STALLED_S)


def _pause_s(orders: int) -> float:
    return min(AGAIN_LAST_S, AGAIN_FIRST_S * 2.0 ** max(0, orders - 1))
