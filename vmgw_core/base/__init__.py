"""What every package of the core builds on: readers of untrusted JSON, text for messages, and tenants."""

from .bounded_cache import OBJECT_BYTES, BoundedCache, text_bytes
from .printable import CONTROL, printable, quoted
from .promql import string_literal
from .scoped import ScopedRules, scope_of
from .secret_names import is_credential_header, is_secret_name
from .strict_json import (
    FieldError,
    as_integer,
    as_list,
    as_number,
    as_object,
    as_text,
    child,
    load_object,
    optional,
    required,
    shown,
)
from .tenants import MAX_NUMBER, MULTITENANT, Access, Labels, Subject, TenantID, tenant_name
from .urls import HIDDEN, is_http_url, without_credentials
from .value import Value
from .yaml_nodes import YamlFile

__all__ = [
    "CONTROL", "HIDDEN", "MAX_NUMBER", "MULTITENANT", "OBJECT_BYTES", "Access", "BoundedCache", "FieldError", "Labels",
    "ScopedRules", "Subject", "TenantID", "Value", "YamlFile", "as_integer", "as_list", "as_number", "as_object",
    "as_text", "child", "is_credential_header", "is_http_url", "is_secret_name", "load_object", "optional", "printable",
    "quoted", "required", "scope_of", "shown", "string_literal", "tenant_name", "text_bytes", "without_credentials",
]  # fmt: skip
