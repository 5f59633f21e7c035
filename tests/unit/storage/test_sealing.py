"""Secrets at rest: what the vault opens and what it refuses, and the key's file."""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.sealing import Vault, WrongKey, load_or_make_key, parse_key, token_hash

KEY = bytes(range(32))


@given(secret=st.binary(max_size=200), context=st.binary(max_size=40))
def test_what_was_sealed_opens_again(secret: bytes, context: bytes) -> None:
    vault = Vault(KEY)
    assert Vault(KEY).open(vault.seal(secret, context=context), context=context) == secret


def test_the_same_secret_looks_different_each_time() -> None:
    vault = Vault(KEY)
    assert vault.seal(b"token") != vault.seal(b"token")
    assert b"token" not in vault.seal(b"token")


@pytest.mark.parametrize("position", [0, 11, 12, 20, -1])
def test_one_changed_bit_is_found(position: int) -> None:
    sealed = bytearray(Vault(KEY).seal(b"a secret token"))
    sealed[position] ^= 1
    with pytest.raises(WrongKey):
        Vault(KEY).open(bytes(sealed))


def test_a_sealed_token_does_not_open_for_another_account() -> None:
    sealed = Vault(KEY).seal(b"token", context=b"MA1")
    with pytest.raises(WrongKey):
        Vault(KEY).open(sealed, context=b"MA2")


@pytest.mark.parametrize("sealed", [b"", b"short", b"x" * 12, b"x" * 27])
def test_what_was_never_sealed_does_not_open(sealed: bytes) -> None:
    with pytest.raises(WrongKey):
        Vault(KEY).open(sealed)


def test_another_key_opens_nothing_and_says_so() -> None:
    with pytest.raises(WrongKey, match="not the key this database was filled with"):
        Vault(bytes(32)).open(Vault(KEY).seal(b"token"))


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(WrongKey, match=f"{size} bytes"):
        Vault(bytes(size))


def test_a_token_is_checked_by_its_sha256() -> None:
    assert token_hash("abc") == hashlib.sha256(b"abc").digest()


def test_a_key_in_base64_is_read_with_or_without_line_end() -> None:
    assert parse_key(base64.b64encode(KEY).decode()) == parse_key(base64.b64encode(KEY).decode() + "\n") == KEY


@pytest.mark.parametrize("text", ["", "not base64!", "AAAA", base64.b64encode(bytes(33)).decode(), "ä" * 44])
def test_what_is_no_key_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(WrongKey) as caught:
        parse_key(text)
    assert not text or text not in str(caught.value)


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "data" / "master.key"
    key = load_or_make_key(path)
    assert len(key) == 32
    assert load_or_make_key(path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["master.key"]


def test_two_folders_have_two_keys(tmp_path: Path) -> None:
    assert load_or_make_key(tmp_path / "a" / "k") != load_or_make_key(tmp_path / "b" / "k")


def test_many_who_make_it_at_once_have_the_same_key(tmp_path: Path) -> None:
    keys: list[bytes] = []
    together = threading.Barrier(8)

    def make() -> None:
        together.wait()
        keys.append(load_or_make_key(tmp_path / "master.key"))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "master.key"
    load_or_make_key(path)
    path.chmod(mode)
    with pytest.raises(WrongKey, match="chmod 600"):
        load_or_make_key(path)


def test_a_file_that_holds_no_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    path.write_bytes(b"\xff\xfe nonsense")
    path.chmod(0o600)
    with pytest.raises(WrongKey, match=r"master\.key"):
        load_or_make_key(path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WrongKey, match="file"):
        load_or_make_key(tmp_path / "file" / "master.key")
