"""The driver on recordings that stay in their packages, whose licence is not this project's: one has the ECG beside it.

    pip download --no-deps --no-binary :all: systole==0.3.1 pyphysio==4.10.0
    python -m tests.bench.agreement_elsewhere systole-0.3.1.tar.gz pyphysio-4.10.0.tar.gz

Not part of `make bench`, which takes nothing from a registry. Figures have no limits: they are for reading.
"""

import bz2
import io
import math
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy

from host_tools.sim.wearer import Recording, Wearer
from tests.bench.agreement import Agreement, Pair, played, pulse_pair, span
from tests.support.heart_driver import RMSSD_S, WINDOW_S, HeartDriver, Reading
from tests.support.heart_reference import rmssd

PULSE_LATE_S = 0.25  # from the heart's beat to the fullest vessels, about
Judge = Callable[[Wearer, Reading], Pair]


def member(sdist: Path, name: str) -> bytes:
    """A file of an sdist, by how its path ends."""
    with tarfile.open(sdist) as archive:
        found = archive.extractfile(next(entry for entry in archive if entry.name.endswith(name)))
        assert found
        return found.read()


def systole(sdist: Path) -> tuple[Recording, Judge, Judge]:
    """Five and a half minutes of an oximeter, 75 Hz (N. Legrand, GPL-3.0), against heartpy."""
    samples = numpy.load(io.BytesIO(member(sdist, "datasets/ppg.npy")), allow_pickle=True)

    def variability(wearer: Wearer, reading: Reading) -> Pair:
        return Pair(reading.rmssd_ms, rmssd(span(wearer, reading.begin_s, RMSSD_S), 75.0))

    return Recording("systole", 75.0, tuple(map(float, samples))), pulse_pair, variability


def pyphysio(sdist: Path) -> tuple[Recording, Judge, Judge]:
    """Two minutes of blood volume and ECG, 2,048 Hz (A. Bizzego, GPL-3.0), against the ECG's own beats."""
    from scipy.signal import find_peaks

    table = numpy.genfromtxt(io.BytesIO(bz2.decompress(member(sdist, "test_data/medical.txt.bz2"))), delimiter="\t")
    ecg, volume = table[:, 0], table[:, 2]
    beats = find_peaks(ecg, distance=1000, prominence=0.4 * numpy.ptp(ecg))[0] / 2048.0
    recording = Recording("pyphysio", 256.0, tuple(map(float, volume[::8])))

    def intervals(wearer: Wearer, reading: Reading, length_s: float) -> list[float]:
        begin_s = (reading.begin_s + wearer.offset_s) % recording.duration_s - PULSE_LATE_S
        inside = beats[(beats >= begin_s) & (beats <= begin_s + length_s)]
        return [float(one) for one in numpy.diff(inside)]

    def pulse(wearer: Wearer, reading: Reading) -> Pair:
        return Pair(reading.bpm, 60.0 / float(numpy.mean(intervals(wearer, reading, WINDOW_S))))

    def variability(wearer: Wearer, reading: Reading) -> Pair:
        steps = numpy.diff(intervals(wearer, reading, RMSSD_S))
        return Pair(reading.rmssd_ms, 1000.0 * math.sqrt(float(numpy.mean(steps**2))))

    return recording, pulse, variability


SOURCES = {"systole": systole, "pyphysio": pyphysio}


def rows(sdist: Path) -> Iterator[str]:
    """The table's rows of one package."""
    name = sdist.name.partition("-")[0]
    recording, pulse, variability = SOURCES[name](sdist)
    with HeartDriver() as driver:
        beats = Agreement(tuple(pulse(*window) for window in played(driver, recording, 3.0, WINDOW_S)))
    with HeartDriver(rmssd=True) as driver:
        spread = Agreement(tuple(variability(*window) for window in played(driver, recording, 5.0, RMSSD_S)))
    for figure in (
        *beats.figures(f"{name}, heart rate", "beats/min", (3, 5), (0,) * 6),
        *spread.figures(f"{name}, RMSSD", "ms", (5, 10), (0,) * 6),
    ):
        yield f"{figure.name:48} {figure.value:6.2f} {figure.unit:10} {figure.note}"


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        for row in rows(Path(argument)):
            print(row)
