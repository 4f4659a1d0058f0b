"""API keys and Basic users (``-auth.credentialsFile``): credentials of machines that have no identity provider.

:func:`read_credentials` reads the file. :class:`Credentials` knows the API keys at once. A password takes a while to
check, so the caller runs each :class:`Attempt` in a thread.
"""

from .certificates import MTLS, Certificate
from .file import read_credentials
from .passwords import PasswordHash
from .store import Attempt, Credentials

__all__ = ["MTLS", "Attempt", "Certificate", "Credentials", "PasswordHash", "read_credentials"]
