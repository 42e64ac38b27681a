"""What heartpy makes of a photoplethysmogram: the reference for the device's heart rate."""

import importlib.resources
import itertools
import sys
import types
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def _heartpy() -> Any:
    # heartpy 1.2.7 asks pkg_resources for its example files, and setuptools has dropped that module
    if "pkg_resources" not in sys.modules:
        module = types.ModuleType("pkg_resources")
        module.resource_filename = _resource_filename  # type: ignore[attr-defined]
        sys.modules["pkg_resources"] = module
    import matplotlib

    matplotlib.use("Agg")
    import heartpy

    return heartpy


def _resource_filename(package: str, name: str) -> str:
    return str(importlib.resources.files(package.partition(".")[0]) / name)


@dataclass(frozen=True)
class Reference:
    """heartpy's answer: beats a minute, and whether the beats it found can be believed."""

    bpm: float
    steady: bool


def heart_rate(samples: Sequence[float], rate_hz: float) -> Reference:
    """`heartpy.process` with its defaults over one window.

    Not steady are the windows where heartpy shows itself that it lost or invented beats: an interval that differs from
    the next by more than 30 %, or beats that cover less than three quarters of the window, or no answer at all.
    """
    import numpy

    heartpy = _heartpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            working, measures = heartpy.process(numpy.asarray(samples, dtype=float), rate_hz)
        except heartpy.exceptions.BadSignalWarning:
            return Reference(float("nan"), False)
    intervals = [float(value) for value in working["RR_list"]]
    covered_ms = 1000 * len(samples) / rate_hz
    steady = sum(intervals) > 0.75 * covered_ms and all(
        abs(one - other) <= 0.3 * max(one, other) for one, other in itertools.pairwise(intervals)
    )
    return Reference(float(measures["bpm"]), steady)


def beat_times_s(samples: Sequence[float], rate_hz: float) -> list[float]:
    """When the beats are that heartpy accepts in a whole recording, seconds from its beginning."""
    import numpy

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        working, _ = _heartpy().process(numpy.asarray(samples, dtype=float), rate_hz)
    accepted = zip(working["peaklist"], working["binary_peaklist"], strict=True)
    return [float(place) / rate_hz for place, good in accepted if good]


def example(number: int) -> tuple[list[float], float]:
    """One of heartpy's example recordings, whole, and its sampling rate: 0 clean, 1 moving at first, 2 long."""
    heartpy = _heartpy()
    samples, timer = heartpy.load_exampledata(number)
    if number == 0:
        rate_hz = 100.0
    elif number == 1:
        rate_hz = heartpy.get_samplerate_mstimer(timer)
    else:
        rate_hz = heartpy.get_samplerate_datetime([str(at) for at in timer], timeformat="%Y-%m-%d %H:%M:%S.%f")
    return [float(value) for value in samples], float(rate_hz)


def passed(samples: Sequence[float], rate_hz: float) -> Any:
    """What heartpy's band-pass lets through, with the limits of its own example."""
    import numpy

    return _heartpy().filter_signal(numpy.asarray(samples, dtype=float), (0.7, 3.5), rate_hz, 3, "bandpass")


def rmssd(samples: Sequence[float], rate_hz: float) -> float:
    """heartpy's RMSSD after its band-pass and with its quotient filter, ms; NaN where it shows that it lost beats.

    Tops between samples, by splines at 1,000 Hz. More than a tenth of the beats rejected is no reference.
    """
    heartpy = _heartpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            working, measures = heartpy.process(
                passed(samples, rate_hz),
                rate_hz,
                high_precision=True,
                clean_rr=True,
                clean_rr_method="quotient-filter",
            )
        except (heartpy.exceptions.BadSignalWarning, ArithmeticError, TypeError, ValueError):
            return float("nan")
    kept = list(working["binary_peaklist"])
    if len(kept) < 10 or kept.count(0) > len(kept) / 10:
        return float("nan")
    return float(measures["rmssd"])


def ratio_of_ratios(red: Sequence[float], infrared: Sequence[float], rate_hz: float) -> float:
    """R by scipy: slope of red over infrared between 0.5 and 4 Hz (Butterworth, both ways), by the means."""
    import numpy
    from scipy import signal

    both = numpy.asarray([red, infrared], dtype=float)
    waves = signal.sosfiltfilt(signal.butter(3, (0.5, 4.0), "band", fs=rate_hz, output="sos"), both)
    slope = float((waves[0] * waves[1]).sum() / (waves[1] ** 2).sum())
    return slope * float(both[1].mean() / both[0].mean())
