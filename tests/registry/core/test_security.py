"""Keys, seals, digests and passwords."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from registry.core.security import (
    ApiKeys,
    Digester,
    Passwords,
    SealBroken,
    Sealer,
    SecretFileInvalid,
    WeakSecret,
    derive_key,
    kept_secret,
    load_master_key,
    write_private,
)

MASTER = bytes(range(32))


def test_the_master_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    first = load_master_key(None, tmp_path / "data")
    assert len(first) == 32
    assert load_master_key(None, tmp_path / "data") == first
    assert stat.S_IMODE((tmp_path / "data" / "secret.key").stat().st_mode) == 0o600


def test_a_set_key_wins_and_writes_no_file(tmp_path: Path) -> None:
    assert load_master_key("k" * 32, tmp_path) == b"k" * 32
    assert list(tmp_path.iterdir()) == []


def test_a_cut_off_key_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.key").write_bytes(b"short")
    with pytest.raises(SecretFileInvalid, match="5 bytes"):
        load_master_key(None, tmp_path)


def test_processes_that_start_at_once_share_one_key(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from registry.core.security import load_master_key\n"
        "sys.stdin.readline(); print(load_master_key(None, Path(sys.argv[1])).hex())"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    starters = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write("go\n")
        starter.stdin.flush()
    outputs = {starter.communicate(timeout=60)[0] for starter in starters}
    assert len(outputs) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["secret.key"]


def test_of_two_makers_the_first_wins(tmp_path: Path) -> None:
    path = tmp_path / "token"

    def overtaken() -> bytes:
        kept_secret(path, lambda: b"the other process")
        return b"ours"

    assert kept_secret(path, overtaken) == b"the other process"
    assert [file.name for file in tmp_path.iterdir()] == ["token"]


def test_a_private_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_each_purpose_has_its_key() -> None:
    assert derive_key(MASTER, "a") == derive_key(MASTER, "a")
    assert derive_key(MASTER, "a") != derive_key(MASTER, "b")
    assert derive_key(MASTER, "a") != derive_key(bytes(32), "a")


def test_a_seal_opens_only_whole_and_in_its_place() -> None:
    sealer = Sealer(MASTER, "credentials")
    sealed = sealer.seal(b"secret", "server:1")
    assert sealer.open(sealed, "server:1") == b"secret"
    assert sealer.seal(b"secret", "server:1") != sealed
    attempts = [(sealed, "server:2"), (sealed[:-4], "server:1"), ("", "server:1"), ("!", "server:1"), ("é", "server:1")]
    attempts += [(sealed[:i] + ("A" if sealed[i] != "A" else "B") + sealed[i + 1 :], "server:1") for i in range(40)]
    for text, place in attempts:
        with pytest.raises(SealBroken):
            sealer.open(text, place)
    with pytest.raises(SealBroken):
        Sealer(MASTER, "sessions").open(sealed, "server:1")


def test_digests_differ_by_purpose_and_match_in_one_way() -> None:
    digester = Digester(MASTER, "a")
    assert digester.matches("token", digester.digest("token"))
    assert not digester.matches("other", digester.digest("token"))
    assert not digester.matches("token", None)
    assert not digester.matches("token", Digester(MASTER, "b").digest("token"))


def test_an_unknown_key_costs_the_work_of_a_wrong_one(monkeypatch: pytest.MonkeyPatch) -> None:
    digested: list[str] = []
    plain = Digester.digest
    monkeypatch.setattr(Digester, "digest", lambda self, token: digested.append(token) or plain(self, token))
    keys = ApiKeys(MASTER)
    assert not keys.matches("wrong", "0" * 64)
    assert not keys.matches("wrong", None)
    assert digested == ["wrong", "wrong"]


def test_minted_keys_have_the_form_and_stay_out_of_repr() -> None:
    keys = ApiKeys(MASTER)
    minted = keys.mint()
    assert minted.text.startswith(f"mcp_{minted.prefix}_")
    assert len(minted.prefix) == 8
    parts = keys.split(minted.text)
    assert parts is not None
    assert keys.matches(parts[1], minted.digest)
    assert parts[1] not in repr(minted)
    assert minted.digest not in repr(minted)
    assert keys.mint().text != minted.text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mcp_",
        "mcp_abc_short",
        "mcp__" + "s" * 40,
        "key_abc_" + "s" * 40,
        "mcp_abc_" + "s" * 40 + " ",
        "mcp_a b_" + "s" * 40,
    ],
)
def test_what_is_no_key_is_no_key(text: str) -> None:
    assert ApiKeys.split(text) is None


@pytest.mark.parametrize(
    "text", ["mcp_abc_tooshort", "no key at all", "mcp_abc_" + "a" * 40, "mcp_abc_changeme" + "abcdefgh12345678" * 2]
)
def test_weak_presets_are_refused_without_showing_them(text: str) -> None:
    with pytest.raises(WeakSecret) as caught:
        ApiKeys(MASTER).adopt(text, "GATEHOUSE_ADMIN_API_KEY")
    assert "GATEHOUSE_ADMIN_API_KEY" in caught.value.message
    assert text not in caught.value.message


def test_a_strong_preset_is_taken_as_it_is() -> None:
    text = "mcp_preset_Zk3v9QpX_7LwRtYbN2cHs8uJd4eFgA1m"
    assert ApiKeys(MASTER).adopt(text, "X").text == text


async def test_passwords() -> None:
    passwords = Passwords()
    stored = await passwords.hash("correct horse")
    assert stored.startswith("$argon2id$")
    assert await passwords.verify("correct horse", stored)
    assert not await passwords.verify("wrong horse", stored)
    assert not await passwords.verify("correct horse", None)
    assert not await passwords.verify("correct horse", "no hash")


async def test_an_unknown_user_costs_an_argon2_with_the_same_parameters() -> None:
    passwords = Passwords()
    verified: list[str] = []
    passwords._verify = lambda password, stored: verified.append(stored) or True  # type: ignore[method-assign]
    assert not await passwords.verify("anything", None)
    stored = await passwords.hash("x")
    assert verified[0].rsplit("$", 2)[0] == stored.rsplit("$", 2)[0]
    assert Passwords()._verify("anything", verified[0]) is False
