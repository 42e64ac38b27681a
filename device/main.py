# board -> app -> node. Without an identity the REPL is left open for the station.
import board
import machine

from sealband import store
from sealband.chain import Chain
from sealband.errors import NotEnrolled


# A private key that a power cut left behind during enrolment: finish, and start anew without enrol.py on the heap.
def settle(records):
    identity = records.load(store.IDENTITY)
    if identity is not None and identity[1]:
        from sealband import enrol

        enrol.settle(records)
        machine.reset()


def main():
    records = store.open_board()
    settle(records)
    try:
        chain = Chain.load(records)
    except NotEnrolled:
        print("sealband: not enrolled")
        return
    import app

    from sealband.node import Node
    from sealband.outbox import Outbox

    application = app.build(board)
    watchdog = machine.WDT(timeout=application.watchdog_s * 1000) if application.watchdog_s else None
    node = Node(application, records, chain, Outbox(records), watchdog=watchdog, reset_cause=machine.reset_cause())
    print("sealband: running as", chain.eui.hex())
    if application.deep_sleep:
        node.run_deep_sleep(machine)
    else:
        node.run_forever()


main()
