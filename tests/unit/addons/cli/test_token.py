"""``vmgateway token``: what it makes is good, what it writes is private, what it decodes is told without a secret."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.core import keys
from vmgw_addons.cli import main
from vmgw_addons.cli.token import HELP
from vmgw_core.tokens.algorithms import ALGORITHMS
from vmgw_core.tokens.keys import KeySet, keys_from_pem
from vmgw_core.tokens.unverified import peek
from vmgw_core.tokens.verifier import Token, TokenVerifier

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, environ: Mapping[str, str] | None = None) -> tuple[int, str, str]:
        code = main.main(["token", *arguments], environ or {})
        out, err = capsys.readouterr()
        return code, out.removesuffix("\n"), err

    return call


def verified(token: str, public: str = "public.pem") -> Token:
    keyset = KeySet(keys_from_pem(Path(public).read_bytes(), public))
    return TokenVerifier(keyset).verify(token, time.time())


NEW = ("--new-key=private.pem", "--public-key=public.pem")


@pytest.mark.parametrize("alg", sorted(ALGORITHMS))
def test_every_algorithm(run: Run, alg: str) -> None:
    code, token, err = run(*NEW, f"--alg={alg}")
    assert (code, err) == (0, "")
    assert verified(token)
    assert (peek(token).header or {})["alg"] == alg
    again = run("--key=private.pem", f"--alg={alg}")[1]
    assert verified(again)
    assert (peek(again).header or {})["alg"] == alg


def test_the_private_key_is_private(run: Run) -> None:
    run(*NEW)
    assert Path("private.pem").stat().st_mode & 0o777 == 0o600
    assert "PRIVATE KEY" in Path("private.pem").read_text()
    assert "PRIVATE" not in Path("public.pem").read_text()


@pytest.mark.parametrize("existing", ["private.pem", "public.pem"])
def test_no_file_is_overwritten(run: Run, existing: str) -> None:
    Path(existing).write_text("mine")
    code, out, err = run(*NEW)
    assert (code, out) == (2, "")
    assert f"{existing} exists; it is not overwritten" in err
    assert Path(existing).read_text() == "mine"
    assert [path.name for path in Path().iterdir()] == [existing]


def test_what_a_token_carries(run: Run) -> None:
    options = ["--tenant=1:5", "--label=team=dev", "--label=env=a=b", '--filter={x="y"}', '--filter={x="z"}']
    options += ["--mode=read", "--expires=30m", "--kid=first", '--claim=sub="grafana"', "--claim=scope=[]"]
    before = int(time.time())
    text = run(*NEW, *options)[1]
    token = verified(text)
    [claim] = token.grants.alternatives
    assert str(claim.tenant) == "1:5"
    assert claim.labels == (("team", "dev"), ("env", "a=b"))
    assert claim.filters == ('{x="y"}', '{x="z"}')
    assert claim.mode.name == "READ"
    assert before + 1800 <= token.expires_at <= time.time() + 1800
    assert token.subject == "grafana"
    assert (peek(text).header or {})["kid"] == "first"


def test_a_json_web_key(run: Run) -> None:
    private = keys.ec_key().private_numbers().private_value
    Path("key.json").write_text(json.dumps(keys.jwk(keys.ec_key(), d=keys.number(private, 32))))
    Path("public.pem").write_text(keys.pem(keys.ec_key()))
    token = run("--key=key.json")[1]
    assert verified(token)
    assert (peek(token).header or {})["alg"] == "ES256"


def test_an_expired_token_can_be_made(run: Run) -> None:
    code, token, _ = run(*NEW, "--claim=exp=5")
    assert code == 0
    assert run("decode", token)[1].startswith("REFUSED  expired: ")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ([], "give --key=FILE to sign with that key, or --new-key=FILE"),
        (["--key=a", "--new-key=b"], "give --key=FILE to sign with that key, or --new-key=FILE"),
        (["--key=nowhere"], "--key: cannot read nowhere"),
        (["--key=public.pem"], "holds a public key"),
        (["--key=garbage"], "holds no RSA or EC private key"),
        (["--key=small.pem"], "less than 2048 bits"),
        (["--key=secp256k1.pem"], "the key is for none of the algorithms"),
        (["--key=private.pem", "--alg=PS256"], "the key is for ES256"),
        (["--new-key=x", "--alg=HS256"], "--alg: expected one of"),
        (["--new-key=nowhere/x"], "--new-key: cannot write nowhere/x"),
        (["--new-key=x", "--tenant=a"], "--tenant: "),
        (["--new-key=x", "--label=a"], "--label: expected NAME=VALUE"),
        (["--new-key=x", "--label=a="], "the gateway would refuse this token: vm_access.extra_labels.a"),
        (["--new-key=x", "--filter={"], "the gateway would refuse this token: vm_access.extra_filters[0]"),
        (["--new-key=x", "--mode=all"], "--mode: expected read, write or full"),
        (["--new-key=x", "--expires=soon"], "--expires: "),
        (["--new-key=x", "--claim=a=b"], "--claim a: expected NAME=JSON"),
        (["--new-key"], "--new-key: the value is missing"),
        (["--nothing"], "expected options to make a token, or decode"),
        (["something"], "expected options to make a token, or decode"),
    ],
)
def test_bad_input(run: Run, options: list[str], reason: str) -> None:
    Path("private.pem").write_text(keys.private_pem(keys.ec_key()))
    Path("public.pem").write_text(keys.pem(keys.ec_key()))
    Path("garbage").write_text("garbage")
    Path("small.pem").write_text(_small_rsa_key())
    Path("secp256k1.pem").write_text(keys.private_pem(keys.ec_key("secp256k1")))
    code, out, err = run(*options)
    assert (code, out) == (2, "")
    assert err.startswith("vmgateway token: ")
    assert reason in err
    assert err.count("\n") == 1
    assert not Path("x").exists()


def _small_rsa_key() -> str:
    from cryptography.hazmat.primitives.asymmetric import rsa

    return keys.private_pem(rsa.generate_private_key(public_exponent=65537, key_size=1024))  # noqa: S505


# --- decoding ------------------------------------------------------------------------------------------------------


@pytest.fixture
def token(run: Run) -> str:
    made: str = run(*NEW, "--tenant=1:5", "--mode=write")[1]
    return made


def test_decode(run: Run, token: str) -> None:
    code, out, err = run("decode", "-auth.publicKeyFiles=public.pem", token)
    assert (code, err) == (0, "")
    assert out.startswith("GOOD  verified with -auth.publicKeyFiles public.pem (EC, thumbprint ")
    assert "It grants\n  tenant 1:5, mode write\n  read: no\n  write: " in out
    assert token.rpartition(".")[2] not in out


def test_decode_from_elsewhere(run: Run, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("token").write_text(token)
    assert run("decode", "--token-file=token")[0] == 0
    assert run("decode", environ={"VMGATEWAY_TOKEN": token})[0] == 0
    with Path("token").open() as file:
        monkeypatch.setattr("sys.stdin", file)
        assert run("decode", "-")[0] == 0


def test_decode_as_json(run: Run, token: str) -> None:
    document: Any = json.loads(run("decode", "--json", token)[1])
    assert document["access"] == {"tenant": "1:5", "mode": "write", "labels": [], "filters": []}
    assert document["token"]["verified"] is False
    assert document["refusal"] is None


def test_decode_what_is_refused(run: Run, token: str) -> None:
    code, out, _ = run("decode", "--time=2100-01-01T00:00:00Z", token)
    assert (code, out.partition("\n")[0].startswith("REFUSED  expired")) == (1, True)
    assert run("decode", "garbage")[0] == 1


def test_decode_needs_a_token(run: Run) -> None:
    code, out, err = run("decode")
    assert (code, out) == (2, "")
    assert "give a token" in err


@pytest.mark.parametrize("arguments", [["--help"], ["-help"], ["-h"], ["decode", "--help"]])
def test_help(run: Run, arguments: list[str]) -> None:
    assert run(*arguments) == (0, HELP.removesuffix("\n"), "")
