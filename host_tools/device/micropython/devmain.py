# What `sealband device run --port` has a board run: its own library or the one that came along, and the application
# that lies in /develop, which is removed when the run ends.
import sys


def run(record):
    try:
        import pack  # noqa: F401
    except ImportError:
        pass  # plain files
    # a release's modules are first in the path, and one of them is the release's application
    while "/develop" in sys.path:
        sys.path.remove("/develop")
    sys.path.insert(0, "/develop")
    if record:
        import devtap

        devtap.begin()
    import devrun

    devrun.run()
