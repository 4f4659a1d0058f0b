"""``vmgateway policy test``: what a file of ``-auth.policy`` grants to the claims of a token."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Mapping, Sequence

from vmgw_addons.outgoing import read, shown
from vmgw_core.access import read_access_policy
from vmgw_core.base.strict_json import FieldError, load_object
from vmgw_core.errors import ConfigurationError, Refusal
from vmgw_core.explain import access_as_json, access_lines

from .arguments import read_arguments, read_file

HELP = """\
Usage: vmgateway policy test POLICY --claims=FILE [--expect=FILE] [--json]

Shows what the access policy POLICY (a file or URL for -auth.policy) grants to a token with the claims in FILE, a JSON
object. Signatures and times play no part.

Options:
  --claims=FILE   the claims; - is standard input
  --expect=FILE   the JSON that --json prints; every difference is shown
  --json          print JSON

Exit code: 0 if access is granted, or what is granted is what --expect says; 1 if not, 2 if the input is not valid.
"""


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the sub-command. Returns the exit code. Raises ``ConfigurationError``."""
    given = read_arguments(arguments, values=("claims", "expect"), switches=("json",))
    if given.help_wanted:
        print(HELP, end="")
        return 0
    claims_file = given.last("claims")
    if given.flags or len(given.positional) != 2 or given.positional[0] != "test" or claims_file is None:
        raise ConfigurationError("expected test POLICY --claims=FILE; see vmgateway policy --help")
    location, expect = given.positional[1], given.last("expect")
    policy = read_access_policy(read("-auth.policy", location), shown("-auth.policy", location))
    data = sys.stdin.buffer.read() if claims_file == "-" else read_file("--claims", claims_file)
    try:
        grants = policy.grants(read_object("--claims", data))
    except Refusal as refusal:
        access = None
        result: dict[str, object] = {
            "verdict": "refused",
            "refusal": {"code": refusal.code, "message": refusal.message},
            "access": None,
        }
        lines = [f"REFUSED  {refusal.code}: {refusal.message}"]
    else:
        access = access_as_json(grants.alternatives, grants.sources)
        result = {"verdict": "granted", "refusal": None, "access": access}
        lines = ["GRANTED", *access_lines(grants.alternatives, grants.sources or ("vm_access of the token",))]
    if expect is not None:
        expected = read_object("--expect", read_file("--expect", expect))
        differences = list(difflib.unified_diff(_lines(expected), _lines(result), expect, "granted", lineterm=""))
        print("\n".join(differences or ["as expected"]))
        return 1 if differences else 0
    print("\n".join(_lines(result) if given.has("json") else lines))
    return 0 if access is not None else 1


def read_object(option: str, data: bytes) -> Mapping[str, object]:
    """Read a JSON object. Raises ``ConfigurationError``."""
    try:
        return load_object(data.decode(), option)
    except UnicodeDecodeError:
        raise ConfigurationError(f"{option}: not UTF-8") from None
    except FieldError as error:
        raise ConfigurationError(str(error)) from None


def _lines(document: Mapping[str, object]) -> list[str]:
    return json.dumps(document, indent=2, sort_keys=True).split("\n")
