# board -> app -> node. Without an identity the REPL is left open for the station, and the heap for enrol.py.
import machine

import sealboot
from sealband import store

FOLDER = "/update"
_PAUSE_MS = 10000


def main():
    records = store.open_board()
    identity = records.load(store.IDENTITY)
    if identity is not None and identity[1]:
        # a private key that a power cut left behind during enrolment: finish, and start anew with a clean heap
        from sealband import enrol

        enrol.settle(records)
        machine.reset()
    if records.load(store.CHAIN) is None:
        print("sealband: not enrolled")
        return
    wait_s, on_trial = None, False
    if sealboot.index <= 1:
        try:
            wait_s, on_trial = update(records)
        except Exception as error:
            if sealboot.trial:
                raise
            import sys

            sys.print_exception(error)  # an update that can't even be looked at must not keep the node from running
    run(records, wait_s, on_trial)


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


def run(records, wait_s, on_trial):
    import app
    import board

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
    )
    print("sealband: running as", chain.eui.hex())
    if application.deep_sleep:
        node.run_deep_sleep(machine)
    else:
        node.run_forever()


try:
    main()
except Exception as error:
    if sealboot.index > 1:
        raise  # a developer's board: whoever develops wants to see it, and the REPL
    import sys
    import time

    sys.print_exception(error)
    if not sealboot.trial:
        time.sleep_ms(_PAUSE_MS)
    # on trial, boot.py counts; else what failed may work next time, and a board on a wrist has nobody to type
    machine.reset()
