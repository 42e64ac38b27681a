# Runs first after every reset, and is never replaced by an update. It must not raise: then main.py would be skipped.
# Choosing the slot of an update will be done here; there are no updates yet.
import gc
import sys

# `''` stands first in sys.path: a file in the root would shadow a frozen module. Ours are found by name, in /lib.
if "" in sys.path:
    sys.path.remove("")
    sys.path.append("")
gc.threshold(8192)
