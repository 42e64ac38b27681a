# Runs a developer's tests, one after the other, each with empty buses; says how each began and ended.
import gc
import sys


def run(module, names, mark):
    import time

    import sealtest

    clock = sealtest.Clock(time)
    sys.modules["time"] = clock
    sys.modules.pop("machine", None)
    import machine  # noqa: F401  the one beside this file

    print("\n%s load %s" % (mark, module))
    try:
        tests = __import__(module)
    except BaseException as error:
        sys.print_exception(error, sys.stdout)
        print("\n%s bad %s" % (mark, module))
        return
    for name in names:
        sealtest.reset()
        gc.collect()
        print("\n%s run %s" % (mark, name))
        try:
            getattr(tests, name)()
            said = "ok"
        except BaseException as error:
            sys.print_exception(error, sys.stdout)
            said = "fail"
        print("\n%s %s %s" % (mark, said, name))
