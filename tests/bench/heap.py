"""The smallest heap in which the whole application gets through a cycle, compiled as a board has it."""

from tests.bench.figure import Figure
from tests.support.whole_cycle import CycleFailed, chip_share, run

LIMIT_WK = 67  # 64 are the goal
SEARCH_WK = 92
WK = 2048  # bytes of a 64-bit interpreter's heap that stand for one KiB on the chip


def smallest_wk(*, mqtt: bool = False) -> int:
    """Kilowords of heap below which the application, the simulated chip beside it, fails."""
    heap = SEARCH_WK
    run(f"{heap}wK", mqtt=mqtt)
    while heap > 1:
        try:
            run(f"{heap - 1}wK", mqtt=mqtt)
        except CycleFailed:
            break
        heap -= 1
    return heap


def figures() -> list[Figure]:
    """The heap that a whole cycle needs: sample, seal, queue, LoRa, receive, open sync."""
    whole, share = smallest_wk(), chip_share()
    note = f"{whole}wK in all, less {share} bytes of simulated chip, which on a board takes no heap"
    both = smallest_wk(mqtt=True) - share // WK
    return [
        Figure("heap for a whole cycle, -X heapsize=", whole - share // WK, LIMIT_WK, unit="wK", note=note),
        Figure("the same with MQTT over TLS loaded beside LoRa", both, unit="wK", note="TLS buffers apart"),
    ]
