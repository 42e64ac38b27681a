# ruff: noqa: F821
# mypy: disable-error-code=name-defined
# What a firmware image freezes in beside MicroPython's own modules: nothing, for there is no LoRa radio on this board.
include("$(PORT_DIR)/boards/manifest.py")
