"""Keys and signatures of packages."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from services.common.errors import IrisloopError
from services.common.signing import SignatureRefused, Signer, Verifier

DIGEST = "ab" * 32


def test_what_this_machine_signs_it_trusts(tmp_path: Path) -> None:
    signature = Signer.of_home(tmp_path).sign(DIGEST)
    Verifier.of_home(tmp_path).verify(DIGEST, signature.value, signature.key_id)
    assert Signer.of_home(tmp_path).sign(DIGEST) == signature


def test_the_private_key_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    Signer.of_home(tmp_path)
    assert (tmp_path / "keys" / "model-signing.pem").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "keys").iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("reason", "spoil"),
    [
        ("UNSIGNED", lambda value, key: ("", key)),
        ("KEY_NOT_TRUSTED", lambda value, key: (value, "0" * 64)),
        ("SIGNATURE_REFUSED", lambda value, key: (base64.b64encode(bytes(64)).decode(), key)),
        ("SIGNATURE_REFUSED", lambda value, key: ("not base64!", key)),
    ],
)
def test_anything_else_is_refused_with_its_reason(tmp_path: Path, reason: str, spoil: object) -> None:
    signature = Signer.of_home(tmp_path).sign(DIGEST)
    assert callable(spoil)
    with pytest.raises(SignatureRefused) as refusal:
        Verifier.of_home(tmp_path).verify(DIGEST, *spoil(signature.value, signature.key_id))
    assert refusal.value.reason == reason


def test_a_signature_holds_for_its_digest_alone(tmp_path: Path) -> None:
    signature = Signer.of_home(tmp_path).sign(DIGEST)
    with pytest.raises(SignatureRefused):
        Verifier.of_home(tmp_path).verify("cd" * 32, signature.value, signature.key_id)


def test_a_strangers_key_counts_once_it_is_trusted(tmp_path: Path) -> None:
    signature = Signer.of_home(tmp_path / "theirs").sign(DIGEST)
    ours = Verifier.of_home(tmp_path / "ours")
    with pytest.raises(SignatureRefused):
        ours.verify(DIGEST, signature.value, signature.key_id)
    (key,) = (tmp_path / "theirs" / "keys" / "trusted").glob("*.pub")
    trusted = tmp_path / "ours" / "keys" / "trusted"
    trusted.mkdir(parents=True)
    (trusted / "broken.pub").write_text("no key")
    (trusted / "theirs.pub").write_bytes(key.read_bytes())
    ours.verify(DIGEST, signature.value, signature.key_id)


def test_a_damaged_signing_key_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "model-signing.pem"
    path.parent.mkdir()
    path.write_text("no key")
    with pytest.raises(IrisloopError, match="cannot be read"):
        Signer.of_home(tmp_path)
