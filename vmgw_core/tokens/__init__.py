"""Tokens: their keys, signatures, claims, and the access that they grant.

Keys and signatures follow RFC 7515, RFC 7517 and RFC 7519; the claim ``vm_access`` grants access. Only ``unverified``
reads tokens without a verified signature, and no decision uses it.
"""

from .claims import AccessMode, VMAccessClaim
from .keyring import Fetch, KeyRing
from .keys import MIN_RSA_BITS, IssuerPattern, KeyDocumentError, KeySet, VerificationKey, keys_from_jwks, keys_from_pem
from .rules import RequiredClaim, TokenRules
from .selector import Matcher, parse_selector
from .unverified import peek
from .verifier import Token, TokenVerifier, token_from_header

__all__ = [
    "MIN_RSA_BITS", "AccessMode", "Fetch", "IssuerPattern", "KeyDocumentError", "KeyRing", "KeySet", "Matcher",
    "RequiredClaim", "Token", "TokenRules", "TokenVerifier", "VMAccessClaim", "VerificationKey", "keys_from_jwks",
    "keys_from_pem", "parse_selector", "peek", "token_from_header",
]  # fmt: skip
