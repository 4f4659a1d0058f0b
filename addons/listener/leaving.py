"""Leaves a shared port without a lost connection: the kernel gives new ones to the others that listen on it.

Closing a listening socket resets the connections that it has not accepted, and those whose handshake is under way. So
it first drops the packets that open a connection. What has been opened is accepted within a moment, and clients send a
dropped packet again after a second (RFC 6298, section 2.1), to whoever listens then.
"""

from __future__ import annotations

import ctypes
import logging
import socket
import struct
from collections.abc import Iterable
from typing import Final

logger = logging.getLogger(__name__)

HANDSHAKE_SECONDS: Final = 0.25
"""For handshakes under way to complete: more than a round trip."""

_SO_ATTACH_FILTER: Final = 26  # asm-generic/socket.h; Python has no name for it
_SYN: Final = 0x02
# A filter of BPF's classic kind (code, jump if true, jump if false, value); it sees packets from their TCP header on.
_DROP_SYN: Final = (
    (0x30, 0, 0, 13),  # load the byte with the flags
    (0x45, 0, 1, _SYN),  # is SYN among them?
    (0x06, 0, 0, 0),  # yes: drop it
    (0x06, 0, 0, 0xFFFFFFFF),  # no: take all of it
)


def drop_new_connections(listening: Iterable[socket.socket]) -> bool:
    """Drop the packets that open a connection to these sockets. Returns whether the system can do that."""
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in _DROP_SYN))
    attached = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(program))
    try:
        for sock in listening:
            sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, attached)
    except OSError as error:
        logger.warning(
            f"cannot leave the port without a reset, some clients may have to connect again: {error.strerror}"
        )
        return False
    return True
