# The board definition that a plain MicroPython claims to be.
MODEL = "virtual-wearable"
