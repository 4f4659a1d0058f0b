"""Keys and tokens for the tests, made with joserfc alone: nothing here is the product's code.

key = SigningKey.generate("ES256")
token = key.mint(vm_access={"tenant_id": {"account_id": 1, "project_id": 5}})
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

HOUR: Final = 3600

CURVES: Final = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}

FULL: Final[dict[str, Any]] = {"tenant_id": {}}
"""The smallest ``vm_access``: tenant 0:0, everything allowed, no labels, no filters."""

SPEC_READ: Final = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJ2bV9hY2Nlc3MiOnsidGVuYW50X2lkIjp7fSwicm9sZSI6MX0sImV4cCI6MTkzOTM0NjIxMH0"
    ".5WUxEfdcV9hKo4CtQdtuZYOGpGXWwaqM9VuVivMMrVg"
)
"""The specification's first sample: HS256, tenant 0:0, ``exp`` 1939346210."""

SPEC_CLUSTER: Final = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjE2MjAxNjIwMDAwMDAsInZtX2FjY2VzcyI6eyJ0ZW5hbnRfaWQiOnsiYWNjb3VudF9p"
    "ZCI6MTV9fX0.PB1_KXDKPUp-40pxOGk6lt_jt9Yq80PIMpWVJqSForQ"
)
"""The specification's second sample: HS256, tenant 15:0, ``exp`` 1620162000000."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A private key with the algorithm that it signs with."""

    algorithm: str
    key: RSAKey | ECKey
    kid: str | None = None

    @classmethod
    def generate(cls, algorithm: str = "ES256", *, kid: str | None = None) -> SigningKey:
        """A fresh key: RSA of 2048 bits for RS* and PS*, the algorithm's own curve for ES*."""
        curve = CURVES.get(algorithm)
        key = RSAKey.generate_key(2048) if curve is None else ECKey.generate_key(curve)
        return cls(algorithm=algorithm, key=key, kid=kid)

    @property
    def public_pem(self) -> str:
        return self.key.as_pem(private=False).decode()

    @property
    def public_jwk(self) -> dict[str, Any]:
        named = {} if self.kid is None else {"kid": self.kid}
        return {**self.key.as_dict(private=False), "alg": self.algorithm, "use": "sig", **named}

    def sign(self, claims: dict[str, Any], header: dict[str, Any] | None = None) -> str:
        """A token of exactly these claims; ``header`` adds to, or replaces, the usual one."""
        named = {} if self.kid is None else {"kid": self.kid}
        full = {"alg": self.algorithm, "typ": "JWT", **named, **(header or {})}
        return jwt.encode(full, claims, self.key, algorithms=[self.algorithm])

    def mint(self, vm_access: object = FULL, *, lifetime: int = HOUR, **claims: object) -> str:
        """A token with this ``vm_access`` that expires in ``lifetime`` seconds."""
        return self.sign({"exp": int(time.time()) + lifetime, "vm_access": vm_access, **claims})


def team(name: str, *, mode: int = 0, **vm_access: object) -> dict[str, Any]:
    """The ``vm_access`` of a team: tenant 0:0, its label ``team`` enforced. Mode 0 is full, 1 read, 2 write."""
    return {"tenant_id": {}, "extra_labels": {"team": name}, "mode": mode, **vm_access}


def tenant(account_id: int, project_id: int = 0, **vm_access: object) -> dict[str, Any]:
    return {"tenant_id": {"account_id": account_id, "project_id": project_id}, **vm_access}
