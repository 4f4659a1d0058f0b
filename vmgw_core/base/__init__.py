"""What every package of the core builds on: readers of untrusted JSON, and the names of tenants.

A tenant is two numbers, and a subject is a tenant with the labels of a token. Both are needed by packages that
know nothing of tokens, so they are here and not there.
"""

from __future__ import annotations

from .bounded_cache import OBJECT_BYTES, BoundedCache, text_bytes
from .secret_names import is_credential_header, is_secret_name
from .strict_json import (
    FieldError,
    as_integer,
    as_list,
    as_number,
    as_object,
    as_text,
    get_integer,
    get_list,
    get_object,
    get_text,
    load_object,
    require,
    shown,
)
from .tenants import MAX_NUMBER, Access, Labels, Subject, TenantID
from .urls import HIDDEN, is_http_url, without_credentials

__all__ = [
    "HIDDEN",
    "MAX_NUMBER",
    "OBJECT_BYTES",
    "Access",
    "BoundedCache",
    "FieldError",
    "Labels",
    "Subject",
    "TenantID",
    "as_integer",
    "as_list",
    "as_number",
    "as_object",
    "as_text",
    "get_integer",
    "get_list",
    "get_object",
    "get_text",
    "is_credential_header",
    "is_http_url",
    "is_secret_name",
    "load_object",
    "require",
    "shown",
    "text_bytes",
    "without_credentials",
]
