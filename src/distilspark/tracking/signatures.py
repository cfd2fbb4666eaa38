"""Ed25519 signatures: they prove that a key's holder registered a package as a version of a model."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from distilspark.config import TrainRegistryConfig
from distilspark.errors import UserError

SIGNATURE = "package.signature"  # a tag of registered versions, in base64


def read_private_key(path: str) -> Ed25519PrivateKey:
    """Read `registry.signing_key`; raise `UserError` if the file holds no private Ed25519 key in PEM."""
    with suppress(OSError, ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it is encrypted
        if isinstance(key := load_pem_private_key(Path(path).read_bytes(), password=None), Ed25519PrivateKey):
            return key
    raise UserError(
        f"registry.signing_key={path} is no private Ed25519 key, in PEM and without a password, that can be read. "
        "`openssl genpkey -algorithm ed25519 -out FILE` makes one"
    )


def check_signing_key(registry: TrainRegistryConfig) -> None:
    """Raise `UserError` if the signing key is unusable, before training starts."""
    if registry.signing_key:
        read_private_key(registry.signing_key)


def read_public_key(path: str) -> Ed25519PublicKey:
    """Read one of `registry.trusted_keys`; raise `UserError` if the file holds no public Ed25519 key in PEM."""
    with suppress(OSError, ValueError, UnsupportedAlgorithm):
        if isinstance(key := load_pem_public_key(Path(path).read_bytes()), Ed25519PublicKey):
            return key
    raise UserError(
        f"registry.trusted_keys: {path} is no public Ed25519 key in PEM that can be read. "
        "`openssl pkey -in PRIVATE -pubout -out FILE` makes it from the private one"
    )


def sign(key: str, name: str, version: str, digest: str) -> str:
    """Sign a version with the private key in a file."""
    return b64encode(read_private_key(key).sign(_message(name, version, digest))).decode()


def is_signed(keys: Sequence[str], signature: str, name: str, version: str, digest: str) -> bool:
    """Return whether the holder of one of the public keys in files signed the version."""
    for key in map(read_public_key, keys):
        with suppress(InvalidSignature, ValueError):  # ValueError: not base64
            key.verify(b64decode(signature, validate=True), _message(name, version, digest))
            return True
    return False


def _message(name: str, version: str, digest: str) -> bytes:
    """Return the signed message, which binds a digest to its version: signatures of other versions do not match."""
    return f"distilspark model version\n{name}\n{version}\n{digest}\n".encode()
