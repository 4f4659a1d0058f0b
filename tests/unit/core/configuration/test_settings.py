"""The typed settings: their fields are the flags of the table."""

from __future__ import annotations

from dataclasses import fields
from itertools import groupby
from typing import Literal

import pytest

from vmgw_core.configuration import FLAGS, ClientTLS, Flag, Kind, Settings, parse
from vmgw_core.configuration.settings import field_name, settings_of, value_of

TYPES = {
    Kind.BOOL: "bool",
    Kind.INT: "int",
    Kind.SIZE: "int",
    Kind.FLOAT: "float",
    Kind.DURATION: "float",
    Kind.STRING: "str",
    Kind.ARRAY: "tuple[str, ...]",
}


def line_of(flag: Flag) -> str:
    """The field that ``flag`` needs."""
    default = f'"{flag.default}"' if isinstance(flag.default, str) else repr(flag.default)
    return f"    {field_name(flag)}: {TYPES[flag.kind]} = {default}"


def test_the_fields_are_the_flags_of_the_table() -> None:
    needed = {field_name(flag): line_of(flag) for flag in FLAGS}
    found = {field.name: (field.type, type(field.default), field.default) for field in fields(Settings) if field.init}
    wanted = {field_name(flag): (TYPES[flag.kind], type(flag.default), flag.default) for flag in FLAGS}
    if found != wanted or list(found) != list(wanted):
        groups = [
            "\n".join([f"    # {group}", *(needed[field_name(flag)] for flag in flags)])
            for group, flags in groupby(FLAGS, key=lambda flag: flag.group)
        ]
        pytest.fail("the fields of Settings have to be:\n\n" + "\n\n".join(groups))


def test_settings_of_values_by_the_names_of_flags() -> None:
    made = settings_of({"read.url": ("http://vm",), "http.maxHeaders": 7})
    assert made == Settings(read_url=("http://vm",), http_max_headers=7)
    assert {flag.name: value_of(flag, made) for flag in FLAGS if value_of(flag, made) != flag.default} == {
        "read.url": ("http://vm",),
        "http.maxHeaders": 7,
    }


@pytest.mark.parametrize("side", ["read", "write", "datasource"])
def test_the_tls_of_one_side(side: Literal["read", "write", "datasource"]) -> None:
    flags = ("tlsCAFile=ca", "tlsCertFile=cert", "tlsKeyFile=key", "tlsServerName=name", "tlsInsecureSkipVerify")
    settings = parse([f"-{side}.{flag}" for flag in flags], {}).settings
    expected = ClientTLS(
        side=side, ca_file="ca", cert_file="cert", key_file="key", server_name="name", insecure_skip_verify=True
    )
    assert (settings.client_tls(side), settings.client_tls(side).side) == (expected, side)
    others: list[Literal["read", "write", "datasource"]] = ["read", "write", "datasource"]
    for other in others:
        if other != side:
            assert settings.client_tls(other) == Settings().client_tls(side), "the name of the side is not compared"
