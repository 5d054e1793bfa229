"""Slurm wants an IPv4 address besides 127.0.0.1, also where it uses no other."""

from __future__ import annotations

import fcntl
import socket
import struct

from slurm_cluster.errors import ClusterError

SIOCSIFADDR = 0x8916


def ensure_address() -> None:
    """Make sure that Slurm can resolve even ``127.0.0.1``.

    It asks getaddrinfo with AI_ADDRCONFIG, which finds nothing at all where the machine has no IPv4 address but
    127.0.0.1: one without a network, or with IPv6 alone.  Any other address will do, 127.0.0.2 too.

    Raises:
        ClusterError: there is none, and we may not add one.
    """
    if _resolves():
        return
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            address = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton("127.0.0.2"))
            fcntl.ioctl(control, SIOCSIFADDR, struct.pack("16s16s8x", b"lo:slurm", address))
    except OSError as error:
        raise ClusterError(
            "Slurm needs an IPv4 address besides 127.0.0.1, and this machine has none"
            f" ({error.strerror}); as root: ip address add 127.0.0.2/8 dev lo"
        ) from None
    if not _resolves():
        raise ClusterError("this machine cannot resolve 127.0.0.1; is its loopback interface up?")


def _resolves() -> bool:
    try:
        socket.getaddrinfo("127.0.0.1", 1, socket.AF_INET, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
    except socket.gaierror:
        return False
    return True
