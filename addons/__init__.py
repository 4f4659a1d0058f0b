"""Everything of vmgateway that touches mitmproxy. Installed under the package name ``vmgw_addons``."""
