"""What the cellular bearer takes of the heap: while it attaches, and while the connection is up."""

import subprocess
from pathlib import Path

import pytest

from host_tools.release.bundle import compile_file
from host_tools.sim.interpreter import find_micropython
from tests.support.micropython import ROOT

# "chip bytes": half of what they are on 64 bits
BASE = "sealband.store sealband.chain sealband.node sealband.session sealband.links.lora"
CODE = """
import sys, gc
sys.path[:] = [%(tree)r, ".frozen"]
for name in %(base)r.split():
    __import__(name)
def used():
    gc.collect()
    return gc.mem_alloc() // 2
before = used()
import sealband.links.lte as lte
resident = used() - before
held = [lte._load(lte._ENGINE), lte._load("sealband.links." + %(family)r)]
tools = used() - before
most = 0
for name in (lte._START, lte._SETUP, lte._ATTACH):
    lte._load(name)
    most = max(most, used() - before)
    lte._drop(name)
held = None
lte._drop(lte._ENGINE)
lte._drop("sealband.links." + %(family)r)
print(resident, tools, most, used() - before)
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tree")
    for source in sorted((ROOT / "device" / "lib").rglob("*.py")):
        relative = source.relative_to(ROOT / "device" / "lib")
        name = relative.with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        compile_file(source, (out / relative).with_suffix(".mpy"), name, 3)
    return out


@pytest.mark.parametrize("family", ["sim70xx", "bg9x", "a76xx"])
def test_modem_code_is_small_and_gone_when_the_connection_is_up(tree: Path, family: str) -> None:
    code = CODE % {"tree": str(tree), "base": BASE, "family": family}
    run = [find_micropython(), "-X", "heapsize=1M", "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=True)
    resident, tools, most, after = map(int, done.stdout.split())
    print(f"{family}: lte {resident}, with engine and table {tools}, with the largest step {most}, after it {after}")
    assert resident <= 2000
    assert tools <= 5000
    # a step is loaded for itself alone
    assert most <= 5300
    # what stays are names: MicroPython never forgets one that it has seen
    assert after <= 2300
