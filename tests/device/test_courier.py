# A courier's visit, message by message, to a whole node in virtual time: what it may do, and what it may not.
import os
import struct

from device.phone import CLAIM, Phone
from device.wearable import EUI, ROOT, T, Wearable

from sealband.crypto import cbor
from sealband.links import courier
from sealband.links.courier import Guess, Visit, VisitError
from sealwire import ble, frame, messages

OTHER_EUI = b"\x70\xb3\xd5\xff\xfe\x00\x99\x99"


class Board:
    # synced: the server was heard before the silence of so many seconds
    def __init__(self, seconds=0, synced=True):
        self.w = Wearable()
        self.attempts = 0
        if synced and seconds:
            self.w.run(30)
        self.w.link.deaf = True
        if seconds:
            self.w.run(seconds)

    def attempt(self):
        self.attempts += 1

    def visit(self):
        return Visit(CLAIM, EUI, os.urandom, lambda request: courier.serve(self.w.node, request), self.attempt)

    def phone(self, **options):
        return Phone(self.visit(), EUI, **options)


def refused(do, *arguments):
    try:
        do(*arguments)
    except VisitError as error:
        return error
    raise AssertionError("it was taken")


def test_courier_reads_the_status_of_the_status_message():
    board = Board(700)
    items = cbor.decode_sequence(board.phone().prove().ask(b"\x01"))
    assert items[0] == messages.STATUS and abs(items[1] - board.w.node.clock.now()) <= 1
    assert items[2][messages.STATUS_BATTERY_MV] and items[2][messages.STATUS_FREE_HEAP]
    assert board.attempts == 1


def test_courier_takes_every_frame_along_and_the_acknowledgement_comes_back():
    board = Board(8000)
    w = board.w
    phone = board.phone().prove()
    listed = phone.list()
    assert len(listed) > 10 and [struct.unpack(">BIH", key) for key in listed] == w.queue()
    for key in listed:
        data = phone.fetch(key)
        assert w.server.open(data)[:2] == struct.unpack(">BIH", key)[1:]
    # taking them along lets none of them go
    assert [struct.unpack(">BIH", key) for key in listed] == w.queue()
    # with the next visit
    phone = board.phone().prove()
    epoch = w.node.chain.epoch
    for ctr in sorted(c for e, c in w.server.stored if e == epoch)[::32] + [None]:
        assert phone.deliver(w.server.sync(epoch, w.time.server_t(), ctr))
    assert w.queue() == [] and w.node.faults == 0


def test_more_frames_than_one_reply_lists_are_listed_in_pages():
    board = Board()
    for _ in range(ble.LIST_MAX * 2 + 3):
        assert board.w.node.event(1)
    listed = board.phone().prove().list()
    assert len(listed) == len(board.w.queue()) > ble.LIST_MAX * 2
    assert [struct.unpack(">BIH", key) for key in listed] == board.w.queue()


def test_every_reply_fits_a_message_whatever_is_asked():
    board = Board()
    for _ in range(60):
        board.w.node.event(1, *range(40))
    phone = board.phone(value_max=60).prove()
    for request in (b"\x01", b"\x02\x00\x00", b"\x03" + phone.list()[0]):
        sealed = phone.tell(phone.seal(request))
        assert len(sealed) <= ble.MESSAGE_MAX
        phone.open(sealed)


def test_frame_that_is_gone_is_nothing_and_no_other_file_is_read():
    phone = Board().phone().prove()
    assert phone.fetch(struct.pack(">BIH", 2, 77, 3)) == b""
    assert phone.fetch(b"\xff" * 7) == b""


# --- attacks


def test_wrong_secret_is_refused_and_was_paid_for():
    board = Board()
    phone = board.phone(claim=bytes(10))
    assert type(refused(phone.prove)) is Guess
    assert board.attempts == 1 and not phone.visit.open


def test_guess_is_written_down_before_it_is_judged():
    order = []

    def attempt():
        order.append("paid")
        raise VisitError

    phone = Phone(Visit(CLAIM, EUI, os.urandom, None, attempt), EUI)
    # also the right proof is not looked at when it can't be paid for
    assert type(refused(phone.prove)) is VisitError
    assert order == ["paid"] and not phone.visit.open


def test_courier_with_another_device_s_label_is_refused():
    board = Board()
    assert type(refused(Phone(board.visit(), OTHER_EUI).prove)) is Guess
    assert type(refused(Phone(board.visit(), OTHER_EUI, claim=bytes(range(10))).prove)) is Guess


def test_stranger_learns_nothing_but_random_bytes():
    board = Board()
    answers = set()
    for _ in range(20):
        visit = board.visit()
        answer = visit.take(b"\x80\x01" + bytes(16))
        assert len(answer) == 17 and answer not in answers
        answers.add(answer)
        for message in (b"\x80\x01", b"\x80" + bytes(9), b"\x80\x02\x00\x00", b"\x80" + bytes(16)):
            refused(visit.take, message)
    assert board.attempts == 80


def test_replayed_session_is_refused():
    board = Board(60)
    recorded = board.phone().prove()
    recorded.ask(b"\x01")
    replay = board.visit()
    said = [value for message in recorded.said for value in courier.fragments(message, ble.VALUE_MAX)]
    assert replay.take(said[0])
    assert type(refused(replay.take, said[1])) is Guess and not replay.open


def test_replayed_request_ends_the_visit():
    board = Board(60)
    phone = board.phone().prove()
    phone.ask(b"\x01")
    assert type(refused(phone.tell, phone.said[-1])) is VisitError


def test_reply_of_another_visit_does_not_open():
    board = Board(60)
    one, other = board.phone().prove(), board.phone().prove()
    try:
        other.open(one.tell(one.seal(b"\x01")))
    except Exception as error:
        assert type(error).__name__ == "AuthError"
    else:
        raise AssertionError("it opened")


def test_device_s_own_reply_reflected_to_it_is_no_request():
    phone = Board(60).phone().prove()
    reply = phone.tell(phone.seal(b"\x01"))
    refused(phone.tell, reply)


def test_tampered_fragment_ends_the_visit_and_is_no_guess():
    for at in (1, 5, 20):
        board = Board(60)
        phone = board.phone().prove()
        value = bytearray(list(courier.fragments(phone.seal(b"\x03" + bytes(7) * 2 + b"xxxxx"), 182))[0])
        value[at] ^= 1
        assert type(refused(phone.visit.take, bytes(value))) is VisitError
        assert board.attempts == 1


def test_oversize_and_endless_fragments_are_refused_before_they_are_kept():
    visit = Board().visit()
    taken = 0
    for index in range(100):
        try:
            assert visit.take(bytes((index,)) + bytes(181)) is None
            taken += 181
        except VisitError:
            break
    assert taken <= ble.MESSAGE_MAX
    visit = Board().visit()
    for index in range(128):
        assert visit.take(bytes((index,))) is None
    refused(visit.take, b"\x00")


def test_fragment_dropped_doubled_or_out_of_order_ends_the_visit():
    message = b"\x01" + bytes(16)
    values = list(courier.fragments(message, 6))
    assert len(values) == 4
    for order in ((1, 2, 3), (0, 2, 3), (0, 0, 1, 2, 3), (0, 2, 1, 3), (3,), (0, 1, 3, 2)):
        visit = Board().visit()
        refused(lambda: [visit.take(values[i]) for i in order])
        assert visit._nonces is None
    for value in (b"", b"\x80", b"\x81" + message):
        refused(Board().visit().take, value)


def test_request_that_is_none_ends_the_visit():
    for request in (b"", b"\x00", b"\x05", b"\x01x", b"\x02", b"\x02\x00", b"\x03" + bytes(6), b"\xff" * 200):
        refused(Board().phone().prove().tell, b"")
        phone = Board().phone().prove()
        refused(phone.tell, phone.seal(request))


def test_courier_that_lies_about_an_acknowledgement_lets_no_frame_go():
    board = Board(7200)
    w = board.w
    queued = w.queue()
    assert len(queued) > 5
    epoch = w.node.chain.epoch
    for ctr in range(1000, 1010):
        # made up without the downlink's key: the tag is wrong, and that is as bad as a wrong secret
        _, kd, _, _, did = w.node.chain.keys()
        lie = frame.header(frame.KIND_DATA, epoch, did, ctr) + os.urandom(18)
        assert type(refused(board.phone().prove().deliver, lie)) is Guess
    # what is not even addressed to it is refused and nothing more
    phone = board.phone().prove()
    for lie in (b"", b"\xe0", os.urandom(40), frame.header(0, epoch + 3, b"ab", 1) + bytes(20), bytes(255)):
        if lie[:1] != b"" and lie[0] & 0xE0 == 0xE0 and lie[1:3] == w.node.chain.keys()[4]:
            continue
        assert not phone.deliver(lie)
    assert w.queue() == queued and w.node.refused == 10


def test_downlink_of_another_device_is_refused():
    from device.server import Server

    board = Board(600)
    other = Server(OTHER_EUI, bytes(32))
    other.stored[(0, 0)] = b""
    assert not board.phone().prove().deliver(other.sync(0, T))


def test_answer_that_is_handed_over_twice_or_late_does_nothing_the_second_time():
    board = Board(4000)
    w = board.w
    phone = board.phone().prove()
    for key in phone.list():
        w.server.open(phone.fetch(key))
    old, new = w.server.sync(0, T + 10), w.server.sync(0, T + 20)
    assert phone.deliver(new)
    assert not phone.deliver(new) and not phone.deliver(old)


def test_courier_that_drops_reorders_and_doubles_frames_loses_none():
    board = Board(5000)
    w = board.w
    phone = board.phone().prove()
    frames = [phone.fetch(key) for key in phone.list()]
    kept = frames[::2]
    for data in list(reversed(kept)) + kept:
        w.server.open(data)
    assert w.server.copies == len(kept)
    assert board.phone().prove().deliver(w.server.sync(0, w.time.server_t()))
    left = [w.node.outbox.read(key) for key in w.queue()]
    # what the server has not got is still there, whatever the courier says
    assert all(data in left for data in frames[1::2] if w.server.stored.get((0, frame.parse(data).ctr)) is None)
    assert all(data not in left for data in kept)


def test_carried_syncs_turn_no_time_back_however_many_agree():
    board = Board(700)
    w = board.w
    assert w.node.clock.valid
    before = w.node.clock.now()
    early = w.time.server_t() - 5000
    phone = board.phone().prove()
    for i in range(4):
        assert phone.deliver(w.server.sync(0, early + 10 * i))
        w.time.ms += 10000
    assert w.node.clock.now() - before in (40, 41)


def test_carried_sync_starts_the_clock_only_where_there_is_no_link_to_ask():
    board = Board(60, synced=False)
    board.w.server.stored[(0, 0)] = b""
    assert board.phone().prove().deliver(board.w.server.sync(0, T + 50))
    assert not board.w.node.clock.valid and board.w.node.clock.now() >= T + 50
    alone = Board()
    alone.w.node.app.links = []
    alone.w.server.stored[(0, 0)] = b""
    assert alone.phone().prove().deliver(alone.w.server.sync(0, T + 50))
    assert alone.w.node.clock.valid


def test_command_that_was_caught_on_the_air_is_not_followed_when_a_courier_brings_it():
    board = Board(700)
    w = board.w
    before = w.node.config.send_every_s
    caught = w.server.message(0, messages.CONFIGURE, {1: 60})
    refused_before = w.node.refused
    assert board.phone().prove().deliver(caught)
    assert w.node.config.send_every_s == before and w.node.refused == refused_before + 1
    # nor when it comes by radio after that
    assert not board.phone().prove().deliver(caught)


def test_acknowledgement_that_was_carried_confirms_no_update_of_a_device_with_links():
    class Trial:
        acknowledged = False

        def work(self, node):
            pass

    board = Board()
    w = board.w
    w.run(5)
    w.node.trial = Trial()
    phone = board.phone().prove()
    for key in phone.list():
        w.server.open(phone.fetch(key))
    assert phone.deliver(w.server.sync(0, w.time.server_t()))
    assert not w.queue() and not w.node.trial.acknowledged


# --- names


def test_pseudonym_is_recognised_by_who_holds_the_secret_and_never_comes_twice():
    from sealband.crypto import hkdf

    names = set()
    for _ in range(50):
        name = courier.pseudonym(CLAIM, os.urandom)
        key = hkdf.expand(hkdf.extract(b"sealband/1 courier", CLAIM), b"sealband/1 courier name", 32)
        assert len(name) == 10 and name[4:] == hkdf.hmac_sha256(key, name[:4])[:6]
        other = courier.pseudonym(bytes(10), lambda n: name[:4])
        assert other[:4] == name[:4] and other[4:] != name[4:]
        names.add(name)
    assert len(names) == 50 and len({n[:4] for n in names}) == 50
    assert not any(EUI[:4] in name or ROOT[:4] in name for name in names)
