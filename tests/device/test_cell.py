# A cell that falls, is charged, or fails: what the node still does, that it is told once, and that nothing is lost. In
# virtual time on fake flash; what the board measures is written here.
import sys

from device.fakes import DONE, FakeRtc, sweep
from device.wearable import CountingSensor, ServerLink, Time, Wearable

from sealband.app import Every
from sealband.outbox import EVENT
from sealband.store import CELL, Store
from sealwire import messages

TIMEOUT_S = 240
LOW, EMPTY = 3500, 3300


# what deepsleep() does on the chip: it does not come back
class Slept(BaseException):
    pass


class Machine:
    slept = []

    def deepsleep(ms):
        Machine.slept.append(ms)
        raise Slept


sys.modules["machine"] = Machine


class Adc:
    mv = 4000
    broken = False

    def read_uv(self):
        if self.broken:
            raise OSError(5)
        return self.mv * 500


class Board:
    CHIP = "esp32"
    BATTERY = {"adc": 35, "divider": 2.0, "full_mv": 4200, "low_mv": LOW, "empty_mv": EMPTY}
    POWER = (69, 41961, 94436, 77647, 80000, 49000, 1165, 157, 142, 4827)
    adc = None

    def battery_adc(self):
        return self.adc


# the sensor that measures the cell: it says what the board's converter does
class Cell(CountingSensor):
    def __init__(self, adc, time):
        super().__init__(4, 0, (0,), 0, time)
        self._adc = adc

    def measure(self):
        self.log.append((self._time.server_t(), self._adc.mv))
        yield 1
        return (self._adc.mv,)


class Place(CountingSensor):
    def __init__(self, time):
        super().__init__(7, 100, (1,), 30000, time)
        self.records = (7, 8)

    def measure(self):
        yield from super().measure()
        return (self._value, self._value)


class Banded(Wearable):
    def __init__(self, **settings):
        self.adc = Adc()
        self.board = Board()
        self.board.adc = self.adc
        Machine.slept = []
        super().__init__(**settings)

    def app(self):
        self.heart = CountingSensor(1, 72, (1, -2), 0, self.time)
        self.place = Place(self.time)
        self.sensors = [Every(60, self.heart), Every(600, Cell(self.adc, self.time)), Every(300, self.place)]
        self.node_settings = {"board": self.board}
        return super().app()

    def events(self):
        return [values for t, event, *values in self._messages(messages.EVENT) if event == 3]

    def _messages(self, kind):
        return [items[1:] for items in self.server.messages() if items[0] == kind]

    def told(self):
        return self.store.load_number(CELL) or 0

    # how often the heart was asked an hour
    def rate(self, hours=4):
        self.run(2600)  # the battery's next reading decides, and the grid of a longer period begins
        before = self.heart.reads
        self.run(hours * 3600)
        return (self.heart.reads - before) // hours

    # a start that may be one of a failing cell, as start.py has it: what the cell allows, None: it sleeps on
    def begin(self, from_deep_sleep=False):
        from sealband import once

        kept = self.world.rtc.memory()
        store = Store(self.world.nvs, self.world.rtc, from_deep_sleep)
        try:
            low = once("sealband.cell").begin(store, self.board)
        except Slept:
            return None
        self.world.rtc.memory(kept)  # on the chip it is the same store that goes on
        self.start(from_deep_sleep)
        self.node.low = low
        return low


def test_a_low_cell_is_told_once_and_the_board_does_less_until_it_is_charged():
    w = Banded()
    assert w.rate() == 60 and w.place.reads
    w.adc.mv = 3499
    assert w.rate() == 15
    places = w.place.reads
    assert w.rate() == 15 and w.place.reads == places
    assert w.events() == [[3499]]
    # charged a little: it counts as low until there is a distance
    w.adc.mv = 3599
    assert w.rate() == 15
    w.adc.mv = 3601
    assert w.rate() == 60 and w.place.reads > places
    w.adc.mv = 3490
    assert w.rate() == 15 and w.events() == [[3499], [3490]]


def test_a_cell_that_wavers_about_the_limit_does_not_flap():
    w = Banded()
    for turn in range(40):
        w.adc.mv = 3490 if turn % 2 else 3580
        w.run(650)
    assert w.events() == [[3490]]
    assert w.node.low == 1 and w.told() == 1


def test_with_a_low_cell_it_is_sent_four_times_as_rarely_and_an_event_goes_at_once():
    w = Banded(send_every_s=600)
    w.run(7200)
    before = len(w.link.sent)
    w.run(4 * 3600)
    normal = len(w.link.sent) - before
    w.adc.mv = 3400
    w.run(7200)
    before = len(w.link.sent)
    w.run(4 * 3600)
    assert 0 < (len(w.link.sent) - before) * 3 < normal
    w.node.event(2)
    w.run(30)
    assert [items[2] for items in w.server.messages() if items[0] == messages.EVENT][-1] == 2


def test_lte_is_for_events_only_while_the_cell_is_low():
    w = Banded()
    w.link.name = "lte"
    w.run(1300)
    w.adc.mv = 3400
    w.run(7200)
    sent = len(w.link.sent)
    w.run(4 * 3600)
    assert len(w.link.sent) == sent and w.queue()
    w.node.event(2)
    w.run(60)
    assert len(w.link.sent) > sent
    assert all(key[0] for key in w.queue())


def test_an_empty_cell_seals_and_saves_everything_and_sleeps():
    w = Banded()
    w.run(3700)
    w.link.deaf = True
    w.run(1500)
    assert len(w.node.batch)
    w.adc.mv = 3290
    try:
        w.run(1300)
        assert False, "it goes on"
    except Slept:
        pass
    assert Machine.slept == [3600000] and w.told() == 2
    assert not len(w.node.batch) and not w.heart.running and not w.place.running
    queue = w.queue()
    assert EVENT in [key[0] for key in queue]
    # it looks every hour, with all that it kept, and goes on where it was when there is charge again
    for mv in (3290, 3350, 3399):
        w.time.ms += 3600000
        w.adc.mv = mv
        assert w.begin(from_deep_sleep=True) is None
    assert Machine.slept == [3600000] * 4
    w.time.ms += 3600000
    w.adc.mv = 3450
    w.link.deaf = False
    assert w.begin(from_deep_sleep=True) == 1
    assert w.node.resumed and w.node.clock.valid and w.queue() == queue
    assert w.told() == 1
    w.run(3700)
    assert w.events() == [[3290]] and not w.server.copies


def test_an_empty_cell_that_lost_power_starts_when_there_is_charge_and_tells_once():
    w = Banded()
    w.run(3700)
    w.link.deaf = True
    w.adc.mv = 3200
    try:
        w.run(1300)
    except Slept:
        pass
    queue = w.queue()
    w.world.rtc = FakeRtc()
    assert w.begin() is None  # also after a power-on: empty is empty
    w.adc.mv = 4000
    w.world.rtc = FakeRtc()
    assert w.begin() == 0 and not w.node.resumed and w.queue()[: len(queue)] == queue
    w.link.deaf = False
    w.run(4000)
    assert w.events() == [[3200]] and w.told() == 0


def test_a_reset_by_brown_out_works_as_with_a_low_cell_until_the_cell_is_measured_good():
    w = Banded()
    w.run(3700)
    w.adc.mv = 3560  # under load it was less; MicroPython says "power-on"
    w.world.rtc = FakeRtc()
    assert w.begin() == 1
    assert w.rate() == 15
    assert not w.events()
    w.adc.mv = 3700
    assert w.rate() == 60
    # and falls in earnest: told, although it counted as low before
    w.adc.mv = 3560
    w.world.rtc = FakeRtc()
    assert w.begin() == 1
    w.adc.mv = 3450
    w.run(3700)
    assert w.events() == [[3450]]
    w.world.rtc = FakeRtc()
    assert w.begin() == 1
    w.run(3700)
    assert w.events() == [[3450]]


def test_a_cell_that_brown_outs_into_a_loop_is_left_alone_without_a_start_of_the_application():
    w = Banded()
    w.run(3700)
    w.adc.mv = 3150
    for _ in range(3):
        w.world.rtc = FakeRtc()
        assert w.begin() is None
    assert w.told() == 3  # empty, and nobody was told
    w.adc.mv = 3420
    assert w.begin(from_deep_sleep=True) == 1
    w.run(3700)
    assert w.events() == [[3420]]


def test_a_board_that_cannot_measure_its_cell_works():
    w = Banded()
    w.adc.broken = True
    assert w.begin() == 0
    w.store.save_number(CELL, 2)
    assert w.begin() == 1  # it was empty when it could still be measured
    w.board.BATTERY = None
    w.store.save_number(CELL, 0)
    assert w.begin() == 0


def test_without_consent_to_the_voltage_no_board_counts_as_low_for_ever():
    from sealband import once

    w = Banded()
    w.adc.mv = 3450
    assert w.rate() == 15
    once("sealband.consent").change(w.node, [1, 7, 8])
    places = w.place.reads
    w.adc.mv = 4100  # charged, and nobody may look
    assert w.rate() == 60 and w.place.reads > places


def test_a_single_reading_while_the_radio_pulls_it_down_does_not_end_the_work():
    from sealband import once

    w = Banded()
    w.run(3700)
    w.node.sampler.held = True
    once("sealband.cell").judge(w.node, 3290)
    assert w.node.low == 0 and not Machine.slept and not w.told()


def test_flash_that_refuses_keeps_no_cell_from_being_judged():
    w = Banded()
    w.run(3700)
    w.world.nvs.space = 0
    w.adc.mv = 3400
    w.run(2600)
    assert w.node.low == 1


# The same board after its power came back: what it has in flash, the server that heard it, a link that is deaf.
class Cut(Banded):
    def __init__(self, world, first, mv):
        self.adc = Adc()
        self.adc.mv = mv
        self.board = Board()
        self.board.adc = self.adc
        self.time = Time()
        self.time.ms = first.time.ms
        self.battery = self.skin = None
        self.world, self.server, self.more, self.settings = world, first.server, [], {}
        self.link = ServerLink(self.time, first.server)
        self.link.deaf = True
        world.mount()
        self.start(world.rtc.memory() != b"")


def test_a_power_cut_while_an_empty_cell_is_saved_loses_nothing_sealed_and_the_event_is_told():
    first = Banded()
    first.run(1300)
    first.link.deaf = True
    first.run(700)
    from sealband import sleep

    sleep.suspend(first.node)
    stored = first.server.stored

    def run(world):
        w = Cut(world, first, 3290)
        assert w.node.resumed and len(w.node.batch)
        for key in w.queue():
            world.send(("queued", key[1:]))
        try:
            w.run(700)
        except Slept:
            for key in w.queue():
                world.send(("queued", key[1:]))

    def check(world):
        w = Cut(world, first, 4000)
        queued = [key[1:] for key in w.queue()]
        for _, key in world.air:
            assert key in queued, key
        # with the same cell it is judged again, unless that was told already
        w.adc.mv = 3290
        try:
            w.run(1300)
        except Slept:
            pass
        first.server.stored = dict(stored)
        for key in w.queue():
            w.server.open(bytes(w.node.outbox.read(key)))
        told = len(w.events())
        first.server.stored = stored
        assert 1 <= told <= 2, told

    assert sweep(first.world, run, check, (DONE,)) > 20
