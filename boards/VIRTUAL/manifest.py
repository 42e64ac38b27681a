# ruff: noqa: F821
# mypy: disable-error-code=name-defined
# What a firmware image freezes in beside MicroPython's own modules. The virtual board simulates the radio at the API of
# these packages of micropython-lib, so the list is for firmware that is built for real hardware with the same pins.
include("$(PORT_DIR)/boards/manifest.py")
require("lora")
require("lora-sync")
require("lora-sx126x")
# what couriers' visits stand on (sealband.links.ble), of the same library: aioble, as far as a peripheral needs it
require("aioble-peripheral")
require("aioble-server")
