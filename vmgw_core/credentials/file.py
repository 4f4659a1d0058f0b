"""The file of ``-auth.credentialsFile``: YAML text -> credentials.

::

    keys:
      - name: vmagent-eu
        sha256: 5f0c...             # of the whole API key; vmgateway credentials key makes both
        grant: {tenant: "1:0", labels: {region: eu}, mode: write}
    users:
      - name: grafana
        password: $scrypt$ln=15,r=8,p=1$...   # vmgateway credentials hash makes it
        claims: {groups: [team-web]}          # or: what -auth.policy makes of these claims
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Final

import yaml

from vmgw_core.access.file import GrantFile
from vmgw_core.base.yaml_nodes import child, line_of
from vmgw_core.errors import InvalidClaims, TokenRefused
from vmgw_core.tokens import Grants, Token

from .passwords import PasswordHash
from .store import Credentials

MAX_BYTES: Final = 1 << 20
MAX_ENTRIES: Final = 10_000

_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NAME: Final = re.compile(r"[^\x00-\x20\x7f:]+(?: [^\x00-\x20\x7f:]+)*")


def read_credentials(
    text: str | bytes, name: str, *, grants: Callable[[Mapping[str, object]], Grants], seed: bytes
) -> Credentials:
    """Read the whole text of a file; ``name`` has no credentials.

    Args:
        grants: what claims grant; raises ``TokenRefused``.
        seed: 32 random bytes.

    Raises ``ConfigurationError``, which names the file, the line, the key and what was expected there.
    """
    return _File(name, grants).read(text, seed)


class _File(GrantFile):
    def __init__(self, name: str, grants: Callable[[Mapping[str, object]], Grants]) -> None:
        super().__init__(name)
        self._grants = grants
        self._lines: dict[str, int] = {}
        """The line of each name."""

    def read(self, text: str | bytes, seed: bytes) -> Credentials:
        root = self.compose(self.decoded(text, MAX_BYTES))
        fields = dict(self.members(root, "", ("keys", "users")))
        if not fields:
            self.refuse("expected keys or users", root)
        keys: dict[bytes, Token] = {}
        for node, path in self.entries(fields, "keys"):
            entry = self.entry(node, path, "sha256")
            digest = self.scalar(entry["sha256"], child(path, "sha256"))
            if not _SHA256.fullmatch(digest):
                self.refuse(f"{path}.sha256: expected 64 hexadecimal digits in lower case", entry["sha256"])
            if bytes.fromhex(digest) in keys:
                self.refuse(f"{path}.sha256: another key has this hash already", entry["sha256"])
            keys[bytes.fromhex(digest)] = self.token(entry, node, path, "key")
        users: dict[bytes, tuple[PasswordHash, Token]] = {}
        costs: set[tuple[int, int]] = set()
        for node, path in self.entries(fields, "users"):
            entry = self.entry(node, path, "password")
            try:
                known = PasswordHash.parse(self.text(entry["password"], child(path, "password")))
            except ValueError as error:
                self.refuse(f"{path}.password: {error}", entry["password"])
            costs.add(known.cost)
            if len(costs) > 1:
                # Else the time of a refusal would tell which users there are.
                self.refuse(f"{path}.password: ln and p must be those of the users before", entry["password"])
            token = self.token(entry, node, path, "user")
            users[str(token.subject).encode()] = (known, token)
        return Credentials(keys=keys, users=users, seed=seed, limit_classes=self.limit_classes)

    def entries(self, fields: Mapping[str, yaml.Node], kind: str) -> list[tuple[yaml.Node, str]]:
        """Return the entries of a list, with their paths."""
        if kind not in fields:
            return []
        items = self.items(fields[kind], kind, "a list of entries")
        if len(items) > MAX_ENTRIES:
            self.refuse(f"{kind}: more than {MAX_ENTRIES} entries", fields[kind])
        return [(item, f"{kind}[{index}]") for index, item in enumerate(items)]

    def entry(self, node: yaml.Node, path: str, secret: str) -> dict[str, yaml.Node]:
        """Return the members of an entry."""
        entry = dict(self.members(node, path, ("name", secret, "grant", "claims")))
        for key in ("name", secret):
            if key not in entry:
                self.refuse(f"{child(path, key)}: missing", node)
        if ("grant" in entry) == ("claims" in entry):
            self.refuse(f"{path}: expected either grant or claims", node)
        return entry

    def token(self, entry: Mapping[str, yaml.Node], node: yaml.Node, path: str, kind: str) -> Token:
        """Return what the credential of an entry gives."""
        name = self.text(entry["name"], child(path, "name"))
        if len(name) > 100 or not name.isprintable() or not _NAME.fullmatch(name):
            self.refuse(f"{path}.name: expected 1 to 100 printable characters without a colon", entry["name"])
        line = self._lines.setdefault(name, line_of(node))
        if line != line_of(node):
            self.refuse(f"{path}.name: the entry in line {line} has this name already", entry["name"])
        if "grant" in entry:
            template = self.grant(entry["grant"], child(path, "grant"), set())
            if template.claim is not None:
                self.refuse(f"{path}.grant.claim: a credential has no claims", entry["grant"])
            grants = Grants(alternatives=(template.fill({}, {}, child(path, "grant")),))
        else:
            try:
                grants = self._grants({"sub": name, **self.claims(entry["claims"], child(path, "claims"))})
            except (TokenRefused, InvalidClaims) as refusal:
                self.refuse(f"{path}.claims: {refusal}", entry["claims"])
        return Token(
            grants=grants,
            expires_at=math.inf,
            not_before=None,
            subject=name,
            issuer=None,
            key=None,
            credential=kind,
        )

    def claims(self, node: yaml.Node, path: str) -> dict[str, object]:
        """Return claims whose values are texts, or lists of texts."""
        found: dict[str, object] = {}
        for name, value in self.members(node, path, None):
            if name == "sub":
                self.refuse(f"{path}.sub: this is the name of the entry", value)
            place = child(path, name)
            if isinstance(value, yaml.SequenceNode):
                items = self.items(value, place, "a list")
                found[name] = [self.scalar(item, f"{place}[{index}]") for index, item in enumerate(items)]
            else:
                found[name] = self.scalar(value, place)
        return found
