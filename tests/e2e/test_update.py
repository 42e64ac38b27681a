"""Updates through the real pieces: releases built, signed and published, virtual boards that fetch and try them."""

import random
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from host_tools.release import build, sign
from host_tools.rollout.published import Published
from sealwire import frame, update
from tests.support.boards import has_raw_repl
from tests.support.update_site import ASLEEP, HANGS, RAISES, Heard, UpdateSite

pytestmark = [
    pytest.mark.skipif(not has_raw_repl(), reason="MicroPython's unix port has a raw REPL from 1.27 on"),
]

BOARDS = {"first": 0x51, "second": 0x52, "asleep": ASLEEP}
AWAKE = ["first", "second"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpdateSite]:
    """Three boards that run release 1; the third sleeps deeply."""
    with UpdateSite(tmp_path_factory.mktemp("updates")) as site:
        site.join(BOARDS)
        yield site


@dataclass
class RolledOut:
    """What a rollout was about."""

    published: Published
    number: int
    at: float
    requests: list[str]


@pytest.fixture(scope="module")
def second(site: UpdateSite) -> RolledOut:
    """Release 2, rolled out to all of them."""
    before = len(site.site.pipeline.requests)
    published = site.publish()
    number = site.site.rollouts.create(published)
    for name in BOARDS:
        site.wait_report(name, published, update.CONFIRMED)
    return RolledOut(published, number, site.now(), site.site.pipeline.requests[before:])


def runs(site: UpdateSite, name: str) -> int:
    """The release that a board last said it runs."""
    return site.statuses(name)[-1][0]


# --- what is good


@pytest.mark.parametrize("name", BOARDS)
def test_a_release_signed_by_two_of_three_is_confirmed(site: UpdateSite, second: RolledOut, name: str) -> None:
    states = [state for state, _ in site.reports(name, 2)]
    assert states == [
        update.ACCEPTED,
        update.VERIFIED,
        update.FETCHED,
        update.INSTALLED,
        update.STARTED,
        update.CONFIRMED,
    ]
    site.wait_alive(name, 2)


@pytest.mark.parametrize("name", BOARDS)
def test_the_status_names_the_release_and_its_digest(site: UpdateSite, second: RolledOut, name: str) -> None:
    told = (2, second.published.image_digest[:8])
    site.wait(lambda: site.statuses(name)[-1] == told, f"status of {name}")


def test_the_rollout_is_done(site: UpdateSite, second: RolledOut) -> None:
    from host_tools.rollout import overview

    site.wait(lambda: overview.rollouts(second.number)[0]["state"] == "done", "end of the rollout")
    assert overview.rollouts(second.number)[0]["devices"] == {"confirmed": len(BOARDS)}


def test_it_was_delivered_as_a_patch(second: RolledOut) -> None:
    patches = [line for line in second.requests if "/from-" in line and " 200 " in line]
    assert len(patches) == len(BOARDS)
    assert not [line for line in second.requests if "full.deflate" in line]


def test_what_was_sealed_before_the_switch_arrives_after_it(site: UpdateSite, second: RolledOut) -> None:
    # a restart seals what RAM holds and does not send it
    assert [one for name in BOARDS for one in kept_over(site, name, 2)]


@pytest.mark.parametrize("name", BOARDS)
def test_the_node_itself_makes_room_for_the_updater(site: UpdateSite, second: RolledOut, name: str) -> None:
    # what RAM or RTC memory holds would be lost otherwise
    at = site.lines(name, "update: verified 2")[0].at
    assert [line for line in site.lines(name, "] restart") if line.at < at]


def kept_over(site: UpdateSite, name: str, sequence: int) -> list[Heard]:
    """Telemetry that was measured before an update was begun, and arrived after that."""
    at = site.lines(name, f"update: verified {sequence}")[0].at
    return [one for one in site.telemetry(name, at) if one.message.t0 < at]


# --- what does not work


@pytest.fixture(scope="module")
def failing(site: UpdateSite, second: RolledOut) -> dict[str, Published]:
    """A release that raises and one that hangs, each ordered from one board."""
    releases = {"first": site.publish(RAISES), "second": site.publish(HANGS)}
    for name, published in releases.items():
        site.order(name, published)
    for name, published in releases.items():
        site.wait_report(name, published, update.ROLLED_BACK)
    return releases


@pytest.mark.parametrize("name", ["first", "second"], ids=["raises", "hangs"])
def test_a_release_that_does_not_run_is_rolled_back(site: UpdateSite, failing: dict[str, Published], name: str) -> None:
    number = failing[name].sequence
    assert site.reports(name, number)[-1] == (update.ROLLED_BACK, update.TRIAL_FAILED)
    assert update.STARTED not in [state for state, _ in site.reports(name, number)]
    site.wait_alive(name, number)
    assert runs(site, name) == 2


def test_it_had_four_starts(site: UpdateSite, failing: dict[str, Published]) -> None:
    assert len(site.lines("first", "RuntimeError: not my day")) == 4


def test_what_was_sealed_before_a_failed_trial_arrives_after_it(
    site: UpdateSite, failing: dict[str, Published]
) -> None:
    assert [one for name, published in failing.items() for one in kept_over(site, name, published.sequence)]


# --- what must not be taken


@pytest.fixture(scope="module")
def refused(site: UpdateSite, failing: dict[str, Published]) -> dict[str, tuple[Published, int]]:
    """Three orders that lead to nothing: board → release, the code that it is refused with."""
    pipeline = site.site.pipeline
    tampered = site.publish()
    site.known.discard((tampered.sequence, tampered.image_digest[:8]))
    served = pipeline.repository / tampered.model / str(tampered.sequence) / build.MANIFEST
    whole = served.read_bytes()
    served.write_bytes(whole.replace(tampered.image_digest, bytes(32)))
    orders = {
        "first": (tampered, update.MANIFEST_DIGEST),
        "second": (pipeline.place(site.build(signatures=1)), update.TOO_FEW_SIGNATURES),
        "asleep": (pipeline.published(1), update.OLD_SEQUENCE),
    }
    for name, (published, _) in orders.items():
        site.order(name, published)
    for name, (published, _) in orders.items():
        site.wait_report(name, published, update.REFUSED)
    # beside what is damaged nothing is published any more
    served.write_bytes(whole)
    shutil.rmtree(pipeline.repository / tampered.model / str(orders["second"][0].sequence))
    return orders


@pytest.mark.parametrize(
    "name", BOARDS, ids=["manifest tampered with", "one signature too few", "older than what runs"]
)
def test_what_must_not_be_taken_is_refused(
    site: UpdateSite, refused: dict[str, tuple[Published, int]], name: str
) -> None:
    published, code = refused[name]
    assert site.reports(name, published.sequence)[-2:] == [(update.ACCEPTED, 0), (update.REFUSED, code)]
    assert not site.lines(name, f"update: verified {published.sequence}")
    site.wait_alive(name, published.sequence)
    assert runs(site, name) == 2


# --- what gets in between


@pytest.fixture(scope="module")
def disturbed(site: UpdateSite, refused: dict[str, tuple[Published, int]]) -> dict[str, Published]:
    """Three orders, each with a trouble of its own, at the same time."""
    releases = {name: site.publish() for name in BOARDS}
    # so that there is something to be interrupted
    home = site.site.pipeline.repository / releases["second"].model / str(releases["second"].sequence)
    for patch in home.rglob("from-*.patch"):
        patch.unlink()
    stories = {"first": power_cuts, "second": server_down, "asleep": out_of_range}
    for name, published in releases.items():
        site.order(name, published)
    with ThreadPoolExecutor(len(stories)) as pool:
        for played in [pool.submit(play, site, name, releases[name]) for name, play in stories.items()]:
            played.result()
    return releases


def out_of_range(site: UpdateSite, name: str, published: Published) -> None:
    board = site.board(name)
    board.wifi_up = False
    site.wait_report(name, published, update.FAILED)
    board.wifi_up = True
    site.wait_report(name, published, update.CONFIRMED)


def server_down(site: UpdateSite, name: str, published: Published) -> None:
    # the power goes in the midst of the download, and the server is gone when it comes back
    board = site.board(name)
    site.wait_report(name, published, update.ACCEPTED)
    board.cut_power_after(flash_operations=120)
    site.wait(lambda: board.state == "off", "power cut")
    with site.site.pipeline.outage():
        board.power_on()
        site.wait_report(name, published, update.FAILED)
    site.wait_report(name, published, update.CONFIRMED)


def power_cuts(site: UpdateSite, name: str, published: Published) -> None:
    chosen = random.Random(7)
    # three attempts of five, then starts on trial
    for most in (30, 300, 100):
        cut_after(site, name, chosen.randint(1, most))
    site.wait(lambda: site.lines(name, f"update: installed {published.sequence}"), "installation")
    for _ in range(2):
        cut_after(site, name, chosen.randint(1, 20))
    site.wait_report(name, published, update.CONFIRMED)


def cut_after(site: UpdateSite, name: str, count: int) -> None:
    board = site.board(name)
    board.cut_power_after(flash_operations=count)
    site.wait(lambda: board.state == "off", f"power cut at operation {count}")
    time.sleep(0.2)
    board.power_on()


@pytest.mark.parametrize("name", BOARDS, ids=["power cuts", "server down", "out of range"])
def test_the_release_comes_in_spite_of_it(site: UpdateSite, disturbed: dict[str, Published], name: str) -> None:
    assert site.reports(name, disturbed[name].sequence)[-1] == (update.CONFIRMED, 0)
    site.wait_alive(name, disturbed[name].sequence)
    assert runs(site, name) == disturbed[name].sequence


def test_out_of_range_is_reported_as_no_link(site: UpdateSite, disturbed: dict[str, Published]) -> None:
    assert (update.FAILED, update.NO_LINK) in site.reports("asleep", disturbed["asleep"].sequence)


@pytest.mark.parametrize("name", ["second", "asleep"])
def test_the_next_attempt_comes_after_a_pause(site: UpdateSite, disturbed: dict[str, Published], name: str) -> None:
    failed = site.lines(name, "update: failed")
    verified = site.lines(name, f"update: verified {disturbed[name].sequence}")
    assert len(failed) == 1
    assert verified[-1].at - failed[0].at >= 300


def test_a_download_goes_on_where_it_was_interrupted(site: UpdateSite, disturbed: dict[str, Published]) -> None:
    published = disturbed["second"]
    asked = [
        line
        for line in site.site.pipeline.requests
        if f"/{published.sequence}/{published.image_digest.hex()}/full" in line
    ]
    assert [line.split()[3] for line in asked] == ["200", "206"], asked
    failed = [code for state, code in site.reports("second", published.sequence) if state == update.FAILED]
    assert failed == [update.UNREACHABLE]


# --- who may sign


def test_a_key_that_was_taken_away_signs_no_more(site: UpdateSite, disturbed: dict[str, Published]) -> None:
    pipeline = site.site.pipeline
    gone = pipeline.keys[0]
    pipeline.take_away(gone)
    with_list = site.publish()
    site.order("first", with_list)
    site.wait_report("first", with_list, update.CONFIRMED)
    assert (update.TRUSTED, 0) in site.reports("first", 2)  # of the list's version
    folder = site.build(signatures=1)
    (folder / build.MANIFEST).write_bytes(sign.sign(sign.open_release(folder), gone))
    late = pipeline.place(folder)
    site.order("first", late)
    site.wait_report("first", late, update.REFUSED)
    assert site.reports("first", late.sequence)[-1] == (update.REFUSED, update.TOO_FEW_SIGNATURES)


# --- whatever happened


def test_only_signed_releases_ever_ran(site: UpdateSite, disturbed: dict[str, Published]) -> None:
    for name in BOARDS:
        assert set(site.statuses(name)) <= site.known


def test_no_nonce_was_used_twice(site: UpdateSite, disturbed: dict[str, Published]) -> None:
    packets = defaultdict(set)
    for sent in site.air:
        parsed = frame.parse(sent.packet)
        name = parsed.did if parsed.kind != frame.KIND_HELLO else parsed.eui
        packets[sent.params.invert_iq, parsed.kind, parsed.epoch_bits, name, parsed.ctr].add(sent.packet)
    assert len(packets) > 100
    assert [key for key, versions in packets.items() if len(versions) > 1] == []


def test_every_frame_is_stored_once(site: UpdateSite, disturbed: dict[str, Published]) -> None:
    numbers = [(one.board, one.epoch, one.ctr) for one in site.heard]
    assert len(numbers) == len(set(numbers)) > 100
