"""The bash command line of a job: its prologue opens the job's files, after the exec (P8)."""

from __future__ import annotations

import os
import shlex


def find_bash() -> str | None:
    """Absolute path of bash, or None."""
    usual = next((path for path in ("/bin/bash", "/usr/bin/bash") if os.access(path, os.X_OK)), None)
    if usual is not None:
        return usual
    import shutil  # half of Python's library for files and archives

    return shutil.which("bash")


def command_line(
    bash: str,
    command: str,
    stdout: str | None,
    stderr: str | None,
    parent: int | None = None,
    open_files: int | None = None,
    oom_score_adj: int | None = None,
    cgroup: str | None = None,
) -> tuple[str, ...]:
    """``bash -c`` with a prologue of one line, then the command as it was written.

    The prologue is a line of its own, because bash -c parses and runs line by line: a syntax error in the command is
    then reported into the job's own stderr file, and the last command of the job is still exec'ed by bash.  What
    differs from a plain ``bash -c command``: line numbers in bash's messages are one higher.

    Args:
        stdout: path of the file, or None for /dev/null.  ``stderr`` the same as ``stdout`` joins the two.
        parent: pid of the supervisor, None not to ask for it.
        open_files: soft limit on open files to return to, None to leave it.
        cgroup: file to which it writes its pid; where that is refused, it stays where it is.
        oom_score_adj: for /proc/self/oom_score_adj, None to leave it; where it may not be set, it is left.

    Race: the supervisor is killed while it waits in posix_spawn for the exec, so nobody hears of this job (P10).  The
    shell looks at its parent first: it is somebody else then, and the job does not begin.  A supervisor that is killed
    later than that look, and before it has told its keeper, leaves a job that its keeper finds (``helpers.strays``).
    Test: test_faults.py::test_p10_no_job_of_a_burst_of_starts_outlives_a_killed_parent.
    """
    redirections = f"</dev/null >{shlex.quote(stdout or '/dev/null')}"
    if stderr is not None and stderr == stdout:
        redirections += " 2>&1"
    else:
        redirections += f" 2>{shlex.quote(stderr or '/dev/null')}"
    # Each leaves by itself: what comes between it and the exec must not hide that it failed.
    look = f"[ $PPID = {parent} ] || exit 125; " if parent is not None else ""
    limit = f"ulimit -Sn {open_files} || exit 125; " if open_files is not None else ""
    wishes = [f"echo {oom_score_adj} >/proc/self/oom_score_adj;"] if oom_score_adj is not None else []
    if cgroup is not None:
        wishes.append(f"echo $$ >{shlex.quote(cgroup)};")
    tries = f"{{ {' '.join(wishes)} }} 2>/dev/null; " if wishes else ""
    return (bash, "-c", f"{look}{limit}{tries}exec {redirections} || exit 125\n{command}")
