import sys


# A module for an occasion: loaded, and gone when the caller lets go of it.
def once(name):
    __import__(name)
    package, last = name.rsplit(".", 1)
    delattr(sys.modules[package], last)
    return sys.modules.pop(name)
