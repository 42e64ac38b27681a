# A sensor whose driver is in the heap only while it measures. Knows no part: the driver's module does.
#
#     module.sensor(board, kept=None, **options)   the driver; SensorError: this board has no such part
#     driver.kept                                  a small value, handed to the driver that comes after it
import gc

from sealband import once
from sealband.sensors.base import SensorError


class Part:
    alone = True

    def __init__(self, *how):
        self._how = how  # name, board, options
        self.kept = None
        self.settings = None
        self.wanted = None  # the records that may be measured, None: all
        self._driver = None
        driver = self._load()
        driver.stop()  # which a reset in the midst of a measurement left on
        self.records = driver.records
        self.read_ms = driver.read_ms

    def _load(self):
        name, board, options = self._how
        return once("%s.%s" % ("sealband.sensors", name)).sensor(board, self.kept, **options)

    def start(self):
        gc.collect()
        self._driver = driver = self._load()
        if hasattr(driver, "settings"):
            driver.settings = self.settings
        if hasattr(driver, "wanted"):
            driver.wanted = self.wanted
        driver.start()

    def measure(self):
        return self._driver.measure()

    def stop(self):
        driver = self._driver
        self._driver = None
        if driver:
            driver.stop()
            self.kept = getattr(driver, "kept", None)


# The sensor of sealband.sensors.<name>, None on a board that has no such part.
def part(name, board, **options):
    try:
        return Part(name, board, options)
    except SensorError:
        pass
