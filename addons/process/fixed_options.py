"""Options of mitmproxy that must not change while the gateway runs."""

from __future__ import annotations

from typing import Final

from mitmproxy.exceptions import OptionsError

from vmgw_addons._mitmproxy import Options

_FIXED: Final = ("connection_strategy", "keep_host_header", "listen_host", "listen_port", "mode", "server")


class FixedOptions:
    """Looks at each change before the addons do: by then mitmproxy would listen, or have unloaded the gateway.

    A change of a fixed option is refused. If all options are reset, they get the values back that they had.
    """

    def __init__(self, options: Options) -> None:
        self.options = options
        self.fixed = {name: getattr(options, name) for name in _FIXED}
        self.script: str | None = None
        """The path of the gateway's script, which must stay loaded."""
        self.given = self.present()
        options.subscribe(self.check, sorted(options.keys()))

    def present(self) -> dict[str, object]:
        """Return the options that have another value than their default."""
        names = sorted(self.options.keys())
        return {name: getattr(self.options, name) for name in names if self.options.has_changed(name)}

    def check(self, options: Options, updated: set[str]) -> None:
        """Refuse a change. Raises ``OptionsError``: then mitmproxy takes it back."""
        changed = self.changed()
        if changed is None:
            self.given = self.present()
            return
        if updated >= options.keys():
            options.update(**self.given)  # mitmproxy does not take back a reset
            raise OptionsError("the options cannot be reset while the gateway runs")
        raise OptionsError(f"{changed} cannot change while the gateway runs")

    def changed(self) -> str | None:
        """Return the name of a fixed option that has changed, or None."""
        if self.script is not None and self.script not in self.options.scripts:
            return "scripts"
        return next((name for name, value in self.fixed.items() if getattr(self.options, name) != value), None)
