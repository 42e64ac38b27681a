"""Private keys on tokens, on SoftHSM2: what is found, what is refused, and that no PIN is in any message."""

import subprocess
import sys
from pathlib import Path

import pytest

from provisioning import signers
from provisioning.signers import token as tokens
from provisioning.signers.uri import Pkcs11Uri
from tests.support import softhsm

WRONG = "0000-0000"
on_a_token = softhsm.needs_softhsm()


@pytest.fixture(scope="module")
def keys() -> None:
    softhsm.make_key("alice")
    softhsm.make_key("double", identifier=b"one")
    softhsm.make_key("double", identifier=b"two")
    softhsm.make_key("same id 1", identifier=b"same")
    softhsm.make_key("same id 2", identifier=b"same")
    softhsm.make_key("p384", curve="secp384r1")
    softhsm.make_key("half", public=False)
    softhsm.make_key("no id", identifier=b"")


def refused(uri: str, message: str, ask: signers.Ask = lambda prompt: None) -> signers.SignerError:
    with pytest.raises(signers.SignerError, match=message) as error:
        signers.open_signer(uri, ask)
    said = str(error.value) + error.value.remedy
    assert softhsm.PIN not in said
    assert WRONG not in said
    assert error.value.remedy
    return error.value


@on_a_token
@pytest.mark.usefixtures("keys")
def test_key_on_a_token_signs_and_never_leaves_it():
    signer = signers.open_signer(softhsm.uri("alice"))
    assert len(signer.public_key) == 65
    for message in (b"", b"message", bytes(10_000)):
        signature = signer.sign(message)
        assert len(signature) == 64
        assert signers.verify(signer.public_key, message, signature)
        assert not signers.verify(signer.public_key, message + b"x", signature)
    import pkcs11

    with softhsm.token().open(user_pin=softhsm.PIN) as session:
        key = session.get_key(pkcs11.ObjectClass.PRIVATE_KEY, label="alice")
        with pytest.raises(pkcs11.exceptions.AttributeSensitive):
            key[pkcs11.Attribute.VALUE]


@on_a_token
@pytest.mark.usefixtures("keys")
def test_pin_is_asked_for_where_the_uri_names_no_file():
    prompts = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return softhsm.PIN

    signer = signers.open_signer(softhsm.uri("alice", pin_source=None), ask)
    assert prompts == [f"PIN of token '{softhsm.LABEL}', object 'alice'"]
    assert signers.verify(signer.public_key, b"m", signer.sign(b"m"))
    assert len(prompts) == 1


@on_a_token
@pytest.mark.usefixtures("keys")
def test_key_is_found_by_its_id_and_two_of_a_name_told_apart_by_it():
    by_id = signers.open_signer(softhsm.uri("", object=None, id="alice"))
    assert by_id.public_key == signers.open_signer(softhsm.uri("alice")).public_key
    refused(softhsm.uri("double"), "2 objects of the token fit")
    one, two = (signers.open_signer(softhsm.uri("double", id=number)) for number in ("%6fne", "two"))
    assert one.public_key != two.public_key
    assert signers.open_signer(softhsm.uri("no id")).sign(b"m")


@on_a_token
@pytest.mark.usefixtures("keys")
def test_pair_whose_public_half_is_missing_or_not_unique_is_refused():
    refused(softhsm.uri("half"), "no such public key")
    refused(softhsm.uri("same id 1"), "2 objects of the token fit as public key")


@on_a_token
@pytest.mark.usefixtures("keys")
def test_wrong_pin_missing_token_missing_object_and_wrong_curve_are_refused(tmp_path: Path):
    refused(softhsm.uri("alice", pin_source=None), "no PIN was given")
    refused(softhsm.uri("alice", pin_source=None), "refused the PIN", lambda prompt: WRONG)
    pin = tmp_path / "pin"
    pin.touch(mode=0o600)
    pin.write_text(WRONG)
    refused(softhsm.uri("alice", pin_source=f"file:{pin}"), "refused the PIN")
    pin.chmod(0o644)
    refused(softhsm.uri("alice", pin_source=f"file:{pin}"), "others can read the PIN")
    assert softhsm.LABEL in refused(softhsm.uri("alice", token="Other"), "no such token").remedy
    refused(softhsm.uri("alice", serial="00"), "no such token")
    refused(softhsm.uri("alice", token="Twin"), "2 tokens fit")
    refused(softhsm.uri("nobody"), "no such private key")
    refused(softhsm.uri("p384"), "not on the curve P-256")
    refused(softhsm.uri("alice", module_path="/none.so"), "library /none.so cannot be used")
    # after all of that the right PIN still works: no session was left behind, no login
    assert signers.open_signer(softhsm.uri("alice"))


@on_a_token
@pytest.mark.usefixtures("keys")
def test_login_does_not_outlive_the_signature():
    signers.open_signer(softhsm.uri("alice")).sign(b"m")
    refused(softhsm.uri("alice", pin_source=None), "refused the PIN", lambda prompt: WRONG)


@on_a_token
@pytest.mark.usefixtures("keys")
def test_token_that_signs_with_another_key_than_it_shows_is_found_out(monkeypatch: pytest.MonkeyPatch):
    signer = signers.open_signer(softhsm.uri("alice"))
    other = signers.open_signer(softhsm.uri("double", id="one"))
    monkeypatch.setattr(signer, "_point", other.public_key)
    with pytest.raises(signers.SignerError, match="does not fit its public key"):
        signer.sign(b"m")


@on_a_token
@pytest.mark.usefixtures("keys")
def test_library_is_named_by_the_environment_or_found(monkeypatch: pytest.MonkeyPatch):
    uri = softhsm.uri("alice", module_path=None)
    monkeypatch.setenv(tokens.MODULE, "/none.so")
    refused(uri, "library /none.so")
    found = softhsm.library()
    assert found
    monkeypatch.setenv(tokens.MODULE, found)
    assert signers.open_signer(uri)
    monkeypatch.delenv(tokens.MODULE)
    monkeypatch.setattr(tokens, "LIBRARIES", ("libsofthsm2.so",))
    monkeypatch.setattr(tokens, "FOLDERS", ("/none", str(Path(found).parent)))
    assert tokens.default_library() == found
    assert signers.open_signer(uri)
    monkeypatch.setattr(tokens, "FOLDERS", ("/none",))
    refused(uri, "no PKCS#11 library was found")


def test_missing_python_pkcs11_says_what_to_install():
    code = (
        "import sys; sys.modules['pkcs11'] = None\n"
        "from provisioning import signers\n"
        "try: signers.open_signer('pkcs11:token=x;object=y')\n"
        "except signers.SignerError as error: print(error.remedy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "pip install 'sealband[pkcs11]'" in done.stdout


def test_signers_do_not_load_pkcs11_before_it_is_asked_for():
    code = "import sys; from provisioning import signers; print('pkcs11' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


def test_uri_is_read_as_rfc_7512_writes_it():
    # the examples of RFC 7512 section 3, apart from those with a PIN or another type
    uri = Pkcs11Uri.parse(
        "token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;"
        "object=my-certificate;type=private;id=%69%95%3E%5C%F4%BD%EC%91?pin-source=file:/etc/token_pin"
    )
    assert uri.token == "The Software PKCS#11 Softtoken"
    assert uri.manufacturer == "Snake Oil, Inc."
    assert (uri.model, uri.object, uri.serial) == ("1.0", "my-certificate", None)
    assert uri.id == bytes.fromhex("69953e5cf4bdec91")
    assert uri.pin_source == "/etc/token_pin"
    assert Pkcs11Uri.parse("object=a?pin-source=file:///etc/pin&module-path=/x.so").pin_source == "/etc/pin"
    assert Pkcs11Uri.parse("") == Pkcs11Uri()


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("token=a;object=b?pin-value=" + softhsm.PIN, "holds a PIN"),
        ("token=a;pin-value=" + softhsm.PIN, "holds a PIN"),
        ("token=a;slot-id=1", "'slot-id', which is not known"),
        ("token=a?module-name=x", "'module-name', which is not known"),
        ("token=a;token=b", "twice"),
        ("token", "without a value"),
        ("token=", "without a value"),
        ("token=a;;object=b", "not known"),
        ("token=%ff", "not UTF-8"),
        ("token=a;type=cert", "not a private key"),
        ("token=a?pin-source=|cat", "not a file: URI"),
        ("token=a?pin-source=/etc/pin", "not a file: URI"),
        ("token=a?pin-source=file:", "not a file: URI"),
    ],
)
def test_uri_with_a_pin_or_with_what_is_not_known_is_refused(rest: str, message: str):
    refused("pkcs11:" + rest, message)
