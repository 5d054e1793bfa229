"""Shell commands that put PROGRAM where a signal to the job's group does not reach it."""

from __future__ import annotations

WAYS = {
    "setsid": "setsid PROGRAM &",
    "setsid_exec": "setsid bash -c 'exec PROGRAM' &",
    "double_fork": "( setsid PROGRAM & ) ;",
    "daemon": "( setsid bash -c 'PROGRAM &' & ) ;",
    "grandchild": "setsid bash -c 'PROGRAM; true' &",
    "own_group": "set -m; PROGRAM & set +m;",
    "timeout": "setsid nohup timeout 1000 PROGRAM >/dev/null 2>&1 &",
    "stopped_parent": "setsid bash -c 'PROGRAM & kill -STOP $$' &",
}
WIPED = {
    "env_i": "setsid env -i BENCH=$BENCH PROGRAM &",
    "env_i_daemon": "( setsid env -i BENCH=$BENCH bash -c 'PROGRAM &' & ) ;",
    "wiped_later": "setsid bash -c 'env -i BENCH=$BENCH PROGRAM; true' &",
}


def escapes(way: str, program: str) -> str:
    """A command whose ``program`` is away when the command goes on."""
    return way.replace("PROGRAM", program)
