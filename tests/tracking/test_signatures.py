"""A signature is valid for one version of one model; an unusable key is named by its setting."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from distilspark.config import TrainRegistryConfig
from distilspark.errors import UserError
from distilspark.tracking.signatures import check_signing_key, is_signed, read_public_key, sign
from helpers.keys import make_keys

VERSION = ("a model", "3", "0" * 64)


def _registry(key: str | None) -> TrainRegistryConfig:
    return TrainRegistryConfig(name="a model", signing_key=key, trusted_keys=[], require_digest=False)


def test_signature_is_valid_only_for_its_version_and_key(tmp_path: Path) -> None:
    private, public = make_keys(tmp_path, "own")
    _, other = make_keys(tmp_path, "other")
    signature = sign(private, *VERSION)
    assert is_signed([public], signature, *VERSION)
    assert is_signed([other, public], signature, *VERSION)
    assert not is_signed([other], signature, *VERSION)
    assert not is_signed([], signature, *VERSION)
    for changed in (("b", *VERSION[1:]), ("a model", "4", VERSION[2]), (*VERSION[:2], "1" * 64)):
        assert not is_signed([public], signature, *changed)
    for changed_signature in ("", "no base64", signature[:-4], signature[::-1]):
        assert not is_signed([public], changed_signature, *VERSION)


def test_keys_of_openssl_are_read(tmp_path: Path) -> None:
    private, public = str(tmp_path / "private.pem"), str(tmp_path / "public.pem")
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
    assert is_signed([public], sign(private, *VERSION), *VERSION)


def test_unusable_key_is_named_in_the_error(tmp_path: Path) -> None:
    private, public = make_keys(tmp_path, "own")
    locked, rsa = str(tmp_path / "locked.pem"), str(tmp_path / "rsa.pem")
    subprocess.run(
        ["openssl", "pkey", "-in", private, "-aes256", "-passout", "pass:secret", "-out", locked], check=True
    )
    subprocess.run(["openssl", "genpkey", "-algorithm", "rsa", "-out", rsa], check=True, capture_output=True)
    (tmp_path / "empty.pem").touch()
    for path in (public, locked, rsa, str(tmp_path / "empty.pem"), str(tmp_path / "nowhere"), str(tmp_path)):
        with pytest.raises(UserError, match=f"^registry.signing_key={path} ") as refused:
            check_signing_key(_registry(path))
        assert "\n" not in str(refused.value)
    check_signing_key(_registry(None))
    for path in (private, rsa, str(tmp_path / "nowhere")):
        with pytest.raises(UserError, match=f"^registry.trusted_keys: {path} "):
            read_public_key(path)
