"""The limit on open file descriptors (RLIMIT_NOFILE), and so on the connections of this process."""

from __future__ import annotations

import logging
import os
import resource
from typing import Final

logger = logging.getLogger(__name__)

_SPARE: Final = 128  # for files, for the gateway's own requests, and to answer 503


def raise_limit(connections: int) -> int:
    """Raise the soft limit to the hard limit. Return how many connections it allows, of clients and to backends.

    0 is no limit. Warn if the limit is less than ``connections``.

    The soft limit is often 1024 because select(2) can handle no more; the gateway does not use select(2).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):  # macOS has a lower maximum
            logger.warning(f"the limit of {soft} open file descriptors cannot be raised")
    if soft != resource.RLIM_INFINITY and soft < connections:
        logger.warning(
            f"-http.maxConnections={connections} needs more file descriptors than this process may open ({soft}): "
            "raise the hard limit (LimitNOFILE, ulimit -H -n)"
        )
    if soft == resource.RLIM_INFINITY:
        return 0
    return max(1, soft - len(os.listdir("/dev/fd")) - min(_SPARE, soft // 4))  # noqa: PTH208
