"""Tokens: their keys, signatures, claims, and the access that they grant.

Keys and signatures follow RFC 7515, RFC 7517 and RFC 7519; the claim ``vm_access`` grants access. Only ``unverified``
reads tokens without a verified signature, and no decision uses it.
"""

from .claims import AccessMode, VMAccessClaim
from .keyring import Fetch, KeyRing
from .keys import MIN_RSA_BITS, IssuerPattern, KeyDocumentError, KeySet, VerificationKey, keys_from_jwks, keys_from_pem
from .rules import DEFAULT_MAX_LENGTH, NO_RULES, RequiredClaim, TokenRules
from .selector import Matcher, parse_selector
from .signature import candidates_for, parse_compact, verify
from .unverified import peek
from .verifier import DEFAULT_CACHE_BYTES, Token, TokenVerifier, judge_times, read_claims, token_from_header

__all__ = [
    "DEFAULT_CACHE_BYTES", "DEFAULT_MAX_LENGTH", "MIN_RSA_BITS", "NO_RULES", "AccessMode", "Fetch", "IssuerPattern",
    "KeyDocumentError", "KeyRing", "KeySet", "Matcher", "RequiredClaim", "Token", "TokenRules", "TokenVerifier",
    "VMAccessClaim", "VerificationKey", "candidates_for", "judge_times", "keys_from_jwks", "keys_from_pem",
    "parse_compact", "parse_selector", "peek", "read_claims", "token_from_header", "verify",
]  # fmt: skip
