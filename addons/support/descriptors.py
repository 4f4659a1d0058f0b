"""The limit on open file descriptors (RLIMIT_NOFILE), which bounds how many connections the process can have."""

from __future__ import annotations

import logging
import resource

logger = logging.getLogger(__name__)


def raise_limit(connections: int) -> None:
    """Raise the soft limit to the hard one. Warn if even that is less than ``connections`` of clients need.

    The soft limit is often 1024, for the sake of programs that use select(2). This one does not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):  # macOS takes no more than its own maximum
            logger.warning(f"the limit of {soft} open file descriptors cannot be raised")
    if soft != resource.RLIM_INFINITY and soft < connections:
        logger.warning(
            f"-http.maxConnections={connections} needs more than the {soft} file descriptors that this process may "
            "open: raise the hard limit (LimitNOFILE, ulimit -H -n)"
        )
