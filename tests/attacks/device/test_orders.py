# Orders that somebody on the way holds back and hands over when it suits him.
from device.wearable import Wearable

from sealband import keys
from sealwire import messages

R = bytes(range(16))


# A device in epoch 1, and an order of epoch 0 that did not reach it.
def held_back(kind, *items):
    w = Wearable(send_every_s=60)
    w.run(130)
    down = w.server._down[0]
    w.server._down[0] = down + 1
    caught = w.server.message(0, kind, *items)
    w.server._down[0] = down
    assert w.node.session._receive(w.server.message(0, messages.REKEY, R))
    w.server.chain_keys[1:] = [keys.rekey(w.server.chain_keys[0], R)]
    assert w.node.chain.epoch == 1
    return w, caught


def test_a_consent_that_was_held_back_does_not_undo_its_withdrawal_in_the_next_epoch():
    w, caught = held_back(messages.CONSENT, [1, 3, 4])
    assert w.node.session._receive(w.server.message(1, messages.CONSENT, []))
    refused = w.node.refused
    w.node.session._receive(caught)
    assert w.node.sampler.consent == b"" and w.node.refused == refused + 1
    w.power_cut()
    assert w.node.sampler.consent == b""


def test_settings_and_a_retirement_that_were_held_back_do_nothing_once_the_server_speaks_in_the_next_epoch():
    w, caught = held_back(messages.CONFIGURE, {1: 600})
    assert w.node.session._receive(w.server.message(1, messages.CONFIGURE, {1: 30}))
    w.node.session._receive(caught)
    assert w.node.config.send_every_s == 30
    w, caught = held_back(messages.RETIRE)
    w.run(130)
    assert [key for key in w.server.stored if key[0] == 1]
    w.node.session._receive(caught)
    assert w.node.retiring is None


def test_an_order_that_an_epoch_overtakes_on_its_way_is_carried_out():
    w, caught = held_back(messages.CONFIGURE, {1: 600})
    assert w.node.session._receive(caught)
    assert w.node.config.send_every_s == 600


def test_an_old_frame_is_acknowledged_in_its_epoch_also_when_the_server_speaks_in_the_next():
    w, caught = held_back(messages.SYNC, 60_000_300, 0, 0, 0)
    assert w.node.session._receive(w.server.message(1, messages.CONSENT, [1]))
    refused = w.node.refused
    assert w.node.session._receive(caught)
    assert w.node.refused == refused
