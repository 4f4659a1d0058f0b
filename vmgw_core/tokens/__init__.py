"""Tokens: their keys, signatures, claims, and the access that they grant.

Keys and signatures follow RFC 7515, RFC 7517 and RFC 7519; the claim ``vm_access`` grants access. Only ``unverified``
reads tokens without a verified signature, and no decision uses it.
"""

from .claims import VM_ACCESS, AccessMode, VMAccessClaim
from .grants import Grants
from .keyring import KEY_WAIT, Fetch, KeyRing
from .keys import (
    MIN_RSA_BITS,
    IssuerPattern,
    KeyDocumentError,
    KeySet,
    VerificationKey,
    keys_from_jwks,
    keys_from_pem,
    told,
)
from .rules import ClaimPath, RequiredClaim, TokenRules
from .selector import MAX_BYTES as MAX_SELECTOR
from .selector import Matcher, Selector, SelectorError, parse_selector
from .source import BasicCredentials, TokenSource, as_bearer, is_api_key, without_api_keys
from .unverified import peek
from .verifier import Token, TokenVerifier, judge_times

__all__ = [
    "KEY_WAIT", "MAX_SELECTOR", "MIN_RSA_BITS", "VM_ACCESS", "AccessMode", "BasicCredentials", "ClaimPath", "Fetch",
    "Grants", "IssuerPattern", "KeyDocumentError", "KeyRing", "KeySet", "Matcher", "RequiredClaim", "Selector",
    "SelectorError", "Token", "TokenRules", "TokenSource", "TokenVerifier", "VMAccessClaim", "VerificationKey",
    "as_bearer", "is_api_key", "judge_times", "keys_from_jwks", "keys_from_pem", "parse_selector", "peek", "told",
    "without_api_keys",
]  # fmt: skip
