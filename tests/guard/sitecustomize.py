"""Refuses every socket but loopback, in this Python process and every one it starts (it lies on PYTHONPATH); what stages read is watched here too.

A refused address is also written to VIGIL_GUARD_LOG, so that a library which swallows the error is caught all the same.
"""

import ipaddress
import os
import socket
import sys

import reads


def _is_local(address: object) -> bool:
    if not isinstance(address, tuple):  # a Unix socket's path
        return True
    host = address[0]
    if isinstance(host, bytes):
        host = host.decode()
    if host in ("", "localhost", None):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return host == socket.gethostname()


def _refuse(what: str, address: object) -> None:
    if log := os.environ.get("VIGIL_GUARD_LOG"):
        with open(log, "a", encoding="utf-8") as handle:
            handle.write(f"{what} {address!r} by {' '.join(sys.argv[:4])}\n")
    raise ConnectionRefusedError(f"the test guard refuses {address!r}: only loopback is allowed")


class GuardedSocket(socket.socket):
    """A socket that connects and sends to loopback only."""

    def connect(self, address, /):
        if not _is_local(address):
            _refuse("connect", address)
        return super().connect(address)

    def connect_ex(self, address, /):
        if not _is_local(address):
            _refuse("connect_ex", address)
        return super().connect_ex(address)

    def sendto(self, data, *rest):
        if not _is_local(rest[-1]):
            _refuse("sendto", rest[-1])
        return super().sendto(data, *rest)


_real_getaddrinfo = socket.getaddrinfo


def _getaddrinfo(host, *rest, **named):
    if not _is_local((host,)):
        _refuse("getaddrinfo", (host,))
    return _real_getaddrinfo(host, *rest, **named)


socket.socket = GuardedSocket
socket.getaddrinfo = _getaddrinfo
reads.begin()
