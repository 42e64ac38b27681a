"""The SBOM: it equals the lock file and the image, and is the same bytes each time."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import pytest
from packaging.requirements import Requirement

from host_tools.release.archive import Entry
from host_tools.release.manifest import Release, Text, full_uri, identifiers
from host_tools.release.sbom import Locked, SbomError, Tool, locked, sbom
from tests.support.micropython import ROOT

LOCK = (ROOT / "requirements.lock").read_text()
DIGEST = bytes(range(32))
RELEASE = Release(
    b"app",
    *identifiers("sealband.example", "t-beam"),
    7,
    DIGEST,
    10240,
    full_uri(DIGEST),
    Text("sealband.example", "t-beam", "1.2.0"),
)
FILES = (Entry("app.mpy", 3, bytes(32)), Entry("lib/x.mpy", 4, b"\x01" * 32))
TOOLS = (Tool("mpy-cross", "1.29.0", "mpy-cross emitting mpy v6.3"), Tool("sealband", "0.1.0"))


def document(**changed: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {"release": RELEASE, "entries": FILES, "tools": TOOLS, "lock": LOCK, **changed}
    value: dict[str, Any] = json.loads(sbom(**arguments))
    return value


def test_libraries_are_those_of_the_lock_file() -> None:
    # read with packaging, which knows nothing of our reading of it
    lines = [line.split(" \\")[0] for line in LOCK.splitlines() if re.match(r"[A-Za-z0-9]", line)]
    pinned = {(r.name, next(iter(r.specifier)).version) for r in map(Requirement, lines)}
    listed = [item for item in document()["components"] if item["type"] == "library"]
    assert {(item["name"], item["version"]) for item in listed} == pinned
    assert len(listed) == len(lines) > 50
    assert {unquote(item["purl"]) for item in listed} == {
        f"pkg:pypi/{name.lower()}@{version}" for name, version in pinned
    }
    assert {item["scope"] for item in listed} == {"excluded"}


def test_files_are_those_of_the_image_with_their_digests() -> None:
    listed = [item for item in document()["components"] if item["type"] == "file"]
    assert [(item["name"], item["hashes"]) for item in listed] == [
        ("app.mpy", [{"alg": "SHA-256", "content": "00" * 32}]),
        ("lib/x.mpy", [{"alg": "SHA-256", "content": "01" * 32}]),
    ]
    whole = document()["metadata"]["component"]
    assert (whole["name"], whole["version"], whole["hashes"][0]["content"]) == ("t-beam", "1.2.0", DIGEST.hex())
    depends = {item["ref"]: item.get("dependsOn", []) for item in document()["dependencies"]}
    assert depends["release:7"] == ["file:app.mpy", "file:lib/x.mpy"]


def test_what_made_the_image_is_named_with_its_version() -> None:
    tools = document()["metadata"]["tools"]["components"]
    assert [(item["name"], item["version"]) for item in tools] == [("mpy-cross", "1.29.0"), ("sealband", "0.1.0")]
    assert tools[0]["properties"] == [{"name": "sealband:says", "value": "mpy-cross emitting mpy v6.3"}]


def test_document_names_its_format() -> None:
    assert (document()["bomFormat"], document()["specVersion"], document()["version"]) == ("CycloneDX", "1.6", 1)


def test_document_is_the_same_bytes_in_another_process_and_without_a_time() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from tests.host.test_release_sbom import *; "
        "sys.stdout.buffer.write(sbom(RELEASE, FILES, TOOLS, LOCK))"
    )
    here = sbom(RELEASE, FILES, TOOLS, LOCK)
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(ROOT)],
            env={"PYTHONHASHSEED": seed, "TZ": "Asia/Tokyo"},
            capture_output=True,
            check=True,
            timeout=60,
        )
        assert done.stdout == here
    assert b"timestamp" not in here
    assert document(timestamp=datetime(2026, 1, 2, tzinfo=UTC))["metadata"]["timestamp"].startswith("2026-01-02T00:00")


def test_serial_number_is_another_one_for_another_image() -> None:
    other = Release(
        b"app", RELEASE.vendor, RELEASE.class_id, 7, bytes(32), 10240, full_uri(bytes(32)), RELEASE.text
    )  # fmt: skip
    assert document()["serialNumber"] != document(release=other)["serialNumber"]


def test_lines_of_a_lock_file() -> None:
    text = "a==1 \\\n    --hash=sha256:00\n    # via b\n# remark\nb-c==2.0.post1 ; python_version < '3.12' \\\n"
    assert locked(text) == [Locked("a", "1"), Locked("b-c", "2.0.post1", "python_version < '3.12'")]


@pytest.mark.parametrize("text", ["", "a>=1", "a", "-e .", "a==1 ; x \\\nb @ https://example.com/b.whl"])
def test_lock_file_that_pins_nothing_is_refused(text: str) -> None:
    with pytest.raises(SbomError):
        locked(text)
