"""The limit on open file descriptors (RLIMIT_NOFILE), and so on the connections of this process."""

from __future__ import annotations

import logging
import resource

logger = logging.getLogger(__name__)


def raise_limit(connections: int) -> None:
    """Raise the soft limit to the hard limit. Warn if that is still less than ``connections``.

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
