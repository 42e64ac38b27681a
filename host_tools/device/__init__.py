"""What a firmware engineer uses every day: run an application, test it, record its sensors, look at the machine.

Nothing here is part of a release: what is put onto a board for a run or a test lies in `micropython/`, and goes with
the next release or installation.
"""
