# A node with two and three links: which frame goes over which, the same bytes, answers by another way, and links that
# fail in every way that a link can.
from device.wearable import BrokerLink, CountingSensor, Wearable

from sealband.app import Every
from sealband.links.base import Link
from sealwire import frame, messages

TIMEOUT_S = 300  # it computes for half a minute, which a busy machine makes long


def broker(time, server):
    return [BrokerLink(time, server)]


def two(**settings):
    w = Wearable(more=broker, send_every_s=60, **settings)
    return w, w.link, w.more[0]


def kinds(w, sent):
    found = []
    for _, data in sent:
        parsed = frame.parse(data)
        found.append(w.server.stored[(0, parsed.ctr)][0] if parsed.kind == frame.KIND_DATA else "hello")
    return found


def test_while_the_cheap_link_works_the_dear_one_is_never_connected():
    w, lora, lte = two()
    w.run(3600)
    assert len(lora.sent) > 50 and lte.connects == [] and lte.sent == []
    assert w.node.event(2)
    w.run(30)
    assert w.queue() == [] and lte.connects == []


def test_an_event_that_the_first_link_does_not_bring_through_goes_over_the_next_at_once_with_the_same_bytes():
    w, lora, lte = two()
    w.run(130)
    lora.deaf = True
    before = len(lora.sent), w.time.ms
    assert w.node.event(2, 7)
    w.run(30)
    event = [data for _, data in lora.sent[before[0] :]][0]
    assert event == lte.sent[0][1] and lte.sent[0][0] - before[1] < 20000
    assert kinds(w, lte.sent[:1]) == [messages.EVENT] and w.queue() == []
    # only it: telemetry waits for the cheap link
    w.run(1000)
    assert kinds(w, lte.sent) == [messages.EVENT] and len(w.queue()) > 10


def test_an_event_goes_over_both_again_and_again_until_it_is_acknowledged():
    w, lora, lte = two()
    w.run(130)
    lora.deaf = lte.deaf = True
    lora.sent.clear()
    assert w.node.event(2)
    w.run(4 * 3600)
    bytes_seen = {data for _, data in lte.sent}
    # every four minutes or so over each, however long it lasts
    assert 40 <= len(lte.sent) < 90 and len(lte.connects) < 90 and len(lora.sent) < 180
    lora.mute, lora.deaf = True, False
    w.run(3 * 3600)
    # heard over LoRa, but no answer comes back that way
    assert (0, frame.parse(lte.sent[0][1]).ctr) in w.server.stored
    lte.deaf = False
    w.run(2 * 3600)
    assert not [key for key in w.queue() if key[0] == 0]
    assert len([data for data in bytes_seen if frame.parse(data).ctr == frame.parse(lte.sent[0][1]).ctr]) == 1
    assert w.server.copies > 0


def test_telemetry_waits_for_the_cheap_link_within_its_age_limit_and_goes_over_the_dear_one_after_it():
    w, lora, lte = two(patience_s=1800)
    w.run(130)
    lora.deaf = True
    w.run(700)
    assert lte.sent == [] and len(w.queue()) >= 10
    # then the cheap link's pauses reach beyond the age limit of the oldest frames
    w.run(2200)
    assert lte.sent and set(kinds(w, lte.sent)) == {messages.TELEMETRY}
    assert not [key for key in w.queue() if (w.node.outbox.age_s(key, w.node.clock.uptime()) or 0) > 1800 + 240]
    # and with the cheap link back, nothing goes over the dear one any more
    lora.deaf = False
    w.run(3600)
    count = len(lte.sent)
    w.run(3600)
    assert len(lte.sent) == count and len(w.queue()) <= 1


def test_frames_of_before_a_cold_start_count_as_old():
    w, lora, lte = two(patience_s=7200)
    w.run(130)
    lora.deaf = True
    w.run(300)
    assert lte.sent == [] and len(w.queue()) >= 4
    old = w.queue()
    w.power_cut()
    w.run(120)
    assert not [key for key in w.queue() if key in old]
    assert lte.sent


def test_several_frames_go_in_one_connection_and_one_answer_acknowledges_them():
    w, lora, lte = two(patience_s=600)
    w.run(130)
    lora.deaf = True
    # a server that answers the last frame only
    w.run(3600)
    burst = max(len([ms for ms, _ in lte.sent if begun <= ms < begun + 30000]) for begun in lte.connects)
    assert burst >= 2 and len(lte.connects) < len(lte.sent), (burst, len(lte.connects), len(lte.sent))


def test_with_lora_silent_for_hours_the_server_is_not_lost_and_no_hello_is_said():
    w, lora, lte = two(patience_s=600)
    w.run(130)
    lora.deaf = True
    w.run(6 * 3600)
    assert w.server.hellos == 0
    assert "hello" not in [frame.parse(data).kind == frame.KIND_HELLO and "hello" for _, data in lora.sent]
    assert w.node.outbox.drops == 0
    # the silent link is asked less and less often, but is asked
    tries = [ms for ms, _ in lora.sent if ms > 4 * 3600000]
    assert 1 <= len(tries) <= 12, len(tries)
    lora.deaf = False
    w.run(2 * 3600)
    assert not w.node.session.backoffs[0].tries


def test_a_server_that_is_lost_over_both_gets_a_hello_over_lora_only():
    w, lora, lte = two()
    w.run(130)
    lora.deaf, lte.deaf = True, True
    w.run(6 * 3600)
    hellos = [data for _, data in lora.sent if frame.parse(data).kind == frame.KIND_HELLO]
    assert hellos and not [data for _, data in lte.sent if frame.parse(data).kind == frame.KIND_HELLO]
    lora.deaf = lte.deaf = False
    w.run(3 * 3600)
    assert len(w.queue()) <= 2 and not w.node.session.backoffs[0].tries


def test_an_event_does_not_wait_until_another_link_is_up():
    w, lora, lte = two(patience_s=0)
    w.run(130)
    w.power_cut()
    lora.deaf = True
    begun = []

    def endless():
        while True:
            begun.append(w.time.ms)
            yield 1000

    lte.connect = endless
    event_ms = None
    while event_ms is None:
        for pause_ms in w.node.work():
            w.time.sleep_ms(pause_ms)
            if len(begun) >= 5 and event_ms is None:
                lora.deaf = False
                assert w.node.event(2)
                event_ms = w.time.ms
        w.time.sleep_ms(w.node.next_ms())
    w.run(20)
    assert event_ms is not None and begun[-1] <= event_ms + 1000
    sent_ms = [ms for ms, data in lora.sent if ms >= event_ms]
    assert sent_ms and sent_ms[0] - event_ms < 20000
    assert not [key for key in w.queue() if key[0] == 0]


# Does what it is told at one of its methods: raises, never ends, or says what no link says.
class Odd(Link):
    name = "odd"
    grade = 0

    def __init__(self, where, what):
        self.where = where
        self.what = what
        self.calls = 0

    def _do(self, name, value=None):
        if name == self.where:
            self.calls += 1
            if isinstance(self.what, BaseException):
                raise self.what
            return self.what
        return value

    def open(self, store, clock, settings, random):
        self._do("open")

    def wait_ms(self, frame_len):
        return self._do("wait_ms", 0)

    def spare(self, frame_len):
        return self._do("spare", 1000)

    def energy_mj(self, frame_len):
        return self._do("energy_mj", 5)

    def airtime_ms(self):
        return self._do("airtime_ms", 0)

    def suspend(self):
        self._do("suspend")

    def silent(self):
        self._do("silent")

    def configure(self, settings):
        self._do("configure")

    def connect(self):
        return self._steps("connect", None)

    def send(self, data):
        return self._steps("send", True)

    def listen(self):
        return self._steps("listen", [])

    def disconnect(self):
        return self._steps("disconnect", None)

    def _steps(self, name, value):
        yield 10
        value = self._do(name, value)
        if value == "hang":
            while True:
                yield 700
        if value == "spin":
            while True:
                yield 0
        if value == "wordy":
            yield "soon"
        if value == "long":
            yield 1 << 40
        return value


WHERE = ("open", "wait_ms", "spare", "energy_mj", "airtime_ms", "silent", "connect", "send", "listen", "disconnect")
WHATS = (
    OSError(5),
    KeyError("x"),
    MemoryError(),
    StopIteration(7),
    None,
    -5,
    "text",
    1 << 40,
    [b"", b"\x00" * 40, None, 7, "x", b"\xe0" * 300],
    [[1]],
    {},
)


def with_odd(odd, **settings):
    sensors = [Every(30, CountingSensor(4, 3900))]
    return Wearable(sensors, more=lambda time, server: [odd], send_every_s=60, **settings)


def test_whatever_a_link_raises_or_says_the_others_carry_on():
    for where in WHERE:
        for what in WHATS:
            odd = Odd(where, what)
            w = with_odd(odd, patience_s=60)
            w.run(70)
            w.node.event(2)
            w.run(300)
            assert w.node.faults == 0, (where, what)
            assert not [key for key in w.queue() if key[0] == 0], (where, what)
            samples = w.server.samples()
            assert len(w.queue()) <= 4 and samples[-1][0] > 60_000_000 + 120, (where, what, w.queue())


def test_a_link_that_hangs_is_given_up_and_what_it_holds_is_closed():
    for where in ("connect", "send", "listen", "disconnect"):
        for what in ("hang", "spin", "wordy", "long"):
            odd = Odd(where, what)
            odd.grade = 5
            w = with_odd(odd)
            w.run(100)
            w.link.deaf = True
            w.node.event(2)
            w.run(60)
            assert odd.calls >= 1, (where, what)
            w.link.deaf = False
            w.run(1500)
            assert w.node.faults == 0 and not [key for key in w.queue() if key[0] == 0], (where, what)
            assert [record for t, record, _ in w.server.samples() if t > 60_000_000 + 1000], (where, what)


def test_a_link_that_claims_to_have_sent_and_hears_nothing_does_not_keep_frames_from_the_others():
    odd = Odd("nothing", None)  # free, always ready, and nothing arrives
    w = Wearable(more=lambda time, server: [odd], send_every_s=60, patience_s=600)
    w.run(1800)
    assert len(w.server.samples()) > 30
    assert w.node.session.backoffs[1].tries >= 4
    count = w.node.session.backoffs[1].tries
    w.run(7200)
    assert w.node.session.backoffs[1].tries - count < 12
    assert w.node.outbox.drops == 0 and len(w.queue()) < 30


def test_answers_of_a_link_that_make_no_sense_are_counted_and_acknowledge_nothing():
    w, lora, lte = two()
    w.run(130)
    lora.deaf = True
    good = w.server.sync(0, w.time.server_t())
    forged = good[:-1] + bytes((good[-1] ^ 1,))
    lte.answer = lambda data: [forged, b"\xe0" * 40, data, b""] * 50
    w.node.event(2)
    refused = w.node.refused
    w.run(60)
    assert [key for key in w.queue() if key[0] == 0]
    assert refused < w.node.refused <= refused + 4 * 32 and w.node.faults == 0


def test_margins_reach_the_link_that_the_answer_came_over():
    w, lora, lte = two()
    margins = []
    lora.margin = lambda db: margins.append(("lora", db))
    lte.margin = lambda db: margins.append(("lte", db))

    def answer(link):
        def sync(data):
            epoch, ctr, _ = w.server.open(data)
            margin_db = -7 if link is lora else 9
            return [w.server.message(epoch, messages.SYNC, w.time.server_t(), ctr, 0xFFFFFFFF, 0, margin_db)]

        return sync

    lora.answer, lte.answer = answer(lora), answer(lte)
    w.run(70)
    assert margins and set(margins) == {("lora", -7)}
    lora.deaf = True
    w.node.event(2)
    w.run(30)
    assert margins[-1] == ("lte", 9)
    refused = w.node.refused
    for odd in (64, -65, None, "x", True, [1]):
        w.node.session._receive(w.server.message(0, messages.SYNC, w.time.server_t(), 0, 0, 0, odd), lora)
    assert w.node.refused == refused + 6 and margins[-1] == ("lte", 9)
    w.node.session._receive(w.server.message(0, messages.SYNC, w.time.server_t(), 0, 0, 0, 1, 2), lora)
    assert w.node.refused == refused + 7


def test_a_silent_exchange_is_told_to_its_link_and_an_answered_one_is_not():
    w, lora, lte = two()
    told = []
    lora.silent = lambda: told.append(w.time.ms)
    w.run(600)
    assert told == []
    lora.deaf = True
    w.run(300)
    assert len(told) == len([ms for ms, _ in lora.sent if ms > 600000]) > 1


def test_the_policys_memory_survives_deep_sleep():
    w, lora, lte = two(deep_sleep=True, sensors=[])
    w.run(130)
    lora.deaf = True
    w.node.report()
    w.run(300)
    w.node.event(2)
    from sealband import sleep

    before = sleep.tried(w.node.session), sleep._minutes(w.node.outbox.index), w.queue()
    assert before[0][3][0][1] >= 2 and len(before[2]) >= 1
    sleep.suspend(w.node)
    w.start(from_deep_sleep=True)
    assert (sleep.tried(w.node.session), sleep._minutes(w.node.outbox.index), w.queue()) == before
    assert w.node.outbox.age_s(w.queue()[-1], w.node.clock.uptime()) is not None


def test_three_links_are_used_by_their_grade_whatever_their_order():
    def more(time, server):
        lte, wifi = BrokerLink(time, server), BrokerLink(time, server)
        wifi.grade = 0
        return [lte, wifi]

    w = Wearable(more=more, send_every_s=60)
    lte, wifi = w.more
    w.run(600)
    assert len(wifi.sent) > 5 and not lte.sent and not w.link.sent
    wifi.down = True
    w.run(300)
    assert not lte.sent
    w.node.event(2)
    w.run(20)
    # an event takes the next one up, and that one works
    assert kinds(w, w.link.sent) == [messages.EVENT] and not lte.sent
