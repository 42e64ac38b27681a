# ruff: noqa: F821
# mypy: disable-error-code=name-defined
# What a firmware image freezes in beside MicroPython's own modules: the radio's driver of micropython-lib. On a stock
# image the same packages go on the flash: `mpremote mip install lora-sync lora-sx127x`.
include("$(PORT_DIR)/boards/manifest.py")
require("lora")
require("lora-sync")
require("lora-sx127x")
# what couriers' visits stand on (sealband.links.ble), of the same library: aioble, as far as a peripheral needs it
require("aioble-peripheral")
require("aioble-server")
