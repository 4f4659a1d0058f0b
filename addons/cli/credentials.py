"""``vmgateway credentials``: new API keys, and hashes of passwords, for ``-auth.credentialsFile``."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Mapping, Sequence
from getpass import getpass
from hashlib import sha256

from vmgw_core.credentials import PasswordHash
from vmgw_core.errors import ConfigurationError

from .arguments import read_arguments

HELP = """\
Usage: vmgateway credentials key
       vmgateway credentials hash < password

key   Makes an API key. Prints it, and the line sha256 for -auth.credentialsFile. The key is shown this once.
hash  Reads a password from standard input, and prints the line password for -auth.credentialsFile. A line break at its
      end is not part of it.

Exit code: 0, or 2 if the password cannot be used.
"""


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the sub-command. Returns the exit code. Raises ``ConfigurationError``."""
    given = read_arguments(arguments, values=())
    if given.help_wanted:
        print(HELP, end="")
        return 0
    if given.flags or given.positional not in (["key"], ["hash"]):
        raise ConfigurationError("expected key or hash; a password is read from standard input, never an argument")
    print("\n".join(new_key() if given.positional == ["key"] else [hash_line(read_password())]))
    return 0


def new_key() -> list[str]:
    """Return a new API key, and its line for the file."""
    key = "vmgw_" + base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()
    return [f"key: {key}", f'sha256: "{sha256(key.encode()).hexdigest()}"']


def read_password() -> bytes:
    """Read a password, without showing it. Raises ``ConfigurationError``."""
    if sys.stdin.isatty():
        return getpass("Password: ").encode()
    return sys.stdin.buffer.read(1 << 16).removesuffix(b"\n").removesuffix(b"\r")


def hash_line(password: bytes) -> str:
    """Return the line for the file. Raises ``ConfigurationError``."""
    try:
        return f'password: "{PasswordHash.of(password, os.urandom(16))}"'
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
