"""The typed settings: their fields are the flags of the table."""

from __future__ import annotations

from dataclasses import fields
from typing import Literal

import pytest

from vmgw_core.configuration import FLAGS, ClientTLS, Kind, Settings, option_name, parse
from vmgw_core.configuration.table import settings_of, value_of

TYPES = {
    Kind.BOOL: "bool",
    Kind.INT: "int",
    Kind.SIZE: "int",
    Kind.FLOAT: "float",
    Kind.DURATION: "float",
    Kind.STRING: "str",
    Kind.ARRAY: "tuple[str, ...]",
}


def test_the_fields_have_the_names_and_types_of_their_flags() -> None:
    found = {field.name: (field.type, type(field.default), field.default) for field in fields(Settings)}
    wanted = {
        option_name(flag).removeprefix("vmgw_"): (TYPES[flag.kind], type(flag.default), flag.default) for flag in FLAGS
    }
    assert list(found.items()) == list(wanted.items())


def test_settings_of_values_by_the_names_of_flags() -> None:
    made = settings_of({"read.url": ("http://vm",), "http.maxHeaders": 7})
    assert made == Settings(read_url=("http://vm",), http_max_headers=7)
    assert {flag.name: value_of(flag, made) for flag in FLAGS if value_of(flag, made) != flag.default} == {
        "read.url": ("http://vm",),
        "http.maxHeaders": 7,
    }


@pytest.mark.parametrize("side", ["read", "write", "datasource", "traces"])
def test_the_tls_of_one_side(side: Literal["read", "write", "datasource", "traces"]) -> None:
    flags = ("tlsCAFile=ca", "tlsCertFile=cert", "tlsKeyFile=key", "tlsServerName=name", "tlsInsecureSkipVerify")
    settings = parse([f"-{side}.{flag}" for flag in flags], {}).settings
    expected = ClientTLS(
        side=side, ca_file="ca", cert_file="cert", key_file="key", server_name="name", insecure_skip_verify=True
    )
    assert (settings.client_tls(side), settings.client_tls(side).side) == (expected, side)
    others: list[Literal["auth", "read", "write", "datasource", "traces"]]
    others = ["auth", "read", "write", "datasource", "traces"]
    for other in others:
        if other != side:
            assert settings.client_tls(other) == Settings().client_tls(side), "the name of the side is not compared"


def test_the_tls_of_providers_is_always_verified() -> None:
    flags = ("tlsCAFile=ca", "tlsCertFile=cert", "tlsKeyFile=key", "tlsServerName=name")
    settings = parse([f"-auth.{flag}" for flag in flags], {}).settings
    expected = ClientTLS(ca_file="ca", cert_file="cert", key_file="key", server_name="name")
    assert (settings.client_tls("auth"), settings.client_tls("auth").side) == (expected, "auth")
    assert "auth.tlsInsecureSkipVerify" not in {flag.name for flag in FLAGS}
