# A start of the application: board -> app -> node, or what wants a start of its own and the whole heap: an unlock, an
# update. Without an identity the REPL is left open for the station, and the heap for enrol.py. On a closed board
# boot.py runs this, and resets whatever comes back.
import sys
import time

import machine
from micropython import const

import sealboot
from sealband import once, store

FOLDER = "/update"
_PAUSE_MS = const(10000)
_BATTERY_VOLTAGE = const(4)  # sealwire.recordids
_FAILING = (0, 1, 3)  # unknown, PWRON_RESET, WDT_RESET: how a reset by the brown-out detector is told


def run():
    if sealboot.unlocked:
        return  # boot.py has let go: to the REPL
    if sealboot.closed and machine.reset_cause() == machine.SOFT_RESET:
        machine.reset()  # Control-D at an unlocked REPL closes the board again
    try:
        main()
    except Exception as error:
        if sealboot.index > 1:
            raise  # a developer's board: whoever develops wants to see it, and the REPL
        sys.print_exception(error)
        if not sealboot.trial:
            time.sleep_ms(_PAUSE_MS)
        # on trial, boot.py counts; else what failed may work next time, and a board on a wrist has nobody to type
        machine.reset()


def main():
    records = store.open_board()
    if records.load(store.RETIRE):
        from sealband import retire

        if retire.resume(records):
            machine.reset()
    identity = records.load(store.IDENTITY)
    if identity is not None and identity[1]:
        # a private key that a power cut left behind during enrolment: finish, and start anew with a clean heap
        from sealband import enrol

        enrol.settle(records)
        machine.reset()
    if records.load(store.CHAIN) is None:
        print("sealband: not enrolled")
        if sealboot.closed:
            time.sleep_ms(_PAUSE_MS)
        return
    if sealboot.closed and wanted(records):
        from sealband import service

        sealboot.unlocked = service.run(records)
        if sealboot.unlocked:
            return
        machine.reset()
    wait_s, on_trial = None, False
    if sealboot.index <= 1:
        try:
            wait_s, on_trial = update(records)
        except Exception as error:
            if sealboot.trial:
                raise
            sys.print_exception(error)  # an update that can't even be looked at must not keep the node from running
    if "work" in globals():
        work(records, wait_s, on_trial)
    else:
        __import__("sealband.start")
        sys.modules["sealband.start"].work(records, wait_s, on_trial)


# Whether somebody asked for an unlock; not twice, and not while a trial is watched, whose starts are counted.
def wanted(records):
    if sealboot.trial or sealboot.watchdog_s or not records.load_number(store.UNLOCK):
        return False
    try:
        records.save_number(store.UNLOCK, 0)
    except store.StoreError:
        return False  # or every start would ask for a token
    return True


# What there is to do about an update comes first, in a start of its own that ends with a reset. Else: in how many
# seconds the node is to start the board anew for one, or None; and whether this code or firmware is on trial.
def update(records):
    import os

    try:
        files = os.listdir(FOLDER)
    except OSError:
        files = ()
    healthy = "healthy" in files
    if sealboot.trial and not healthy:
        return None, True
    if "trial" in files and not healthy and sealboot.watchdog_s:
        # a firmware: on trial if it is the one that runs
        from esp32 import Partition

        what = read("trial")
        label = what[1] if type(what) is list and len(what) == 3 else None
        if label and label == Partition(Partition.RUNNING).info()[4]:
            return None, True
    if records.rtc_has("node"):
        return None, False  # a wake from deep sleep: the node goes on, and restarts for an update when it is time
    if "wait" in files and "order" not in files and not sealboot.trial and not healthy:
        wait_s = read("wait")
        os.remove(FOLDER + "/wait")
        if type(wait_s) is int:
            return min(max(wait_s, 0), 86400), False
    if sealboot.trial or healthy or sealboot.outcome[0] or "order" in files or "job" in files:
        # The updater needs the heap that these take. If it comes back, they are loaded anew.
        for name in ("run", "wanted", "work"):
            globals().pop(name, None)
        sys.modules.pop("sealband.start", None)
        from sealband.update import duty

        duty.run(machine)
    return None, False


# What a file holds, None if it can't be read.
def read(name):
    from sealband.crypto import cbor

    try:
        with open(FOLDER + "/" + name, "rb") as file:
            return cbor.decode(file.read())
    except (OSError, cbor.CborError):
        return None


def work(records, wait_s, on_trial):
    # the node needs the heap that these take
    for name in ("run", "wanted", "update", "read"):
        globals().pop(name, None)
    import app
    import board

    low = None
    # a reset that a failing cell may have caused: cell.py
    if records.load_number(store.CELL) or machine.reset_cause() in _FAILING:
        low = once("sealband.cell").begin(records, board)
    from sealband.chain import Chain
    from sealband.node import Node
    from sealband.outbox import Outbox

    chain = Chain.load(records)
    application = app.build(board)
    # a watchdog that boot.py has armed can't be stopped: it wants to be fed
    watchdog_s = application.watchdog_s or sealboot.watchdog_s
    watchdog = machine.WDT(timeout=watchdog_s * 1000) if watchdog_s else None
    node = Node(
        application,
        records,
        chain,
        Outbox(records),
        watchdog=watchdog,
        reset_cause=machine.reset_cause(),
        reset=machine.reset,
        restart_s=wait_s,
        on_trial=on_trial,
        board=board,
    )
    if low is not None and node.sampler.may(_BATTERY_VOLTAGE):
        node.low = low  # until a reading says otherwise, which there has to be
    if sealboot.closed:
        from sealband import ear

        node.ear = ear.ear(node, records)
    if records.load(store.RETIRE):
        from sealband import retire

        node.retiring = retire.Retiring(node)
    # of each of these there is one, and it is made: what only made it goes
    for one in (Node, Outbox, type(node.sampler), type(node.clock)):
        del one.__init__
    del Chain.create, Chain.load, Chain._unpack, Chain._resume
    print("sealband: running as", chain.eui.hex())
    if application.deep_sleep:
        node.run_deep_sleep(machine)
    elif application.listeners:
        import asyncio

        asyncio.run(node.run())
    else:
        node.run_forever()
