# board -> app -> node. Without an identity the REPL is left open for the station, and the heap for enrol.py.
import machine

import sealboot
from sealband import store

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
    if sealboot.index <= 1 and not sealboot.trial:
        work = update_due()
        if work:
            from sealband.update import agent

            agent.run(work, machine, records.load_number(store.CLOCK) or 0)
    run(records)


# The update that this start is for, or None.
def update_due():
    import os

    try:
        os.stat("/update/job")
    except OSError:
        return None
    from sealband.update import job

    work = job.load()
    return work if work and work.phase == job.GO else None


def run(records):
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
