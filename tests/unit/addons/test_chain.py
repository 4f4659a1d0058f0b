"""The chain as a whole: names, help, options."""

from __future__ import annotations

import mitmproxy.addons

from vmgw_addons import chain
from vmgw_addons.cli.main import addon_list
from vmgw_core.configuration.command_line import help_text
from vmgw_core.configuration.table import FLAGS, option_name


def test_names_are_unique_among_mitmproxys_own() -> None:
    """mitmproxy names an addon after its class in lower case, and does not start with a name taken."""
    names = [type(addon).__name__.lower() for addon in chain.build()]
    assert len(set(names)) == len(names)
    assert not {type(addon).__name__.lower() for addon in mitmproxy.addons.default_addons()} & set(names)


def test_every_addon_has_a_line_in_the_help() -> None:
    text = " ".join(help_text(addon_list()).split())
    for addon in chain.build():
        assert f"{type(addon).__name__}" in text
        assert (type(addon).__doc__ or "").partition("\n")[0] in text


def test_every_flag_and_option_is_in_the_help() -> None:
    text = help_text(addon_list())
    for flag in FLAGS:
        assert f"-{flag.name}" in text
        assert option_name(flag) in text
