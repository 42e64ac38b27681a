# Runs on MicroPython: the test functions of one file, one result line each. See collector.py.
# argv: file, then the names to run. Output: "@@ ok|fail NAME seconds" after whatever the test printed.
import sys
import time

# What a session loads each time is compiled from source here: once is enough.
HELD = (
    "sealband.exchange",
    "sealband.links.policy",
    "sealband.links.onair",
    "sealband.commands",
    "sealband.packing",
    "sealband.report",
    "sealband.seal",
    "sealband.crypto.ccm",
    "sealwire.frame",
    "sealwire.radio",
)
held = {}


def once(name):
    if name not in HELD:
        return load(name)
    if name not in held:
        held[name] = load(name)
    return held[name]


try:
    import sealband

    load = sealband.once
    sealband.once = once
except ImportError:
    pass  # a test of something else

path = sys.argv[1]
names = sys.argv[2:]
module = {"__name__": "__device_test__", "__file__": path}
with open(path) as source:
    code = compile(source.read(), path, "exec")
exec(code, module)
for name in names:
    begun = time.ticks_ms()
    try:
        module[name]()
        result = "ok"
    except Exception as error:
        sys.print_exception(error, sys.stdout)
        result = "fail"
    print("\n@@ %s %s %d" % (result, name, time.ticks_diff(time.ticks_ms(), begun)))
