"""Readings come out of the store scaled, named and in order of time, and leave in formats that others can read."""

import csv
import io
import json
import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioning import eui
from tests.support.fleet import NOW, T0, Fleet, export, message, models, process, readings, store, telemetry, uplink
from tests.support.micropython import ROOT

Filter, Reading, Readings = readings.Filter, readings.Reading, readings.Readings
UNIX_T0 = T0 + 1735689600


@pytest.fixture
def fleet(tmp_path: Path):
    fleet = Fleet(tmp_path)
    yield fleet
    fleet.close()


def reader(fleet: Fleet) -> Readings:
    return Readings(store.Payloads(fleet.vault))


def reading(value, unit="", record="heart_rate", device="02" * 8, at=UNIX_T0, gateway="00" * 8) -> Reading:
    number = None if value is None else Decimal(value)
    return Reading(device, at, record, 1, number, unit, "lora", gateway, NOW)


def test_values_are_scaled_and_named(fleet: Fleet):
    wearable = fleet.add()
    sent = message(0, T0, [3, 60, 3312, -4], [4, 0, 3701], [7, 0, -3370000], [77, 0, 5])
    process(fleet.intake(), uplink(wearable.seal(sent)))
    found = [(one.record, str(one.value), one.unit, one.unix_s) for one in reader(fleet).in_order(Filter())]
    assert found == [
        ("skin_temperature", "33.12", "Cel", UNIX_T0),
        ("battery_voltage", "3.701", "V", UNIX_T0),
        ("latitude", "-33.70000", "lat", UNIX_T0),
        ("record_77", "5", "", UNIX_T0),
        ("skin_temperature", "33.08", "Cel", UNIX_T0 + 60),
    ]


def test_frames_that_overlap_are_merged_by_time(fleet: Fleet):
    one, other = fleet.add(), fleet.add()
    frames = [
        one.seal(telemetry(1, 2, 3, interval_s=100)),
        other.seal(telemetry(4, 5, interval_s=10, t0=T0 + 95)),
        one.seal(telemetry(6, t0=T0 + 1)),
        other.seal(telemetry(7, t0=T0 + 300)),
    ]
    process(fleet.intake(), *(uplink(frame) for frame in frames))
    values = [int(one.value) for one in reader(fleet).in_order(Filter())]
    assert values == [1, 6, 4, 2, 5, 3, 7]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20), st.integers(1, 6)), min_size=1, max_size=8))
def test_the_newest_readings_are_those_at_the_end_of_all(tmp_path_factory: pytest.TempPathFactory, told):
    fleet = Fleet(tmp_path_factory.mktemp("fleet"))
    wearable = fleet.add()
    frames = [wearable.seal(telemetry(*range(n), interval_s=step, t0=T0 + start)) for start, step, n in told]
    process(fleet.intake(), *(uplink(frame) for frame in frames))
    every = [one.unix_s for one in reader(fleet).in_order(Filter())]
    assert every == sorted(every)
    for count in (1, 3, 100):
        assert [one.unix_s for one in reader(fleet).last(Filter(), count)] == every[-count:]
    fleet.close()


def test_filters_by_device_record_and_time(fleet: Fleet):
    one, other = fleet.add(), fleet.add()
    sent = message(0, T0, [1, 10, 70, 1, 1], [3, 0, 3300])
    process(fleet.intake(), uplink(one.seal(sent)), uplink(other.seal(sent)))
    everything = reader(fleet)

    def count(**wanted) -> int:
        return len(list(everything.in_order(Filter(**wanted))))

    assert count() == 8
    assert count(devices=frozenset({(one.eui, None)})) == 4
    assert count(names=frozenset({"skin_temperature"})) == 2
    assert count(since=UNIX_T0 + 10) == 4
    assert count(since=UNIX_T0 + 10, until=UNIX_T0 + 20) == 2
    assert count(until=UNIX_T0) == 0


def test_events_are_readings_too(fleet: Fleet):
    wearable = fleet.add()
    process(fleet.intake(), uplink(wearable.seal(message(1, T0, 2))), uplink(wearable.seal(message(1, T0, 3, 3401))))
    assert [(one.record, one.number) for one in reader(fleet).in_order(Filter())] == [
        ("event/sos", None),
        ("event/low_battery", 3401),
    ]


def test_what_a_device_says_of_itself_is_shown_when_it_is_asked_for(fleet: Fleet):
    wearable = fleet.add()
    told = {1: 60, 3: bytes(8), 6: 3950, 12: bytes((1, 6)), 13: [[2, 1500], [77, 3]], 99: 5}
    process(fleet.intake(), uplink(wearable.seal(message(2, T0, told))))
    assert list(reader(fleet).in_order(Filter())) == []
    found = list(reader(fleet).in_order(Filter(names=frozenset({readings.record_filter("status")}))))
    assert [(one.record, one.number, one.unit, one.meaning) for one in found] == [
        ("status/uptime_s", 60, "s", ""),
        ("status/battery_mv", 3950, "mV", ""),
        ("status/consent", 1, "", "heart_rate"),
        ("status/consent", 6, "", "activity"),
        ("status/charge/lora", 1500, "uAh", ""),
        ("status/charge/77", 3, "uAh", ""),
        ("status/99", 5, "", ""),
    ]
    charge = Filter(names=frozenset({readings.record_filter("status/charge")}))
    assert [one.number for one in reader(fleet).in_order(charge)] == [1500, 3]
    # 1500 microampere hours are 5.4 coulombs
    assert [(u, v) for _, u, v, _ in resolved(json.loads("".join(export.to_senml(found[4:5]))))] == [("C", 5.4)]


def test_what_arrives_later_is_followed(fleet: Fleet):
    wearable, intake = fleet.add(), fleet.intake()
    process(intake, uplink(wearable.seal(telemetry(70))))
    seen = readings.newest_frame()
    assert reader(fleet).arrived_after(Filter(), seen) == ([], seen)
    process(intake, uplink(wearable.seal(telemetry(71))), uplink(wearable.seal(telemetry(72))))
    found, now_seen = reader(fleet).arrived_after(Filter(), seen)
    assert [one.number for one in found] == [71, 72]
    assert reader(fleet).arrived_after(Filter(), now_seen) == ([], now_seen)


def test_row_with_another_rows_payload_is_left_out_and_counted(fleet: Fleet):
    wearable = fleet.add()
    process(fleet.intake(), uplink(wearable.seal(telemetry(70))), uplink(wearable.seal(telemetry(180))))
    first, second = models.Frame.objects.order_by("ctr")
    models.Frame.objects.filter(pk=first.pk).update(payload_wrapped=second.payload_wrapped)
    source = reader(fleet)
    assert [one.number for one in source.in_order(Filter())] == [180]
    assert source.damaged == 1


def test_readings_from_the_future_are_shown_only_when_asked_for(fleet: Fleet):
    wearable = fleet.add()
    process(fleet.intake(), uplink(wearable.seal(telemetry(70, t0=T0 + 40 * 86400))))
    assert list(reader(fleet).in_order(Filter())) == []
    assert [one.number for one in reader(fleet).in_order(Filter(faulty=True))] == [70]


def test_device_is_named_by_its_eui_and_a_former_identity_by_its_number():
    number = bytes.fromhex("0200000000000001")
    assert eui.parse("02-00:00-00-00-00-00-01") == (number, None)
    assert eui.parse("0200000000000001.2") == (number, 2)
    for text in ("02", "0200000000000001.", "0200000000000001.x", "02000000000000011"):
        with pytest.raises(eui.EuiError):
            eui.parse(text)


def test_what_to_show_is_checked():
    assert readings.record_filter("1") == readings.record_filter("heart_rate") == "heart_rate"
    assert readings.record_filter("200") == "record_200"
    assert readings.moment("2h", 10000.0) == 2800.0
    assert readings.moment("2026-01-01T00:00", 0) == readings.moment("2026-01-01T01:00+01:00", 0) == 1767225600
    for refused in (
        lambda: readings.record_filter("pulse"),
        lambda: readings.moment("gestern", 0),
    ):
        with pytest.raises(readings.FilterError) as error:
            refused()
        assert error.value.remedy


# SenML, RFC 8428

# section 4.2: names
SENML_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9\-:./_]*", re.ASCII)
# section 12.1, the units that can come up here; those of RFC 8798's second table must not
SENML_UNITS = {"beat/min", "/", "Cel", "V", "count", "lat", "lon", "m", "Pa", "s", "dBW", "m/s2"}


def resolved(pack):
    """RFC 8428 section 4.6: every record on its own, with its full name."""
    base = ""
    for record in pack:
        base = record.get("bn", base)
        assert set(record) <= {"bn", "n", "u", "v", "vb", "t"}
        assert ("v" in record) != ("vb" in record)
        name = base + record["n"]
        assert SENML_NAME.fullmatch(name)
        assert record["t"] >= 2**28  # section 4.5.3: below, it would be relative to now
        yield name, record.get("u"), record.get("v", record.get("vb")), record["t"]


def test_senml_has_the_registrys_units_and_names():
    told = [
        reading("72", "beat/min"),
        reading("97", "%", "spo2"),
        reading("33.12", "Cel", "skin_temperature"),
        reading("1013.2", "hPa", "pressure"),
        reading("41", "ms", "hrv_rmssd", device="03" * 8),
        reading("-71", "dBm", "link_rssi", device="03" * 8),
        reading(None, "", "event/fall", device="03" * 8),
    ]
    found = list(resolved(json.loads("".join(export.to_senml(told)))))
    assert [(name.rpartition(":")[2], unit, value) for name, unit, value, _ in found] == [
        ("heart_rate", "beat/min", 72),
        ("spo2", "/", 0.97),
        ("skin_temperature", "Cel", 33.12),
        ("pressure", "Pa", 101320),
        ("hrv_rmssd", "s", 0.041),
        ("link_rssi", "dBW", -101),
        ("event/fall", None, True),
    ]
    assert [name.rpartition(":")[0] for name, *_ in found] == ["urn:dev:mac:" + "02" * 8] * 4 + [
        "urn:dev:mac:" + "03" * 8
    ] * 3


def test_every_unit_of_the_table_leaves_as_one_that_senml_may_send():
    from sealwire.records import RECORDS

    told = [reading("1", unit, name) for _, name, unit, _ in RECORDS]
    units = {unit for _, unit, _, _ in resolved(json.loads("".join(export.to_senml(told))))}
    assert units - {None} <= SENML_UNITS


def test_an_empty_export_is_still_a_document():
    assert json.loads("".join(export.to_json([]))) == []
    assert json.loads("".join(export.to_senml([]))) == []
    assert "".join(export.to_csv([])) == "time,device,record,value,unit,link,gateway\r\n"


@given(st.text(max_size=12))
def test_csv_cell_is_never_a_formula(text):
    told = reading("-5.20", gateway=text, record=text)
    rows = list(csv.reader(io.StringIO("".join(export.to_csv([told])), newline="")))
    assert len(rows) == 2
    _, _, record, value, *_, gateway = rows[1]
    assert value == "-5.20"
    for cell in (record, gateway):
        assert cell in (text, f"'{text}")
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def test_json_keeps_whole_numbers_whole():
    told = json.loads("".join(export.to_json([reading("72"), reading("33.10"), reading("33.00"), reading(None)])))
    assert [json.dumps(one["value"]) for one in told] == ["72", "33.1", "33", "null"]
    assert told[0]["time"] == "2026-09-21T14:03:20Z"


def test_update_reports_are_shown_by_name_at_the_time_they_were_heard(fleet: Fleet):
    wearable = fleet.add()
    told = [(7, 1, 0), (7, 8, 9), (7, 9, 35), (2, 11, 0), (7, 77, 200), (7, 8, -3)]
    process(fleet.intake(), *(uplink(wearable.seal(message(3, *report))) for report in told))
    found = list(reader(fleet).in_order(Filter()))
    assert [(one.record, one.record_id, one.number) for one in found] == [
        ("update/accepted", 1, 7),
        ("update/refused/too_few_signatures", 8, 7),
        ("update/failed/http_status", 9, 7),
        ("update/trusted", 11, 2),
        # no name: the number, and never anything that a device wrote
        ("update/77/200", 77, 7),
        ("update/refused/-3", 8, 7),
    ]
    assert {one.unix_s for one in found} == {int(NOW)}
    only = Filter(names=frozenset({readings.record_filter("update")}))
    assert len(list(reader(fleet).in_order(only))) == 6
    one_kind = Filter(names=frozenset({readings.record_filter("update/trusted")}))
    assert [one.number for one in reader(fleet).in_order(one_kind)] == [2]
    assert '"record": "update/refused/too_few_signatures"' in "".join(export.to_json(found))
    assert f'"n": "update/accepted", "v": 7, "t": {int(NOW)}' in "".join(export.to_senml(found))
    assert "update/failed/http_status,7," in "".join(export.to_csv(found))


def test_every_state_and_code_has_a_name():
    """What sealwire numbers, people can read."""
    from sealwire import names, update

    text = (ROOT / "device/lib/sealwire/update.py").read_text()
    states, codes = text.partition("# Codes.")[0], text.partition("# Codes.")[2].partition("# Limits")[0]
    for table, part in ((names.UPDATE_STATES, states), (names.UPDATE_CODES, codes)):
        numbered = dict(re.findall(r"^([A-Z_]+) = (\d+)", part, re.M))
        assert {name.lower(): int(number) for name, number in numbered.items()} == {v: k for k, v in table.items()}
    assert update.CONFIRMED in names.UPDATE_STATES
