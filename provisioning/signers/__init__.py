"""Private keys named by URI, so that a file, a token and a service look alike to whoever signs. Holds no policy.

file:relative/or/absolute/path.pem              PKCS#8 PEM of a P-256 key, mode 600, encrypted or not
pkcs11:token=…;object=…?pin-source=file:…       a P-256 key that never leaves its token (RFC 7512); see token.py
"""

from collections.abc import Callable
from pathlib import Path

from provisioning.signers.file import FileSigner, create_file_key, open_file
from provisioning.signers.key import KID_LEN, SIGNATURE_LEN, Signer, SignerError, kid, verify
from provisioning.signers.public import check_point, parse_public, public_text, read_public
from provisioning.signers.secret import Ask, ask_terminal
from provisioning.signers.token import open_token

__all__ = [
    "KID_LEN",
    "SCHEMES",
    "SIGNATURE_LEN",
    "Ask",
    "FileSigner",
    "Signer",
    "SignerError",
    "check_point",
    "create_file_key",
    "kid",
    "open_public",
    "open_signer",
    "parse_public",
    "public_text",
    "read_public",
    "verify",
]

# a further kind of key joins by one line here
SCHEMES: dict[str, Callable[[str, Ask], Signer]] = {"file": open_file, "pkcs11": open_token}


def open_signer(uri: str, ask: Ask = ask_terminal) -> Signer:
    """The private key that a URI names.

    Args:
        uri: its name; never holds a passphrase or PIN.
        ask: asks a person for a passphrase or PIN by a prompt; None is the answer where nobody can be asked.

    Raises:
        SignerError: the scheme is not known, or the key is missing, readable by others, not opened by its passphrase
            or PIN, or not on P-256.
    """
    scheme, colon, rest = uri.partition(":")
    if not colon or scheme not in SCHEMES:
        known = ", ".join(f"{name}:" for name in sorted(SCHEMES))
        # what follows the colon may be a secret in the wrong place
        raise SignerError(f"the key {scheme + colon!r} has no scheme that is known", f"known schemes: {known}")
    return SCHEMES[scheme](rest, ask)


def open_public(name: str, ask: Ask = ask_terminal) -> bytes:
    """The public key, 65 bytes, of whom a person names: `p256:…`, a key's URI, or the path of a public key's file.

    Raises:
        SignerError: it names none.
    """
    if name.startswith("p256:"):
        return parse_public(name)
    if name.partition(":")[0] in SCHEMES:
        return open_signer(name, ask).public_key
    return read_public(Path(name))
