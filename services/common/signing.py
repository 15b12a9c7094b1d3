"""Ed25519 signatures over digests (RFC 8032): who signs first makes the key, who verifies trusts a folder of keys."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from services.common.errors import InvalidMessage, IrisloopError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNING_KEY: Final = "model-signing.pem"
TRUSTED: Final = "trusted"


class SignatureRefused(InvalidMessage):
    """The signature is missing, made by a key that is not trusted, or not of this digest."""

    default_reason = "SIGNATURE_REFUSED"


@dataclass(frozen=True, slots=True)
class Signature:
    """`value` is base64; `key_id` is the hex SHA-256 of the raw public key."""

    value: str
    key_id: str


class Signer:
    """Signs digests with one private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        """`of_home` finds the machine's key."""
        self._key: Final = key
        self.key_id: Final = key_id(key.public_key())

    @classmethod
    def of_home(cls, home: Path) -> Self:
        """The key in `home/keys/model-signing.pem`, made there on first use and trusted on this machine.

        Raises `IrisloopError` when the file cannot be read as an Ed25519 key.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        path = home / "keys" / SIGNING_KEY
        if not path.exists():
            _create_key(path)
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise IrisloopError(f"The signing key {path} cannot be read: {error}.", reason="BAD_KEY") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise IrisloopError(f"The signing key {path} is not an Ed25519 key.", reason="BAD_KEY")
        _trust(home, key.public_key())
        return cls(key)

    def sign(self, digest: str) -> Signature:
        """The signature over the digest's ASCII text."""
        return Signature(base64.b64encode(self._key.sign(digest.encode("ascii"))).decode("ascii"), self.key_id)


class Verifier:
    """Accepts what a trusted key signed; keys that are added later count at once."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds the trusted public keys, `*.pub`, PEM."""
        self._folder: Final = folder

    @classmethod
    def of_home(cls, home: Path) -> Self:
        """The keys in `home/keys/trusted`."""
        return cls(home / "keys" / TRUSTED)

    def verify(self, digest: str, signature: str, key: str) -> None:
        """Raises `SignatureRefused` unless the trusted key of id `key` signed the digest."""
        from cryptography.exceptions import InvalidSignature

        if not signature:
            raise SignatureRefused(f"The package {digest[:12]} is not signed.", field="signature", reason="UNSIGNED")
        public = self._trusted().get(key)
        if public is None:
            raise SignatureRefused(
                f"The package {digest[:12]} is signed by the key {key[:12]!r}, which is not trusted: its public key "
                f"belongs into {self._folder}.",
                field="key_id",
                reason="KEY_NOT_TRUSTED",
            )
        try:
            public.verify(base64.b64decode(signature, validate=True), digest.encode("ascii"))
        except (InvalidSignature, binascii.Error, ValueError) as error:
            raise SignatureRefused(
                f"The signature of the package {digest[:12]} does not fit its content.", field="signature"
            ) from error

    def _trusted(self) -> Mapping[str, Ed25519PublicKey]:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        keys: dict[str, Ed25519PublicKey] = {}
        for path in sorted(self._folder.glob("*.pub")):
            try:
                public = load_pem_public_key(path.read_bytes())
            except (OSError, ValueError):
                continue  # one unreadable key trusts nobody and must not distrust the others
            if isinstance(public, Ed25519PublicKey):
                keys[key_id(public)] = public
        return keys


def key_id(public: Ed25519PublicKey) -> str:
    """Hex SHA-256 of the raw public key."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()


def _create_key(path: Path) -> None:
    """Write a new key unless another process was faster: theirs counts then."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    _write_once(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)


def _trust(home: Path, public: Ed25519PublicKey) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    path = home / "keys" / TRUSTED / f"{key_id(public)[:16]}.pub"
    if not path.exists():
        _write_once(path, public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644)


def _write_once(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all, and never over what is there."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, mode)
            file.write(content)
            file.flush()
            os.fsync(handle)
        try:
            os.link(name, path)
        except FileExistsError:
            return
    finally:
        Path(name).unlink(missing_ok=True)
