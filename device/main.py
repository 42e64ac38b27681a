# board -> app -> node. Without an identity the REPL is left open for the station.
import board
import machine

from sealband import store
from sealband.chain import Chain
from sealband.errors import NotEnrolled


def main():
    records = store.open_board()
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
