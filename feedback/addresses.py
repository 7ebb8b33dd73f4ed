"""Addresses that others name: a host must be on the list, what it resolves to must be public, and exactly that is connected to.

Looking a name up twice lets its owner answer twice: once with a harmless address for the check, once with an inner one for the
connection (DNS rebinding). So the checked address itself is connected to, with the name in the Host header and in TLS.
"""

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit


class AddressRefused(ValueError):
    """This address is not connected to; the message says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect: `url` names the checked address, `host` goes into the Host header and, for https, into TLS."""

    url: str
    host: str
    scheme: str
    address: str

    @property
    def headers(self) -> dict[str, str]:
        """The Host header."""
        return {"Host": self.host}

    @property
    def extensions(self) -> dict[str, str]:
        """For httpx: the name that the certificate must be for."""
        return {"sni_hostname": self.host.rsplit(":", 1)[0] if not self.host.endswith("]") else self.host} if self.scheme == "https" else {}


def checked(url: str, allowed: Sequence[str], allow_private: bool) -> Target:
    """Where a connection to `url` may go. Raises AddressRefused for anything but http(s) to a listed host at a public address."""
    import httpx  # imported late: the worker knows webhooks and sends none

    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as problem:
        raise AddressRefused(f"This is not an address: {problem}.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise AddressRefused("Only http and https addresses are connected to.")
    if parts.username is not None or parts.password is not None:
        raise AddressRefused("An address with a user or a password in it is not connected to.")
    host = parts.hostname.lower().rstrip(".")
    if host not in {name.lower() for name in allowed}:
        raise AddressRefused(f"{host[:100]} is not among the allowed hosts.")
    address = _resolve(host, port or (443 if parts.scheme == "https" else 80), allow_private)
    place = f"[{address}]" if ":" in address else address
    netloc = place if port is None else f"{place}:{port}"
    shown = parts.netloc.rsplit("@", 1)[-1]
    target = Target(urlunsplit((parts.scheme, netloc, parts.path or "/", parts.query, "")), shown, parts.scheme, address)
    try:
        httpx.Request("GET", target.url, headers=target.headers)
    except (httpx.InvalidURL, UnicodeError) as problem:  # control characters, or too long: better refused here than by each request that is sent there
        raise AddressRefused(f"This is not an address: {problem}.") from None
    return target


def is_public(address: str) -> bool:
    """Whether an IP address lies in the open internet: not private, loopback, link-local, multicast, reserved, or one of these in IPv6's clothes."""
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if inner is None and found in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return found.is_global and not found.is_multicast


def _resolve(host: str, port: int, allow_private: bool) -> str:
    try:
        found = [str(row[4][0]) for row in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as problem:
        raise AddressRefused(f"{host[:100]} cannot be found: {problem}.") from None
    if not allow_private and not all(is_public(address) for address in found):
        raise AddressRefused(f"{host[:100]} lies in a private network.")
    return found[0]
