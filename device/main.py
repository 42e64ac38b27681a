# board -> app -> node. Without an identity the REPL is left open for the station, and the heap for enrol.py.
import machine

from sealband import store


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
    import app
    import board

    from sealband.chain import Chain
    from sealband.node import Node
    from sealband.outbox import Outbox

    chain = Chain.load(records)
    application = app.build(board)
    watchdog = machine.WDT(timeout=application.watchdog_s * 1000) if application.watchdog_s else None
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


main()
