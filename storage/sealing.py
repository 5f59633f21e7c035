"""Secrets at rest: sealed with a key that is not in the database.

An account's token signs its callbacks, so a hash of it is not enough: the database holds a hash to check what comes in
and a sealed copy to sign what goes out (docs/decisions/0002-sealed-tokens.md). A dump of it gives nobody a token.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from storage.records import StorageError

KEY_BYTES = 32
NONCE_BYTES = 12


class WrongKey(StorageError):
    """The master key cannot be used, or is not the one that sealed what is stored."""


class Vault:
    """Seals and opens short secrets with AES-256-GCM."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise WrongKey(f"The master key has {len(key)} bytes instead of {KEY_BYTES}.")
        self._cipher = AESGCM(key)

    def seal(self, secret: bytes, *, context: bytes = b"") -> bytes:
        """Nonce and sealed text. It opens only with the same `context`, so that it cannot be moved to another row."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret, context)

    def open(self, sealed: bytes, *, context: bytes = b"") -> bytes:
        """Raises WrongKey, also when what is stored was changed."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context)
        except (InvalidTag, ValueError) as error:
            raise WrongKey(
                "The master key does not open what is stored: it is not the key this database was filled with."
            ) from error


def token_hash(token: str) -> bytes:
    """What a token is checked by. Plain SHA-256 will do: a token is 240 random bits, not a password."""
    return hashlib.sha256(token.encode()).digest()


def parse_key(text: str) -> bytes:
    """A key as `openssl rand -base64 32` prints it. Raises WrongKey."""
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise WrongKey("The master key is not in base64.") from error
    if len(key) != KEY_BYTES:
        raise WrongKey(f"The master key has {len(key)} bytes instead of {KEY_BYTES}.")
    return key


def load_or_make_key(path: Path) -> bytes:
    """The key in `path`; made, for its owner's eyes alone, if there is none. Raises WrongKey.

    Two processes may make it at once: one of them wins, both use the winner's.
    """
    try:
        if not path.exists():
            _make_key(path)
        if path.stat().st_mode & 0o077:
            raise WrongKey(f"{path} can be read by others: chmod 600 it, and think about who has read it.")
        return parse_key(path.read_text("ascii"))
    except (OSError, UnicodeDecodeError) as error:
        raise WrongKey(f"The master key {path} cannot be used: {error}") from error


def _make_key(path: Path) -> None:
    """Written whole and safe on disk before it has its name: what is sealed with it may be committed right after."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    half = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
            file.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(half, path)
    finally:
        half.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
