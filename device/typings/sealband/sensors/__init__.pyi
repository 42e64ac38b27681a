"""Drivers, a file each. `part("tmp117", board)` loads one while it measures and takes no heap between."""
