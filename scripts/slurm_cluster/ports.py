"""Ports that nobody else has."""

from __future__ import annotations

import random
import socket

from slurm_cluster.errors import ClusterError

# Below the range from which Linux takes the ports of outgoing connections (32768 and up): else some client's connection
# could hold one of ours at the moment when the daemon binds it.
FIRST, LAST = 10000, 32000


class Ports:
    """Takes free ports, and holds them against other clusters that look for some at the same time.

    A daemon has to bind its port itself, so between finding it free and that moment nothing of the kernel protects it.
    An abstract unix socket named after the port does, among clusters: it vanishes with the process that holds it.
    """

    def __init__(self) -> None:
        self._held: list[socket.socket] = []
        # Several clusters start in the same instant: each tries other ports first.
        self._random = random.SystemRandom()

    def take(self) -> int:
        for _ in range(1000):
            port = self._random.randrange(FIRST, LAST)
            mark = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                mark.bind(f"\0slurm-cluster-port-{port}")
                self._probe(port)
            except OSError:
                mark.close()
                continue
            self._held.append(mark)
            return port
        raise ClusterError(f"no free port between {FIRST} and {LAST}")

    def release(self) -> None:
        """Give them back, for another attempt with others."""
        for mark in self._held:
            mark.close()
        self._held.clear()

    @staticmethod
    def _probe(port: int) -> None:
        with socket.socket() as probe:
            probe.bind(("0.0.0.0", port))
