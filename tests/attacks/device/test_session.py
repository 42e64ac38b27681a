# Who stands between a device and its server, for as long as he likes: what must still be there when he has gone.
from device.wearable import BrokerLink, Wearable

from sealwire import frame, messages


def broker(time, server):
    return [BrokerLink(time, server)]


def test_an_event_is_not_given_up_when_somebody_jams_it_and_lets_other_answers_through():
    w = Wearable(send_every_s=60)
    w.run(130)
    answer = w.link.answer
    jammed = []

    # the event never reaches the server; a copy of an older frame does, and its answer is played to the device
    def but_events(data):
        ctr = frame.parse(data).ctr
        if (0, 0, ctr) in w.queue():
            jammed.append(w.time.ms)
            return [w.server.sync(0, w.time.server_t())]
        return answer(data)

    w.link.answer = but_events
    assert w.node.event(2, 7)
    w.run(5400)
    assert [key for key in w.queue() if key[0] == 0] and w.node.outbox.drops == 0
    # it costs no airtime without end, and holds up nothing else
    assert 3 <= len(jammed) <= 6
    assert w.server.samples()[-1][0] > w.time.server_t() - 130
    w.link.answer = answer
    w.run(3700)
    assert [items for items in w.server.messages() if items[0] == messages.EVENT and items[2:] == [2, 7]]
    assert not [key for key in w.queue() if key[0] == 0] and w.node.faults == 0


def test_a_broker_that_hands_out_forged_downlinks_without_end_does_not_wear_out_the_key():
    w = Wearable(more=broker, send_every_s=60, patience_s=0)
    w.run(130)
    w.link.deaf = True
    forged = [w.server.seal(0, b"\x10" * 9, 60000 + i)[:-1] + bytes((i,)) for i in range(32)]
    w.more[0].answer = lambda data: list(forged)
    downlink = w.node.chain.downlinks()[0][1]
    sent = len(w.more[0].connects)
    before = downlink.failures
    w.run(7200)
    sessions = len(w.more[0].connects) - sent
    assert sessions > 3 and 0 < downlink.failures - before <= 2 * sessions
    # and is heard again
    w.link.deaf = False
    w.run(7300)
    assert not [key for key in w.queue() if key[0] < 2] and w.node.chain.epoch == 0


def test_answers_that_were_held_back_turn_no_time_back_however_many_agree():
    w = Wearable(send_every_s=60)
    w.run(130)
    # for ten minutes what the server answers is caught on its way, and heard by nobody else
    answer = w.link.answer
    caught = []

    def catch(data):
        answers = answer(data)
        caught.extend((w.time.ms, one) for one in answers)
        return []

    w.link.answer = catch
    w.run(600)
    assert len(caught) > 3
    w.link.answer = lambda data: []
    w.run(7200)
    # and is played to the device with the pauses that it was made with
    before_ms = caught[0][0]
    for at_ms, data in caught:
        w.time.sleep_ms(at_ms - before_ms)
        before_ms = at_ms
        assert w.node.session._receive(data)
        assert abs(w.node.clock.now() - w.time.server_t()) < 5
    assert w.node.clock.valid and w.node.faults == 0


def test_a_server_whose_clock_was_wrong_is_believed_when_it_goes_on_saying_so():
    w = Wearable(send_every_s=60)
    w.time.server_t = lambda: 60_090_000 + w.time.ms // 1000
    w.run(130)
    assert w.node.clock.now() > 60_090_000
    w.time.server_t = lambda: 60_000_000 + w.time.ms // 1000
    w.run(300)
    assert abs(w.node.clock.now() - w.time.server_t()) < 5
