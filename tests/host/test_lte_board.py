"""The cellular bearer on a virtual board as it is shipped: compiled, over `machine.UART` and `network.PPP`, a simulated
modem at the other end that is off at first, and a server behind it.
"""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import boards
from host_tools.release.bundle import compile_tree
from host_tools.sim.board import VirtualBoard
from host_tools.sim.clock import SimClock
from host_tools.sim.modem import SimModem
from tests.support.micropython import ROOT

SPEED = 10
APP = "from sealband.links.lte import LteBearer\n"
MAIN = """
import sys
sys.path.insert(0, "/lib")
import gc, socket, time
import board
class Provision:
    cellular = %(cellular)r
    @staticmethod
    def load():
        return Provision
from sealband.links.base import LinkError
from sealband.links.lte import LteBearer
bearer = LteBearer(board, %(options)s)
def drive(what, steps):
    began = time.ticks_ms()
    longest = 0
    # the step before has let go of it
    sys.modules["sealband.provision"] = Provision
    try:
        while True:
            before = time.ticks_ms()
            pause = next(steps)
            longest = max(longest, time.ticks_diff(time.ticks_ms(), before))
            time.sleep_ms(pause)
    except StopIteration:
        print(what, "done", bearer.ready())
    except LinkError as error:
        print(what, "refused", error.args[0])
    left = [name for name in sys.modules if name.startswith("sealband.links.")]
    print("took", time.ticks_diff(time.ticks_ms(), began), sorted(left))
def fetch():
    made = socket.socket()
    made.settimeout(20)
    made.connect(("10.64.64.1", %(port)d))
    made.send(b"over the air")
    print("heard", made.recv(100))
    made.close()
%(then)s
print("the end")
"""


@pytest.fixture
def server() -> Iterator[int]:
    """The port of a server that turns a message round."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(30)

        def serve() -> None:
            try:
                while True:
                    peer, _ = listening.accept()
                    with peer:
                        peer.sendall(peer.recv(100)[::-1])
            except OSError:
                pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]


def run(tmp_path: Path, port: int, then: str, *, options: str = "", user: str = "", **conditions: Any) -> list[str]:
    (tmp_path / "app.py").write_text(APP)
    tree = tmp_path / "tree"
    compile_tree(ROOT / "device", tree, boards.load("VIRTUAL"), app=tmp_path / "app.py")
    (tree / "boot.py").unlink()
    cellular = ["iot.1nce.net", "4321", user, "secret" if user else ""]
    (tree / "main.py").write_text(MAIN % {"cellular": cellular, "options": options, "port": port, "then": then})
    clock = SimClock.start(SPEED)
    with SimModem(clock=clock, on=False, attach_delay_s=1.0, **conditions) as modem:
        board = VirtualBoard(tmp_path / "board", name="a", mac=bytes(6), clock=clock, modem=modem.port)
        board.install(tree)
        with board:
            board.wait_for("the end", 60)
        assert modem.power in ("off", "leaving", "on", "asleep")
        return list(board.log)


def test_board_reaches_a_server_through_its_modem_and_switches_it_off(tmp_path: Path, server: int) -> None:
    then = 'drive("up", bearer.up())\nfetch()\nprint("time", bearer.time(), bearer.signal_dbm)\n'
    then += 'drive("down", bearer.down())\ndrive("again", bearer.up())\nfetch()\ndrive("down", bearer.down())'
    log = run(tmp_path, server, then, pin="4321", user="me", key="secret")
    assert [line for line in log if line.startswith(("up", "heard", "again", "down"))] == [
        "up done True",
        f"heard {b'over the air'[::-1]!r}",
        "down done False",
        "again done True",
        f"heard {b'over the air'[::-1]!r}",
        "down done False",
    ]
    # nothing of the way there is loaded
    left = [line for line in log if line.startswith("took")]
    assert len(left) == 4 and all(line.endswith("['sealband.links.base', 'sealband.links.lte']") for line in left)
    assert any(line.startswith("time 5") for line in log)


def test_board_notices_a_lost_carrier_and_comes_back(tmp_path: Path, server: int) -> None:
    then = 'drive("up", bearer.up())\nfetch()\n'
    then += "while bearer.ready():\n    time.sleep_ms(200)\n"
    then += 'print("lost")\ndrive("again", bearer.up())\nfetch()\ndrive("down", bearer.down())'
    log = run(tmp_path, server, then, pin="4321", drop_after_s=12.0)
    assert [line.split()[0] for line in log if line.startswith(("up", "heard", "lost", "again", "down"))] == [
        "up",
        "heard",
        "lost",
        "again",
        "heard",
        "down",
    ]
    assert "again done True" in log


def test_board_gives_up_on_a_wrong_pin_for_good(tmp_path: Path, server: int) -> None:
    then = 'drive("up", bearer.up())\ndrive("again", bearer.up())\ndrive("again", bearer.up())'
    log = run(tmp_path, server, then, pin="1111")
    assert "up refused AT+CPIN: +CME ERROR: 16" in log
    assert log.count("again refused the PIN was refused before, and is not tried again") == 2
