"""Where a cluster keeps its files."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from slurm_cluster.errors import ClusterError

# A unix socket's path has at most 107 characters.  The longest of ours is slurmstepd's, SPOOL/NODE_JOBID.STEPID, where
# a batch step has the id 4294967291.
LONGEST_SOCKET = 107 - len("/spool/node3/node3_4294967295.4294967295")


@dataclass(frozen=True)
class Place:
    """One cluster's files: configuration and logs in ``directory``, sockets and spools in ``short``."""

    directory: Path
    short: Path

    @property
    def conf(self) -> Path:
        return self.directory / "slurm.conf"

    @property
    def gres(self) -> Path:
        """Slurm looks for it beside slurm.conf."""
        return self.directory / "gres.conf"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def hosts(self) -> Path:
        return self.directory / "hosts"

    @property
    def key(self) -> Path:
        return self.short / "munge.key"

    @property
    def munge_socket(self) -> Path:
        return self.short / "munge.sock"

    @property
    def control_socket(self) -> Path:
        return self.short / "control"

    def remove_short(self) -> None:
        """Everything but configuration and logs."""
        shutil.rmtree(self.short, ignore_errors=True)

    def last_lines(self, count: int = 20) -> str:
        """The end of every log, for a message about something that went wrong."""
        parts = []
        for path in sorted(self.log.glob("*.log")):
            parts += [f"--- {path.name}", *_lines(path)[-count:]]
        # In the foreground daemons print what they log, too: these files say more only where there is no log yet.
        for path in sorted(self.log.glob("*.out")):
            if not _lines(path.with_suffix(".log")):
                parts += [f"--- {path.name}", *_lines(path)[-count:]]
        return "\n".join(parts)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []


@dataclass(frozen=True)
class Keeper:
    """The process that owns a cluster; pid and start time together name a process for good."""

    pid: int
    started: int
    short: str


def new_place(directory: Path) -> Place:
    """Make the directories of a new cluster."""
    directory = directory.absolute()
    if find_keeper(directory) is not None:
        raise ClusterError(f"a cluster runs in {directory} already; slurm-cluster down {directory}")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ClusterError(f"cannot make {directory}: {error.strerror}") from None
    shutil.rmtree(directory / "log", ignore_errors=True)
    (directory / "log").mkdir()
    return Place(directory, _short(directory))


def _short(directory: Path) -> Path:
    """A new directory for sockets: below ``directory`` if its path is short enough, else wherever there is room."""
    for parent in (directory, Path(tempfile.gettempdir()), Path("/tmp"), Path("/run"), Path("/dev/shm")):
        # mkdtemp adds 8 characters.
        if len(os.fsencode(parent / "slurm-12345678")) > LONGEST_SOCKET or not os.access(parent, os.W_OK):
            continue
        try:
            return Path(tempfile.mkdtemp(prefix="slurm-", dir=parent))
        except OSError:
            continue  # not there, full, or read only: the next one
    raise ClusterError(
        "found no directory with a short path for sockets; tried $TMPDIR, /tmp, /run and /dev/shm"
    )


def find_place(directory: Path) -> Place:
    """The place of a cluster that was brought up."""
    keeper = read_keeper(directory.absolute())
    if keeper is None:
        raise ClusterError(f"no cluster was brought up in {directory}")
    return Place(directory.absolute(), Path(keeper.short))


# -- who owns it ------------------------------------------------------------------------------------------------


def started(pid: int) -> int | None:
    """When a process began, in clock ticks since boot; None if it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def write_keeper(place: Place, pid: int) -> None:
    """Before anything else is started, so that ``down`` finds it at any time."""
    keeper = Keeper(pid, started(pid) or 0, str(place.short))
    new = place.directory / "keeper.json.new"
    new.write_text(json.dumps(asdict(keeper)))
    new.replace(place.directory / "keeper.json")


def read_keeper(directory: Path) -> Keeper | None:
    """Who was the last to own the cluster in that directory."""
    try:
        return Keeper(**json.loads((directory / "keeper.json").read_text()))
    except FileNotFoundError:
        return None


def find_keeper(directory: Path) -> Keeper | None:
    """The living owner of the cluster in that directory."""
    keeper = read_keeper(directory)
    return keeper if keeper is not None and started(keeper.pid) == keeper.started else None
