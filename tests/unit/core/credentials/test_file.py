"""The file of ``-auth.credentialsFile``: what it gives, and errors with their line."""

from __future__ import annotations

import textwrap
from contextlib import suppress
from hashlib import sha256
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.each import each
from vmgw_core.access import read_access_policy
from vmgw_core.base import TenantID
from vmgw_core.credentials import Credentials, PasswordHash, read_credentials
from vmgw_core.errors import ConfigurationError, PasswordUnchecked
from vmgw_core.tokens import AccessMode, BasicCredentials, Grants, Token

KEY = "vmgw_" + "k" * 43
DIGEST = sha256(KEY.encode()).hexdigest()
HASH = str(PasswordHash.of(b"secret", bytes(16)))
FILE = f"""\
keys:
- name: vmagent eu
  sha256: {DIGEST}
  grant: {{tenant: "1:2", labels: {{region: eu}}, filters: ['{{a="b"}}'], mode: write}}
users:
- name: grafana
  password: {HASH}
  claims: {{groups: [team-web, x], level: 3}}
"""
POLICY = """
match:
- name: teams
  when: {groups: {matches: "team-(?P<team>[a-z]+)"}, sub: grafana, level: "3"}
  grant: {labels: {team: "{team}"}, mode: read}
"""


def read(text: str) -> Credentials:
    return read_credentials(text, "file", grants=read_access_policy(POLICY, "policy").grants, seed=bytes(32))


def of_user(made: Credentials, user: bytes, password: bytes) -> Token:
    given = BasicCredentials(user, password)
    with pytest.raises(PasswordUnchecked) as caught:
        made.of_user(given)
    assert caught.value.attempt is not None
    assert caught.value.attempt.wait(Mock(), 0.0)
    made.check_all()
    return made.of_user(given)


def test_what_a_file_gives() -> None:
    made = read(FILE)
    assert len(made) == 2
    agent = made.of_key(KEY)
    [claim] = agent.grants.alternatives
    assert (claim.tenant, claim.labels, claim.filters) == (TenantID(1, 2), (("region", "eu"),), ('{a="b"}',))
    assert (claim.mode, agent.subject, agent.credential) == (AccessMode.WRITE, "vmagent eu", "key")
    grafana = of_user(made, b"grafana", b"secret")
    assert grafana.grants.sources == ("teams",)
    [claim] = grafana.grants.alternatives
    assert (claim.labels, claim.mode) == ((("team", "web"),), AccessMode.READ)
    assert (grafana.subject, grafana.credential, grafana.key) == ("grafana", "user", None)


def test_a_grant_names_a_class_of_limits() -> None:
    made = read(FILE.replace("mode: write}", "mode: write, limits: agents}"))
    assert made.of_key(KEY).grants.limit_classes() == {"agents"}
    assert made.limit_classes == {"agents": "file, line 4: keys[0].grant.limits"}
    assert read(FILE).limit_classes == {}


def test_claims_may_hold_vm_access_only_as_the_policy_says() -> None:
    with pytest.raises(ConfigurationError, match=r"^file, line 4: keys\[0\]\.claims: no entry of -auth.policy matches"):
        read(
            FILE.replace(
                'grant: {tenant: "1:2", labels: {region: eu}, filters: [\'{a="b"}\'], mode: write}', "claims: {a: b}"
            )
        )


def test_without_a_policy_claims_grant_nothing() -> None:
    with pytest.raises(ConfigurationError, match=r"^file, line 8: users\[0\]\.claims: missing `vm_access` claim"):
        read_credentials(FILE, "file", grants=Grants.from_claims, seed=bytes(32))


def test_a_name_in_other_alphabets() -> None:
    made = read(
        FILE.replace("name: grafana", "name: jörg").replace("claims: {groups: [team-web, x], level: 3}", "grant: {}")
    )
    assert of_user(made, "jörg".encode(), b"secret").subject == "jörg"


USER = f"users: [{{name: u, password: '{HASH}', grant: {{}}}}"


def with_user(old: str, new: str) -> str:
    """A file with one user, changed."""
    return USER.replace(old, new) + "]"


@each(
    ("text", "message"),
    [
        ("", ": the file is empty"),
        ("{}", "1: expected keys or users"),
        ("[]", "1: the file: expected keys and values, got a list"),
        ("tokens: []", "1: tokens: unknown key; known are keys, users"),
        ("keys: {}", "1: keys: expected a list of entries, got keys and values"),
        (f"keys:\n- name: a\n  sha256: {DIGEST}", "2: keys[0]: expected either grant or claims"),
        (
            f"keys:\n- {{name: a, sha256: {DIGEST}, grant: {{}}, claims: {{}}}}",
            "2: keys[0]: expected either grant or claims",
        ),
        ("keys:\n- {sha256: a, grant: {}}", "2: keys[0].name: missing"),
        ("keys:\n- {name: a, grant: {}}", "2: keys[0].sha256: missing"),
        (
            "keys:\n- {name: a, sha256: ABC, grant: {}}",
            "2: keys[0].sha256: expected 64 hexadecimal digits in lower case",
        ),
        (f"keys:\n- {{name: a, password: '{HASH}', grant: {{}}}}", "2: keys[0].password: unknown key"),
        (
            f"keys:\n- {{name: a, sha256: {DIGEST}, grant: {{}}}}\n- {{name: b, sha256: {DIGEST}, grant: {{}}}}",
            "3: keys[1].sha256: another key has this hash already",
        ),
        (
            f"keys:\n- {{name: u, sha256: {DIGEST}, grant: {{}}}}\n{USER}]",
            "3: users[0].name: the entry in line 2 has this name already",
        ),
        ("users:\n- {name: u, password: secret, grant: {}}", "2: users[0].password: expected a line of vmgateway"),
        (
            USER + f",\n {{name: v, password: '{HASH.replace('ln=15', 'ln=14')}', grant: {{}}}}]",
            "2: users[1].password: ln and p must be those of the users before",
        ),
        (with_user("name: u", 'name: "a:b"'), "1: users[0].name: expected 1 to 100 printable"),
        (with_user("name: u", 'name: " a"'), "1: users[0].name: expected 1 to 100 printable"),
        (with_user("name: u", 'name: "a\\u0000"'), "1: users[0].name: expected 1 to 100 printable"),
        (with_user("name: u", f"name: {'u' * 101}"), "1: users[0].name: expected 1 to 100 printable"),
        (with_user("grant: {}", "grant: {mode: all}"), "1: users[0].grant.mode: expected full or read or write"),
        (with_user("grant: {}", "grant: {labels: {a: '{b}'}}"), "1: users[0].grant: no condition captures {b}"),
        (with_user("grant: {}", "grant: {claim: a}"), "1: users[0].grant.claim: a credential has no claims"),
        (with_user("grant: {}", "claims: {sub: a}"), "1: users[0].claims.sub: this is the name of the entry"),
        (with_user("grant: {}", "claims: {a: {b: c}}"), "1: users[0].claims.a: expected a value, got keys and values"),
        ("users: [" + "a," * 10_001 + "]", "1: users: more than 10000 entries"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_valid(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(textwrap.dedent(text))
    assert str(caught.value).startswith(f"file{message}" if message.startswith(":") else f"file, line {message}")
    assert HASH[-20:] not in str(caught.value)


@given(
    st.binary(max_size=200) | st.text(max_size=200) | st.sampled_from([FILE[:cut] for cut in range(0, len(FILE), 7)])
)
def test_any_bytes_are_credentials_or_an_error(text: bytes | str) -> None:
    with suppress(ConfigurationError):
        assert read_credentials(text, "file", grants=read_access_policy(POLICY, "p").grants, seed=bytes(32)) is not None
