"""Names of headers, arguments and JSON members that hold secrets.

A header with a credential or an identity never reaches a backend, a capture, a log or a flow. Identity proxies add most
of them: oauth2-proxy, Authelia, Authentik, Pomerium, Vouch, Kong, Envoy, and those of AWS, Azure,
Cloudflare and Google.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

# Names are compared in lower case without punctuation: authKey, auth_key and Auth-Key are equal.
_PUNCTUATION: Final = re.compile(r"[^a-z0-9]+")
_SECRET_ENDINGS: Final = (
    "authkey", "apikey", "applicationkey", "appkey", "accesskey", "secretkey", "privatekey", "licensekey", "insertkey",
    "signingkey", "password", "passwd", "passphrase", "pwd", "token", "secret", "credential", "credentials", "cookie",
    "authorization", "signature", "assertion", "sessionid", "jwt",
)  # fmt: skip
_SECRET_NAMES: Final = frozenset(("p", "pass", "sig", "auth", "sid", "code"))
"""``p`` is how InfluxDB's clients send the password."""
_NO_SECRET: Final = frozenset(("accesscontrolallowcredentials",))

_LONGEST_CACHED: Final = 64  # characters

_IDENTITY_HEADERS: Final = frozenset((
    "cfaccessauthenticateduseremail", "clientcert", "clientcertchain", "dpop", "remoteemail", "remotegroups",
    "remotename", "remoteuser", "sslclientcert", "xamznmtlsclientcert", "xamznmtlsclientcertleaf",
    "xapigatewayapiuserinfo", "xclientcert", "xendpointapiuserinfo", "xforwardedclientcert", "xforwardedemail",
    "xforwardedgroups", "xforwardedpreferredusername", "xforwardedroles", "xforwardeduser", "xgrafanaid",
    "xgrafanauser", "xidtokenpayload", "xjwtclaims", "xjwtpayload", "xremoteemail", "xremotegroups",
    "xremoteuser", "xsslclientcert", "xuserinfo", "xwebauthemail", "xwebauthuser",
))  # fmt: skip
_IDENTITY_PREFIXES: Final = (
    "xauthrequest", "xamznoidc", "xmstoken", "xmsclientprincipal", "xgoogiap", "xgoogauthenticateduser", "xauthentik",
    "xpomerium", "xvouch", "xauthuser",
)  # fmt: skip


def is_secret_name(name: str) -> bool:
    """Return whether a header, an argument or a JSON member of this name holds a secret."""
    return _is_secret_name(name) if len(name) <= _LONGEST_CACHED else _is_secret_name.__wrapped__(name)


@lru_cache(maxsize=4096)
def _is_secret_name(name: str) -> bool:
    folded = _folded(name)
    return (folded.endswith(_SECRET_ENDINGS) or folded in _SECRET_NAMES) and folded not in _NO_SECRET


def is_credential_header(name: bytes) -> bool:
    """Return whether a header of this name, in any case, holds an identity or a credential."""
    text = name.decode("latin-1")
    folded = _folded(text)
    return folded in _IDENTITY_HEADERS or folded.startswith(_IDENTITY_PREFIXES) or is_secret_name(text)


def _folded(name: str) -> str:
    return _PUNCTUATION.sub("", name.lower())
