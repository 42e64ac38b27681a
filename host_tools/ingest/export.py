"""Readings as text for other programs: JSON, CSV, SenML. Pure; yields pieces, so that size costs no memory.

- JSON: one array of objects.
- CSV: RFC 4180. A text cell that a spreadsheet would take for a formula gets an apostrophe in front.
- SenML: RFC 8428 in JSON. Names are URNs of the device's EUI-64 (RFC 9039) and the record; units are those of the
  registry's first table, for the units of its second (RFC 8798) must not be sent.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from host_tools.ingest.readings import Reading
from provisioning.cells import safe_cell

CSV_COLUMNS = ("time", "device", "record", "value", "unit", "link", "gateway")
# our unit → SenML's, factor, offset. SenML's "%" is a ratio in spite of its name (RFC 8428 section 12.1, note 1).
_SENML_UNITS = {
    "%": ("/", Decimal("0.01"), Decimal(0)),
    "hPa": ("Pa", Decimal(100), Decimal(0)),
    "ms": ("s", Decimal("0.001"), Decimal(0)),
    "dBm": ("dBW", Decimal(1), Decimal(-30)),
    "mV": ("V", Decimal("0.001"), Decimal(0)),
    "uAh": ("C", Decimal("0.0036"), Decimal(0)),
}
# RFC 8428 section 12.1 and RFC 8798 section 2; an application's own unit that is not among them is left out
_SENML_KNOWN = (
    "m kg g s A K cd mol Hz rad sr N Pa J W C V F Ohm S Wb T H Cel lm lx Bq Gy Sv kat m2 m3 l m/s m/s2 m3/s l/s W/m2"
    " cd/m2 bit bit/s lat lon pH dB dBW Bspl count / %RH %EL EL 1/s 1/min beat/min beats S/m"
    " B VA VAs var vars J/m kg/m3 deg"
)
_KNOWN_UNITS = frozenset(_SENML_KNOWN.split())


def timestamp(unix_s: float) -> str:
    """RFC 3339, UTC, whole seconds."""
    return datetime.fromtimestamp(int(unix_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(seconds: float) -> str:
    """So long, for people: 45 s, 12 min, 3 h, 3 h 05 min, 2 d 4 h."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min" if minutes else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"


def plain(reading: Reading) -> dict[str, Any]:
    """A reading as JSON has it."""
    return {
        "time": timestamp(reading.unix_s),
        "device": reading.device,
        "record": reading.record,
        "id": reading.record_id,
        "value": reading.number,
        "unit": reading.unit,
        "link": reading.link,
        "gateway": reading.gateway,
        **({"meaning": reading.meaning} if reading.meaning else {}),
    }


def to_json(readings: Iterable[Reading]) -> Iterator[str]:
    """One JSON array, an object a line."""
    return _array(plain(reading) for reading in readings)


def to_csv(readings: Iterable[Reading]) -> Iterator[str]:
    """A header and a line for each."""
    yield _csv_line(CSV_COLUMNS)
    for one in readings:
        value = "" if one.value is None else f"{one.value:f}"
        cells = (timestamp(one.unix_s), one.device, one.record, one.unit, one.link, one.gateway)
        time, device, record, unit, link, gateway = (safe_cell(cell) for cell in cells)
        yield _csv_line((time, device, record, value, unit, link, gateway))


def to_senml(readings: Iterable[Reading]) -> Iterator[str]:
    """One SenML pack; a base name wherever the device changes."""
    return _array(_senml_records(readings))


FORMATS: dict[str, Callable[[Iterable[Reading]], Iterator[str]]] = {"json": to_json, "csv": to_csv, "senml": to_senml}


def _senml_records(readings: Iterable[Reading]) -> Iterator[dict[str, Any]]:
    device = None
    for reading in readings:
        record: dict[str, Any] = {}
        if reading.device != device:
            device = reading.device
            record["bn"] = f"urn:dev:mac:{device}:"
        record["n"] = reading.record
        unit, factor, offset = _SENML_UNITS.get(reading.unit, (reading.unit, Decimal(1), Decimal(0)))
        if unit in _KNOWN_UNITS:
            record["u"] = unit
        if reading.value is None:
            record["vb"] = True  # an event: it happened
        else:
            value = reading.value * factor + offset
            record["v"] = int(value) if value == value.to_integral_value() else float(value)
        record["t"] = reading.unix_s
        yield record


def _array(items: Iterable[dict[str, Any]]) -> Iterator[str]:
    before = "["
    for item in items:
        yield before + "\n" + json.dumps(item, ensure_ascii=False)
        before = ","
    yield "[]\n" if before == "[" else "\n]\n"


def _csv_line(cells: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()
