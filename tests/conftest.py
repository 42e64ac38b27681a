"""What every test folder shares: device tests run on MicroPython."""

from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.collector import DeviceFile, is_device_test


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    # in place of pytest's own module: a device test must never be imported by CPython
    return DeviceFile.from_parent(parent, path=module_path) if is_device_test(module_path) else None


# a busy machine is no defect of what is tested
settings.register_profile("sealband", deadline=None)
settings.load_profile("sealband")
