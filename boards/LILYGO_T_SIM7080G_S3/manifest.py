# ruff: noqa: F821
# mypy: disable-error-code=name-defined
# What a firmware image freezes in beside MicroPython's own modules; there is no LoRa radio on this board.
include("$(PORT_DIR)/boards/manifest.py")
# what couriers' visits stand on (sealband.links.ble), of the same library: aioble, as far as a peripheral needs it
require("aioble-peripheral")
require("aioble-server")
