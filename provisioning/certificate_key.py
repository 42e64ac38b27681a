"""A `Signer` in the shape that `cryptography`'s builders of certificates take. Signs, and gives out nothing else."""

from typing import Any, NoReturn

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from provisioning.signers import Signer


class SignerKey(ec.EllipticCurvePrivateKey):
    """A private key that signs wherever its signer keeps it.

    Args:
        signer: on P-256.
    """

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """ECDSA with SHA-256 over the data, as DER (RFC 3279 section 2.2.3)."""
        # anything else would be signed as something that it is not
        if not isinstance(signature_algorithm, ec.ECDSA) or not isinstance(signature_algorithm.algorithm, SHA256):
            raise TypeError("a signer signs with ECDSA and SHA-256")
        signature = self._signer.sign(bytes(data))
        return encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Its public half."""
        return ec.EllipticCurvePublicKey.from_encoded_point(self.curve, self._signer.public_key)

    @property
    def curve(self) -> ec.EllipticCurve:
        """P-256."""
        return ec.SECP256R1()

    @property
    def key_size(self) -> int:
        """Bits."""
        return self.curve.key_size

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> NoReturn:
        """Not with a signing key."""
        raise TypeError("this key signs and does nothing else")

    def private_numbers(self) -> NoReturn:
        """Not out of a signer."""
        raise TypeError("this key signs and does nothing else")

    def private_bytes(self, *args: object, **kwargs: object) -> NoReturn:
        """Not out of a signer."""
        raise TypeError("this key signs and does nothing else")

    def __copy__(self) -> "SignerKey":
        return self

    def __deepcopy__(self, memo: object) -> "SignerKey":
        return self
