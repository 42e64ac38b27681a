# Every line of every transcript cut, doubled, reordered, replaced, left out or flooded: each run ends within the sum of
# its time limits, with IP or a LinkError, and leaves neither memory nor commands behind that it should not.
import gc
import sys

import fakemodem
from fakemodem import Board, Clock, FakeModem, Network, Ppp, Provision, Store, run
from modem_corpus import CORPUS, steps

from sealband.links.base import LinkError

fakemodem.install()

from sealband.links import attach, lte, modem, modemsetup, modemstart  # noqa: E402
from sealband.links.lte import LteBearer  # noqa: E402

TIMEOUT_S = 110
HEAP = "1500wK"  # the corpus and its mutations; what a run may leave of it is below

# they would be compiled anew for each of the runs
lte._drop = lambda name: None

# a registration of 8 s in place of 180, so that a run is short; each of these is a sum of limits in the code
WAIT_S = 8
WAKE_MS = 2 * 300 + 2200 + 5600 + 2 * (1000 + 15300 + 1000) + 300 + 2200 + 5600 + 2 * 600 + 5000 + 600
SIM_MS = 2 * 5000 + 11 * 6000 + 5000 + 15000
SETTINGS_MS = 5000 + 5 * 15000 + 2 * 10000 + 2 * 5000
NETWORK_MS = WAIT_S * 1000 + 2 * 5000 + 2000 + 2 * 5000
OFF_MS = 3000 + 600 + 2200 + 600 + 5000 + 10000 + 1000 + 3000
LIMIT_MS = WAKE_MS + SIM_MS + SETTINGS_MS + NETWORK_MS + 60000 + 30000 + OFF_MS

# what a line becomes: other answers of the corpus, and what no modem says
REPLACEMENTS = (
    "OK",
    "ERROR",
    "+CME ERROR: 16",
    "+CPIN: SIM PIN",
    "+CPIN: READY",
    "+CEREG: 0,1",
    "NO CARRIER",
    "CONNECT 115200",
    "NORMAL POWER DOWN",
    "x" * 300,
    "\x00\xff\x80\x1b[2J",
    '+CGDCONT: 1,"IP","evil"\rAT+CPOF\r',
    '+QLTS: "9999/99/99,99:99:99+99,9"',
    "",
)

# what the device may say, whatever it hears; anything else would have come from the modem
MAY_SAY = (
    "AT", "+++AT", "ATH", "ATE0", "AT+CMEE=1", "AT+CPIN?", 'AT+CPIN="4321"', "AT+SPIC", 'AT+QPINC="SC"', "AT+CLTS=1",
    "AT+CTZU=1", "AT+CNMP?", "AT+CMNB?", "AT+CNMP=38", "AT+CMNB=1", "AT+CGDCONT?", 'AT+CGDCONT=1,"IP","iot.1nce.net"',
    "AT+CFUN=4", "AT+CFUN=1", "AT+CEREG?", "AT+CGREG?", "AT+CSQ", "AT+CCLK?", "AT+QLTS=1", "ATD*99#", "AT+CPOWD=1",
    "AT+QPOWD=1", "AT+CPOF", "AT+IPR=115200;&W", 'AT+QCFG="nwscanmode"', 'AT+QCFG="iotopmode"', 'AT+QCFG="band"',
    'AT+QCFG="nwscanmode",3,1', 'AT+QCFG="nwscanmode",0,1', 'AT+QCFG="iotopmode",1,1', 'AT+QCFG="iotopmode",2,1',
    'AT+QCFG="band",0,80080,80080,1', 'AT+CPSMS=1,,,"00000110","00000101"', 'AT+CEDRXS=1,5,"0101"',
)  # fmt: skip


# one run: whether it came up
def played(family, options, made, store):
    clock = Clock()
    fake = FakeModem(clock, made)
    bearer = LteBearer(Board(fake, family), store=store, ticks_ms=clock.ticks_ms, wait_s=WAIT_S, **options)
    try:
        run(clock, bearer.up(), LIMIT_MS)
        up = True
    except LinkError:
        up = False
    assert up == bearer.ready()
    return up, fake, bearer, clock


def check(what, family, options, made):
    store = Store()
    try:
        up, fake, bearer, clock = played(family, options, made, store)
        pins = fake.commands.count('AT+CPIN="4321"')
        assert pins <= 1
        for command in fake.commands:
            assert command in MAY_SAY, command
        if bearer._uart:
            run(clock, bearer.down(), OFF_MS + 4000)
        assert not bearer.ready()
        if pins and not up:
            # the same again, as the node would: whatever was said, it is not tried until the SIM is locked
            for _ in range(3):
                pins += played(family, options, made, store)[1].commands.count('AT+CPIN="4321"')
            assert pins <= 2 or store.held & 3 == 0, pins
    except Exception as error:
        print(what)
        raise error


# (what was done, steps) for each mutation of a transcript
def mutations(made):
    for at in range(len(made)):
        command, lines = made[at]
        for index in range(len(lines)):
            line = lines[index]
            if isinstance(line, int):
                continue

            def with_(*others):
                return made[:at] + [(command, lines[:index] + list(others) + lines[index + 1 :])] + made[at + 1 :]

            for cut in (1, len(line) // 2, len(line) - 1):
                if 0 < cut < len(line):
                    yield "cut", with_(line[:cut])
            yield "doubled", with_(line, line)
            yield "left out", with_()
            yield "late", with_(7000, line)
            if index + 1 < len(lines):
                swapped = lines[:index] + [lines[index + 1], line] + lines[index + 2 :]
                yield "reordered", made[:at] + [(command, swapped)] + made[at + 1 :]
            elif at + 1 < len(made):
                # it comes with the next command's answer
                later = [(command, lines[:-1]), (made[at + 1][0], [line] + made[at + 1][1])]
                yield "reordered", made[:at] + later + made[at + 2 :]
            for other in REPLACEMENTS:
                yield "replaced", with_(other)


def sweep(names):
    Network.PPP = Ppp
    Ppp.comes = True
    Provision.cellular = ["iot.1nce.net", "4321", "", ""]
    count = {}
    gc.collect()
    before = gc.mem_alloc()
    most = 0
    for name in names:
        family, _, options, text = CORPUS[name]
        for what, made in mutations(steps(text)):
            check((name, what, made), family, options, made)
            count[what] = count.get(what, 0) + 1
        made = None
        gc.collect()
        most = max(most, gc.mem_alloc() - before)
    print("%d runs: %s; %d bytes left behind" % (sum(count.values()), count, most))
    # the table of counts, and names that were interned
    assert most < 8192
    return count


NAMES = sorted(CORPUS)


def test_sim7000_and_sim7080():
    count = sweep([name for name in NAMES if name.startswith("SIM")])
    assert count["cut"] > 100 and count["replaced"] > 500


def test_bg95_and_bg96():
    count = sweep([name for name in NAMES if name.startswith("BG")])
    assert count["cut"] > 100 and count["replaced"] > 500


def test_a7670():
    count = sweep([name for name in NAMES if name.startswith("A76")])
    assert count["cut"] > 50 and count["replaced"] > 300


def test_answer_that_never_ends_stops_no_other_than_its_own_command():
    Network.PPP = Ppp
    Provision.cellular = ["iot.1nce.net", "4321", "", ""]
    for name in NAMES:
        family, _, options, text = CORPUS[name]
        made = steps(text)
        for at in range(0, len(made), 3):
            clock = Clock()
            fake = FakeModem(clock, made)
            told = fake.told

            def heard(command, fake=fake, told=told, after=made[at][0]):
                told(command)
                if command == after:
                    fake.flood = b"+CEREG: 0,\xff\r\nOK"

            fake.told = heard
            bearer = LteBearer(Board(fake, family), store=Store(), ticks_ms=clock.ticks_ms, wait_s=WAIT_S, **options)
            try:
                run(clock, bearer.up(), LIMIT_MS)
            except LinkError:
                pass


def test_modules_that_the_sweep_keeps_are_the_shipped_ones():
    for module in (attach, modem, modemsetup, modemstart):
        assert sys.modules[module.__name__] is module
