"""Tokens of SoftHSM2 in a temporary folder, for tests of keys that never leave their token.

The library reads its configuration once, when it is first used: so there is one folder a process, and all tokens lie
in it. The folder is removed when the process ends.
"""

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

PIN = "4711-0815"
LABEL = "Sealband tests"


def library() -> str | None:
    """Path of SoftHSM's PKCS#11 library, or None."""
    for folder in ("/usr/lib/softhsm", "/usr/lib/x86_64-linux-gnu/softhsm", "/usr/lib/aarch64-linux-gnu/softhsm"):
        if (path := Path(folder, "libsofthsm2.so")).is_file():
            return str(path)
    for root in ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib"):
        for path in sorted(Path(root).glob("**/libsofthsm2.so")):
            return str(path)
    return None


def needs_softhsm() -> pytest.MarkDecorator:
    """Skips a test where SoftHSM2 is not installed, and says so."""
    present = shutil.which("softhsm2-util") and library()
    return pytest.mark.skipif(not present, reason="softhsm2-util or its library is missing (install softhsm2)")


@functools.cache
def start() -> Path:
    """The folder with this process's tokens, made once; sets SOFTHSM2_CONF for this process and its children."""
    folder = Path(tempfile.mkdtemp(prefix="sealband-softhsm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "tokens").mkdir()
    configuration = folder / "softhsm2.conf"
    configuration.write_text(
        f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    # two of one name: only their serials tell them apart
    for label in (LABEL, "Twin", "Twin"):
        command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "12345678"]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
    pin = folder / "pin"
    pin.touch(mode=0o600)
    pin.write_text(PIN + "\n")
    return folder


def make_key(name: str, *, curve: str = "secp256r1", identifier: bytes | None = None, public: bool = True) -> None:
    """Make a key pair on the token `LABEL`; the private half cannot be read out of it."""
    import pkcs11
    from pkcs11.util.ec import encode_named_curve_parameters

    start()
    with token().open(rw=True, user_pin=PIN) as session:
        parameters = session.create_domain_parameters(
            pkcs11.KeyType.EC, {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters(curve)}, local=True
        )
        pair = parameters.generate_keypair(
            store=True, label=name, id=name.encode() if identifier is None else identifier
        )
        if not public:
            pair[0].destroy()


def token(label: str = LABEL) -> Any:
    """The token of this name, by python-pkcs11."""
    import pkcs11

    start()
    found: str | None = library()
    assert found
    return pkcs11.lib(found).get_token(token_label=label)


def uri(name: str, **changes: str | None) -> str:
    """The URI of a key on the token; `changes` replace its attributes (underscores for hyphens) or leave them out."""
    folder = start()
    path: dict[str, str | None] = {"token": LABEL, "object": name}
    query: dict[str, str | None] = {"pin_source": f"file:{folder / 'pin'}", "module_path": library()}
    for key, value in changes.items():
        (query if key in query else path)[key] = value
    left = ";".join(f"{key}={value}".replace(" ", "%20") for key, value in path.items() if value is not None)
    right = "&".join(f"{key.replace('_', '-')}={value}" for key, value in query.items() if value is not None)
    return f"pkcs11:{left}" + (f"?{right}" if right else "")
