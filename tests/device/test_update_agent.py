# The updater: what it does in which order, what it refuses, and what it says about it. Real signatures, manifests,
# trust lists, images and patches; the server is a dictionary.
import os

from device.fakes import unmount

from device import update_way as way
from sealband.update import agent, fetch, job, trust
from sealboot import record
from sealwire import update as wire

TIMEOUT_S = 120


# Play an order for `envelope`: (reports, the board)
def play(envelope, digest, files=None, **settings):
    way.Server.files = way.delivery(envelope) if files is None else files
    way.Server.asked, way.Server.fails = [], {}
    board = way.world(digest, **settings)
    return way.play(board), board


def states(reports):
    return [(state, code) for _, state, code in reports]


def running(board):
    held = way.intact(board)
    return held.slots[held.active][0]


DONE = [(wire.VERIFIED, 0), (wire.FETCHED, 0), (wire.INSTALLED, 0), (wire.CONFIRMED, 0)]


def test_an_update_by_patch_is_installed_tried_and_confirmed():
    envelope, digest = way.signed_release(way.NEW)
    reports, board = play(envelope, digest)
    assert states(reports) == DONE, reports
    assert all(sequence == 2 for sequence, _, _ in reports)
    assert running(board) == 2 and way.intact(board).floor == 2
    asked = way.Server.asked
    assert asked[0].endswith("/trust/2.cbor") and asked[1] == way.URL and asked[2].endswith(".patch")
    assert len(asked) == 3, asked


def test_without_a_patch_the_full_image_is_fetched():
    envelope, digest = way.signed_release(way.NEW)
    reports, board = play(envelope, digest, way.delivery(envelope, patch=False))
    assert states(reports) == DONE
    assert running(board) == 2 and way.Server.asked[-1].endswith("/full.deflate")


def test_a_patch_that_leads_elsewhere_costs_nothing_but_the_full_image():
    envelope, digest = way.signed_release(way.NEW)
    files = way.delivery(envelope)
    for url in files:
        if url.endswith(".patch"):
            files[url] = files[url][:-5] + b"\x00" * 5
    reports, board = play(envelope, digest, files)
    found = states(reports)
    assert found[2][0] == wire.FAILED and found[2][1] in (wire.IMAGE_DIGEST, wire.BAD_STREAM, wire.PATCH_OUTSIDE), found
    assert found[-1] == (wire.CONFIRMED, 0) and running(board) == 2


def refused(code, envelope, digest, files=None, **settings):
    reports, board = play(envelope, digest, files, **settings)
    assert states(reports)[-1] == (wire.REFUSED, code), reports
    assert running(board) == 1
    held = way.intact(board)
    assert held.slots[1] == record.EMPTY and held.floor == 1, "something was written"
    assert not [url for url in way.Server.asked if url.endswith(("patch", "deflate"))], "something was fetched"
    board.mount()
    assert sorted(os.listdir(way.UPDATE)) == ["last", "provision", "trust"]
    unmount()


def test_unsigned_update_is_refused_before_anything_is_written():
    envelope, digest = way.signed_release(way.NEW, keys=[])
    refused(wire.TOO_FEW_SIGNATURES, envelope, digest)


def test_one_signature_too_few_is_refused():
    envelope, digest = way.signed_release(way.NEW, keys=way.RELEASE[:1])
    refused(wire.TOO_FEW_SIGNATURES, envelope, digest)


def test_old_release_is_refused():
    envelope, digest = way.signed_release(way.NEW, sequence=1)
    refused(wire.OLD_SEQUENCE, envelope, digest, sequence=1)


def test_withheld_release_is_noticed():
    # the server orders release 3; whoever serves the files goes on showing release 2
    envelope, _ = way.signed_release(way.NEW)
    _, newer = way.signed_release(way.NEW, sequence=3)
    refused(wire.NOT_ORDERED, envelope, newer, sequence=3)


def test_release_of_another_number_than_ordered_is_refused():
    envelope, digest = way.signed_release(way.NEW)
    refused(wire.NOT_ORDERED, envelope, digest, sequence=3)


def test_manifest_of_another_model_is_refused():
    envelope, digest = way.signed_release(way.NEW, class_id=bytes(16))
    refused(wire.WRONG_CLASS, envelope, digest)


def test_image_that_cannot_fit_is_refused():
    envelope, digest = way.signed_release(way.NEW, size=1 << 20)
    refused(wire.TOO_LARGE, envelope, digest)


def test_expired_trust_list_is_refused():
    envelope, digest = way.signed_release(way.NEW)
    refused(wire.TRUST_EXPIRED, envelope, digest, trusted=way.trust_payload(expires=59999999))


def test_board_without_a_trust_list_takes_nothing():
    envelope, digest = way.signed_release(way.NEW)
    reports, board = play(envelope, digest, trusted=b"garbage")
    assert states(reports) == [(wire.REFUSED, wire.TRUST_MISSING)]


def test_revoked_key_counts_no_more():
    # list 2 takes the second key away; the release was signed with it
    payload = way.trust_payload(2, [way.RELEASE[0], way.RELEASE[2]])
    envelope, digest = way.signed_release(way.NEW)
    files = way.delivery(envelope)
    files[way.BASE + "/trust/2.cbor"] = way.signed_trust(payload)
    reports, board = play(envelope, digest, files)
    assert reports == [(2, wire.TRUSTED, 0), (2, wire.REFUSED, wire.TOO_FEW_SIGNATURES)], reports
    board.mount()
    assert trust.load(way.UPDATE + "/trust").version == 2
    unmount()
    assert running(board) == 1


def test_trust_lists_are_taken_one_after_the_other():
    files = {}
    for version in (2, 3, 4):
        files[way.BASE + "/trust/%d.cbor" % version] = way.signed_trust(way.trust_payload(version))
    reports, board = play(b"", b"", files, sequence=0)
    assert reports == [(2, wire.TRUSTED, 0), (3, wire.TRUSTED, 0), (4, wire.TRUSTED, 0), (0, wire.VERIFIED, 0)], reports
    board.mount()
    assert trust.load(way.UPDATE + "/trust").version == 4 and job.load() is None
    unmount()


def test_forged_trust_list_changes_nothing_and_stops_no_update():
    envelope, digest = way.signed_release(way.NEW)
    forged = way.signed_trust(way.trust_payload(2, way.RELEASE[:1], 1), way.ROOTS[:1])
    for bad, code in ((forged, wire.TRUST_SIGNATURES), (b"\x00" * 40, wire.TRUST_MALFORMED)):
        files = way.delivery(envelope)
        files[way.BASE + "/trust/2.cbor"] = bad
        reports, board = play(envelope, digest, files)
        assert reports[0] == (2, wire.REFUSED, code), reports
        assert states(reports)[1:] == DONE
        board.mount()
        assert trust.load(way.UPDATE + "/trust").version == 1
        unmount()


def test_endless_trust_lists_are_not_followed_for_ever():
    files = {}
    for version in range(2, 30):
        files[way.BASE + "/trust/%d.cbor" % version] = way.signed_trust(way.trust_payload(version))
    reports, board = play(b"", b"", files, sequence=0)
    assert len(way.Server.asked) == 8


def test_server_that_fails_is_asked_again_and_given_up_after_five_attempts():
    envelope, digest = way.signed_release(way.NEW)
    way.Server.files, way.Server.asked = way.delivery(envelope), []
    way.Server.fails = {way.URL: fetch.FetchError(wire.TOO_SLOW)}
    board = way.world(digest)
    reports = way.play(board, 20)
    assert states(reports) == [(wire.FAILED, wire.TOO_SLOW)] * 5 + [(wire.GAVE_UP, 0)], reports
    assert running(board) == 1
    way.Server.fails = {}


def test_delivery_that_is_not_the_image_is_a_failed_attempt():
    envelope, digest = way.signed_release(way.NEW)
    files = way.delivery(envelope, patch=False)
    other = way.delivery(way.signed_release(way.OLD)[0], patch=False)
    for url in files:
        if url.endswith("deflate"):
            files[url] = way.images.squeezed(way.images.image(way.OLD))
    assert other
    way.Server.files, way.Server.asked, way.Server.fails = files, [], {}
    board = way.world(digest)
    reports = way.play(board, 20)
    assert (wire.FAILED, wire.IMAGE_DIGEST) in states(reports) and states(reports)[-1] == (wire.GAVE_UP, 0)
    assert running(board) == 1


def test_host_that_is_not_provisioned_is_never_asked():
    envelope, digest = way.signed_release(way.NEW)
    way.Server.files, way.Server.asked, way.Server.fails = way.delivery(envelope), [], {}
    board = way.world(digest)
    board.mount()
    job.write("order", [2, digest, "http://10.0.0.2:8000/model/2/manifest.suit", [], 0])
    unmount()
    reports = way.play(board)
    assert states(reports) == [(wire.REFUSED, wire.HOST_REFUSED)] and way.Server.asked == []


def test_code_that_raises_is_a_failed_attempt_and_not_the_end():
    envelope, digest = way.signed_release(way.NEW)
    way.Server.files, way.Server.asked = way.delivery(envelope), []
    way.Server.fails = {way.URL: MemoryError("no heap")}
    board = way.world(digest)
    reports = way.start(board)[1]
    assert states(reports) == [(wire.FAILED, wire.INTERNAL)], reports
    board.mount()
    assert 300 <= job.read("wait") < 600
    unmount()
    way.Server.fails = {}


def test_a_patch_that_wants_too_much_memory_gives_way_to_the_full_image_in_a_start_of_its_own():
    from sealband.update import patch

    def apply(*arguments):
        applied.append(arguments)
        raise MemoryError("no heap")

    envelope, digest = way.signed_release(way.NEW)
    good, patch.apply, applied = patch.apply, apply, []
    try:
        reports, board = play(envelope, digest, way.delivery(envelope))
    finally:
        patch.apply = good
    assert len(applied) == 1 and running(board) == 2
    found = states(reports)
    assert (wire.FAILED, wire.INTERNAL) in found and found[-1][0] == wire.CONFIRMED, found
    assert way.Server.asked[-1].endswith("full.deflate"), way.Server.asked


def test_an_attempt_is_counted_before_anything_can_go_wrong():
    envelope, digest = way.signed_release(way.NEW)
    board = way.world(digest)
    board.mount()
    work = job.Job(2, digest, way.URL)

    class Dies(BaseException):
        pass

    def die(*_):
        raise Dies()

    try:
        agent.run(work, way.Machine(), 0, die)
    except Dies:
        pass
    assert job.load().attempts == 1
    unmount()


def test_three_starts_without_health_bring_the_old_code_back():
    envelope, digest = way.signed_release(way.NEW)
    way.Server.files, way.Server.asked, way.Server.fails = way.delivery(envelope), [], {}
    board = way.world(digest)
    reports = way.play(board, 8, dies=True)
    assert states(reports) == DONE[:3] + [(wire.ROLLED_BACK, wire.TRIAL_FAILED)], reports
    assert running(board) == 1
    held = way.intact(board)
    assert held.floor == 1 and held.outcome == (0, 0)


def test_an_order_for_what_is_confirmed_is_answered_and_not_done_again():
    envelope, digest = way.signed_release(way.NEW)
    reports, board = play(envelope, digest)
    asked = len(way.Server.asked)
    board.mount()
    job.write("order", [2, digest, way.URL, [], 0])
    unmount()
    assert way.play(board) == [(2, wire.CONFIRMED, 0)]
    assert len(way.Server.asked) == asked


def test_a_damaged_slot_is_reported_without_a_job():
    envelope, digest = way.signed_release(way.NEW)
    reports, board = play(envelope, digest)
    board.mount()
    with open(way.SLOTS + "/b/main.py", "wb") as file:
        file.write(b"3\n")
    unmount()
    assert way.play(board) == [(2, wire.ROLLED_BACK, wire.SLOT_CORRUPT)]
    assert running(board) == 1


def test_a_newer_order_takes_the_place_of_one_that_waits():
    envelope, digest = way.signed_release(way.NEW)
    way.Server.files, way.Server.asked = way.delivery(envelope), []
    way.Server.fails = {way.URL: fetch.FetchError(wire.UNREACHABLE)}
    board = way.world(bytes(32), sequence=9)
    way.start(board)
    way.Server.fails = {}
    board.mount()
    job.write("order", [2, digest, way.URL, [], 0])
    unmount()
    assert states(way.play(board)) == DONE


def test_garbage_in_the_update_folder_is_no_order_and_no_job():
    envelope, digest = way.signed_release(way.NEW)
    for name in ("order", "job", "reports", "last"):
        for garbage in (b"", b"\xff", b"\x80", b"\xa0", b"\x85\x01\x02\x03\x04\x05", bytes(300)):
            way.Server.files, way.Server.asked, way.Server.fails = way.delivery(envelope), [], {}
            board = way.world(digest)
            board.mount()
            with open(way.UPDATE + "/" + name, "wb") as file:
                file.write(garbage)
            unmount()
            sequence, _ = way.start(board)
            assert sequence == 1, (name, garbage)
            way.intact(board)
