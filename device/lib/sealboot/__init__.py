# What boot.py chose, for the code that it starts. Lies outside the slots, and no update replaces it.
index = 255  # the running slot; 255: a developer's board, which runs what lies in the root
sequence = 0  # of the running release
digest = b""  # of its image
trial = False  # it is not confirmed yet
outcome = (0, 0)  # (sequence, code) of a release that was rolled back and not yet reported
watchdog_s = 0  # of the watchdog that boot.py armed, for a trial of either kind: it can't be stopped, and wants feeding
closed = False  # the station has closed this board: no REPL
unlocked = False  # the release's word to boot.py that this start may go on to the REPL all the same
