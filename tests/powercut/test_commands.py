# The power fails at every NVS operation while a device follows what the server said: settings, consent, rekey. The
# downlinks are heard again after each cut, as somebody who recorded them would play them.
#
# What must hold: a command is carried out once or refused, as a whole; a recorded one never undoes a later one; the
# same order with a new counter leads to the same state and the same receipt.
from device.fakes import World, sweep
from device.server import Server
from device.wearable import EUI, ROOT, ServerLink, T, Time

from sealband.app import App
from sealband.chain import Chain
from sealband.clock import Clock
from sealband.crypto import cbor
from sealband.errors import NotEnrolled
from sealband.node import Node
from sealband.store import Store
from sealwire import messages

TIMEOUT_S = 300
R = bytes(range(16))


# in RAM: flash has sweeps of its own
class Box:
    drops = 0

    def __init__(self):
        self.frames = []

    def __len__(self):
        return len(self.frames)

    def put(self, priority, epoch, ctr, data, uptime_s=0):
        self.frames.append(data)


class Device:
    def __init__(self, board, make_chain=Chain):
        self.time = Time()
        store = Store(board.nvs)
        try:
            chain = make_chain.load(store)
        except NotEnrolled:
            chain = make_chain.create(store, EUI, ROOT, T)
        self.server = Server(EUI, ROOT)
        app = App([], [ServerLink(self.time, self.server)], echo=False)
        clock = Clock(store, self.time.ticks_ms, self.time.system_s)
        self.node = Node(app, store, chain, Box(), clock, None, self.time.sleep_ms, lambda n: 0)

    def hear(self, data):
        return self.node.session._receive(data)

    # the result code of the newest receipt
    def receipt(self):
        data = self.node.outbox.frames[-1]
        _, _, plaintext = self.server.open(data)
        items = cbor.decode_sequence(plaintext)
        assert items[0] == messages.RECEIPT
        return items[2]

    def state(self):
        config = self.node.config
        return (config.send_every_s, config.status_every_s, config.power_dbm), self.node.sampler.consent


def downlinks(*commands):
    server = Server(EUI, ROOT)
    return [server.message(0, *command) for command in commands]


def new_one(server_ctr, *items):
    return Server(EUI, ROOT).seal(0, b"".join(cbor.encode(item) for item in items), server_ctr)


def enrolled():
    world = World()
    Device(world)
    return world


BEFORE = ((600, 86400, 14), None)
CONFIGURES = ((messages.CONFIGURE, {1: 60, 2: 7200}), (messages.CONFIGURE, {1: 120, 2: 3600, 4: 8}))
CONFIGURED = [BEFORE, ((60, 7200, 14), None), ((120, 3600, 8), None)]
CONSENTS = ((messages.CONSENT, [4, 1]), (messages.CONSENT, []))
CONSENTED = [BEFORE, (BEFORE[0], b"\x01\x04"), (BEFORE[0], b"")]


# Both commands are heard, the power fails, both are played again in any order.
def follow(commands, states, make_chain=Chain):
    heard = downlinks(*commands)

    def run(board):
        device = Device(board, make_chain)
        for data in heard:
            # what is said of each is what was done
            before = device.state()
            if device.hear(data):
                board.send(("acted", heard.index(data)))
            elif before != device.state():
                raise AssertionError("refused, and done all the same")

    def check(board):
        acted = [entry[1] for entry in board.air]
        assert len(set(acted)) == len(acted), "acted on twice"
        device = Device(board, make_chain)
        at = states.index(device.state())  # whole: one of these
        assert not acted or at >= max(acted) + 1, "what was done is undone"
        for k in (0, 1, 0):
            taken = device.hear(heard[k])
            assert not (taken and at > k), "acted on twice"
            now = states.index(device.state())
            assert now >= at, "a recorded command undid a later one"
            at = now
        # the server, which has no receipt, sends it anew, twice
        for ctr in (10, 11):
            assert device.hear(new_one(ctr, *commands[1]))
            assert device.receipt() == messages.RESULT_DONE and device.state() == states[2]
        assert Device(board, make_chain).state() == states[2]

    return run, check


def test_settings_are_taken_once_and_whole_at_any_cut():
    cuts = sweep(enrolled(), *follow(CONFIGURES, CONFIGURED), depth=2)
    print("configure: %d cuts" % cuts)
    assert cuts > 300


def test_consent_is_taken_once_and_a_withdrawn_one_never_comes_back_at_any_cut():
    run, check = follow(CONSENTS, CONSENTED)

    # also the half that a damaged flash would fall back to
    def scrubbed(board):
        check(board)
        store = Store(board.nvs)
        if store.load("consent") == b"":
            assert not [v for k, v in board.nvs.dump().items() if k.startswith("consent") and b"\x01\x04" in bytes(v)]

    cuts = sweep(enrolled(), run, scrubbed, depth=2)
    print("consent: %d cuts" % cuts)
    assert cuts > 300


def test_rekey_is_done_once_at_any_cut_and_gets_the_same_receipt_again():
    (heard,) = downlinks((messages.REKEY, R))

    def run(board):
        device = Device(board)
        if device.hear(heard):
            board.send(("acted", device.node.chain.epoch))

    def check(board):
        device = Device(board)
        epoch = device.node.chain.epoch
        assert epoch in (0, 1) and len(board.air) <= 1
        assert not board.air or epoch == 1
        device.hear(heard)
        assert device.node.chain.epoch in (epoch, 1)
        refused = 0
        for ctr in (10, 11):
            epoch = device.node.chain.epoch
            device.server.chain_keys = [ROOT]
            if epoch or device.hear(new_one(ctr, messages.REKEY, R)):
                assert device.node.chain.epoch == 1
            if not epoch:
                continue
            # a cut between the new chain and its mark costs the second receipt its code, and nothing else
            from sealband import keys

            device.server.chain_keys = [ROOT, keys.rekey(ROOT, R)]
            assert device.hear(new_one(ctr, messages.REKEY, R)) and device.node.chain.epoch == 1
            refused += device.receipt() != messages.RESULT_DONE
            assert device.receipt() in (messages.RESULT_DONE, messages.RESULT_OUT_OF_RANGE)
        # other random bytes under the old key are never taken
        device.hear(new_one(12, messages.REKEY, bytes(16)))
        assert device.node.chain.epoch == 1
        board.refused = refused

    cuts = sweep(enrolled(), run, check, depth=2)
    print("rekey: %d cuts" % cuts)
    assert cuts > 60
    # without a cut: the same receipt
    world = enrolled()
    run(world)
    check(world)
    assert world.refused == 0


def test_sweep_catches_a_chain_that_forgets_which_downlinks_it_took():
    class Forgetful(Chain):
        def downlink_accepted(self, downlink, counter):
            downlink.next = counter + 1

    for commands, states in ((CONFIGURES, CONFIGURED), (CONSENTS, CONSENTED)):
        try:
            sweep(enrolled(), *follow(commands, states, Forgetful))
        except AssertionError as error:
            assert "undid" in str(error) or "twice" in str(error) or "undone" in str(error), error
            continue
        raise AssertionError("not seen")


def test_sweep_catches_settings_that_are_stored_one_by_one():
    from sealband import config

    class Piecemeal(config.Config):
        def change(self, settings):
            for key in sorted(settings):
                super().change({key: settings[key]})

    import sealband.node as module

    module.Config, whole = Piecemeal, module.Config
    try:
        sweep(enrolled(), *follow(CONFIGURES, CONFIGURED))
    except ValueError:
        return  # a state that is none of those
    finally:
        module.Config = whole
    raise AssertionError("not seen")
