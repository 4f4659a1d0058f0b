"""``vmgateway token``: tokens for development. Production has an identity provider."""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from vmgw_core.base import TenantID
from vmgw_core.configuration import parse_duration
from vmgw_core.errors import ConfigurationError, TokenExpired, TokenNotYetValid, TokenRefused
from vmgw_core.explain import JudgedToken, judge_token
from vmgw_core.tokens import MIN_RSA_BITS, TokenVerifier

from .arguments import TOKEN_VARIABLE, Arguments, find_token, read_arguments, read_file, read_time

HELP = f"""\
Usage: vmgateway token [options]
       vmgateway token decode [-flag[=value] ...] [options] [TOKEN]

Makes a signed token for development and prints it; or decodes a token and shows
what it grants.

Examples:
  vmgateway token --new-key=private.pem --public-key=public.pem \\
    --tenant=1:5 --label=team=dev --mode=read > token
  vmgateway token --key=private.pem --alg=PS256 \\
    --filter='{{env=~"prod|dev"}}' --expires=30m
  vmgateway token decode --token-file=token
  vmgateway token decode -auth.publicKeyFiles=public.pem --token-file=token

Options to make one:
  --key=FILE           sign with this private key: PEM, or a JSON Web Key
  --new-key=FILE       make a key and write it to this new file, readable by its
                       owner only
  --public-key=FILE    write the public key to this new file, for
                       -auth.publicKeyFiles
  --alg=NAME           RS256, RS384, RS512, ES256, ES384, ES512, PS256, PS384 or
                       PS512 (default: the key's algorithm; ES256 for a new key)
  --kid=NAME           the key ID in the header
  --tenant=N[:P]       the tenant (default 0:0)
  --label=NAME=VALUE   an enforced label; may be repeated
  --filter=SELECTOR    an enforced filter; may be repeated, then one of
                       them must match
  --mode=MODE          read, write or full (default full)
  --expires=DURATION   lifetime of the token (default 1h)
  --claim=NAME=JSON    a further claim, such as --claim='sub="grafana"'

Options to decode one:
  TOKEN, --token, --token-file, or the variable {TOKEN_VARIABLE};
                       - reads standard input
  --time=TIME          verify at this time: Unix seconds, or as in
                       2026-01-31T12:00:00Z (default now)
  --jwks-file=FILE     verify with the keys of a JSON Web Key Set
  --json               print JSON
The gateway's flags for keys (vmgateway -help) verify the signature. Without
keys it is not verified.

Exit code of decode: 0 if the token is accepted, 1 if it is refused, 2 if the
input is not valid.
"""

_CURVES: Final = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}
_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_MODES: Final = {"full": 0, "read": 1, "write": 2}
_MAKE: Final = (
    "key", "new-key", "public-key", "alg", "kid", "tenant", "label", "filter", "mode", "expires", "claim",
)  # fmt: skip


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Make or decode a token. Returns the exit code."""
    if arguments and arguments[0] == "decode":
        return decode(arguments[1:], environ)
    given = read_arguments(arguments, values=_MAKE)
    if given.help_wanted:
        print(HELP, end="")
        return 0
    if given.positional or given.flags:
        raise ConfigurationError("expected options to make a token, or decode; see vmgateway token --help")
    print(make(given, time.time()))
    return 0


# --- making --------------------------------------------------------------------------------------------------------


def make(given: Arguments, now: float) -> str:
    """Make a token, and write its key if that was asked for.

    Raises:
        ConfigurationError: an option is not valid, or the gateway would refuse the token.
    """
    claims = read_claims(given, now)
    path, new = given.last("key"), given.last("new-key")
    if (path is None) == (new is None):
        raise ConfigurationError("give --key=FILE to sign with that key, or --new-key=FILE to make one")
    key = read_key(path) if path is not None else generate(given.last("alg") or "ES256")
    alg = algorithm(key, given.last("alg"))
    header = {"alg": alg, "typ": "JWT"} | ({} if (kid := given.last("kid")) is None else {"kid": kid})
    token = jwt.encode(header, claims, key, algorithms=[alg])
    try:
        TokenVerifier(None).verify(token, now)
    except (TokenExpired, TokenNotYetValid):
        pass  # --claim asked for it
    except TokenRefused as refusal:
        raise ConfigurationError(f"the gateway would refuse this token: {refusal.message}") from None
    public = given.last("public-key")
    if public is not None and Path(public).exists():
        raise ConfigurationError(f"--public-key: {public} exists; it is not overwritten")
    if new is not None:
        write("--new-key", new, key.as_pem(private=True), mode=0o600)
    if public is not None:
        write("--public-key", public, key.as_pem(private=False), mode=0o644)
    return token


def read_claims(given: Arguments, now: float) -> dict[str, object]:
    """Make the claims from the options. Raises ``ConfigurationError``."""
    access: dict[str, object] = {}
    try:
        tenant = TenantID.parse(given.last("tenant") or "0:0")
    except ValueError as error:
        raise ConfigurationError(f"--tenant: {error}") from None
    access["tenant_id"] = {"account_id": tenant.account_id, "project_id": tenant.project_id}
    labels = [item.partition("=") for item in given.options.get("label", [])]
    if any(not equals for _, equals, _ in labels):
        raise ConfigurationError("--label: expected NAME=VALUE")
    if labels:
        access["extra_labels"] = {name: value for name, _, value in labels}
    if given.has("filter"):
        access["extra_filters"] = given.options["filter"]
    mode = given.last("mode") or "full"
    if mode not in _MODES:
        raise ConfigurationError("--mode: expected read, write or full")
    if _MODES[mode]:
        access["mode"] = _MODES[mode]
    try:
        lifetime = parse_duration(given.last("expires") or "1h")
    except ValueError as error:
        raise ConfigurationError(f"--expires: {error}") from None
    claims: dict[str, object] = {"iat": int(now), "exp": int(now + lifetime), "vm_access": access}
    for item in given.options.get("claim", []):
        name, _, text = item.partition("=")
        try:
            claims[name] = json.loads(text)
        except ValueError:
            raise ConfigurationError(f"--claim {name[:40]}: expected NAME=JSON, such as sub='\"grafana\"'") from None
    return claims


def generate(alg: str) -> RSAKey | ECKey:
    """Generate a key for ``alg``. Raises ``ConfigurationError`` if there is no such algorithm."""
    if alg in _CURVES:
        return ECKey.generate_key(_CURVES[alg])
    if alg in _RSA:
        return RSAKey.generate_key(MIN_RSA_BITS)
    raise ConfigurationError(f"--alg: expected one of {', '.join((*_RSA, *_CURVES))}")


def read_key(path: str) -> RSAKey | ECKey:
    """Read the private key in a file. Raises ``ConfigurationError``, without any part of the key."""
    data = read_file("--key", path)
    for kind in (ECKey, RSAKey):
        try:
            with warnings.catch_warnings(action="ignore"):  # about small keys, which are refused below
                key = kind.import_key(json.loads(data) if data.lstrip().startswith(b"{") else data)
        except (JoseError, ValueError, TypeError):
            continue
        if not key.is_private:
            raise ConfigurationError(f"--key: {path} holds a public key; signing needs the private one")
        return key
    raise ConfigurationError(f"--key: {path} holds no RSA or EC private key, or an encrypted one")


def algorithm(key: RSAKey | ECKey, wanted: str | None) -> str:
    """Choose the algorithm to sign with. Raises ``ConfigurationError`` if the key does not fit."""
    curves = {curve: alg for alg, curve in _CURVES.items()}
    usable = _RSA if isinstance(key, RSAKey) else tuple(filter(None, [curves.get(key.curve_name)]))
    if isinstance(key, RSAKey) and key.public_key.key_size < MIN_RSA_BITS:
        raise ConfigurationError(f"--key: the gateway refuses RSA keys of less than {MIN_RSA_BITS} bits")
    if not usable or (wanted is not None and wanted not in usable):
        raise ConfigurationError(f"--alg: the key is for {' or '.join(usable) or 'none of the algorithms'}")
    return wanted or usable[0]


def write(option: str, path: str, data: bytes, *, mode: int) -> None:
    """Write a new file with these permissions. Raises ``ConfigurationError``, also if it exists."""
    try:
        with os.fdopen(os.open(Path(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
    except FileExistsError:
        raise ConfigurationError(f"{option}: {path} exists; it is not overwritten") from None
    except OSError as error:
        raise ConfigurationError(f"{option}: cannot write {path}: {error.strerror}") from None


# --- decoding ------------------------------------------------------------------------------------------------------


def decode(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Decode a token, and print what it grants. Returns the exit code. Raises ``ConfigurationError``."""
    given = read_arguments(arguments, values=("token", "token-file", "time", "jwks-file"), switches=("json",))
    if given.help_wanted:
        print(HELP, end="")
        return 0
    if given.positional and not given.has("token"):
        given.options["token"] = [sys.stdin.read() if given.positional == ["-"] else given.positional[-1]]
    text = find_token(given, environ)
    if not text:
        raise ConfigurationError(f"give a token, as an argument, with --token-file or in {TOKEN_VARIABLE}")
    from .policy import make_policy, with_defaults  # which load most of the gateway

    now = read_time(given.last("time"))
    policy = make_policy(with_defaults(given.settings(environ)), now, given.last("jwks-file"))
    story: JudgedToken = judge_token(policy.verifier, text, now)
    print(json.dumps(story.as_json(), indent=2) + "\n" if given.has("json") else story.as_text(), end="")
    return 0 if story.refusal is None else 1
