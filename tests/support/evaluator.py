# Runs on MicroPython: reads one statement or expression a line, answers with one line. See micropython.py.
import sys

_scope = {}
while True:
    _line = sys.stdin.readline()
    if not _line:
        break
    try:
        _text = eval(_line[1:])
        if _line[0] == "x":
            exec(_text, _scope)
            print("=")
        else:
            print("=" + repr(eval(_text, _scope)))
    except Exception as _error:
        print("!" + repr((type(_error).__name__, str(_error))))
