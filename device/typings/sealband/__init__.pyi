"""The device's library. Stubs for editors: they name the interface for applications and nothing else."""

from types import ModuleType

def once(name: str) -> ModuleType:
    """Import a module that is needed on an occasion only; it leaves the heap when the caller lets go of it.

    Args:
        name: dotted, "sealband.sensors.tmp117" for instance.
    """
