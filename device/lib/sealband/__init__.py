import gc
import sys


# A module for an occasion: loaded, and gone when the caller lets go of it.
def once(name):
    gc.collect()  # what the one before left lies in between else, and this one finds no room
    __import__(name)
    package, last = name.rsplit(".", 1)
    delattr(sys.modules[package], last)
    return sys.modules.pop(name)
