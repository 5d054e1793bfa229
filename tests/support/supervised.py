"""A supervisor as a real process that a test signals, stops and kills, and what it leaves on disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import IO, Any

from msgspec.structs import replace

from support import waiting
from support.waiting import EndOfFile, Fifo
from torc_supervise.helpers import last_resort
from torc_supervise.workflow.model import ExecutionConfig, Job, Requirements, ResourceMonitor, Workflow

DRIVE = Path(__file__).with_name("drive.py")
CHILDREN = Path(__file__).with_name("children")
MARK = "TORC_TEST_MARK"


class Bench:
    """One test's directory, pipes and supervisors.  ``close`` leaves no process behind, whatever happened."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.output = directory / "torc_output"
        self.mark = f"{MARK}={uuid.uuid4().hex}"
        self.said = Fifo(directory / "said")  # children say what they reached
        self.held = EndOfFile(directory / "held")  # children hold it as long as they live
        self._fifos = [self.said]
        self.supervisors: list[Supervisor] = []

    def gate(self, name: str) -> Fifo:
        """A pipe at which children wait for a line."""
        fifo = Fifo(self.directory / name)
        self._fifos.append(fifo)
        return fifo

    def start(
        self,
        *jobs: Job,
        workflow: Workflow | None = None,
        stderr: int | IO[bytes] | None = None,
        resume: bool = False,
        environment: dict[str, str] | None = None,
        output: Path | None = None,
        before: str = "",
        cgroups: bool = False,
        flush_limit: float | None = None,
        leftover_grace: float | None = None,
        constants: dict[str, float] | None = None,
        interrupt: int | None = None,
        **options: Any,
    ) -> Supervisor:
        """Run these jobs; without jobs and workflow, open what is in the output directory.

        Args:
            cgroups: let each job have one where that is possible, as it is in earnest.
            before: what a batch script does before it execs the supervisor.
            flush_limit: seconds that it waits at the end for records to be written, if not a minute.
            leftover_grace: seconds that what a job leaves behind has, if not ``LEFTOVER_GRACE``.
            constants: others of the product, by module and name: ``machine.end_watch.ANSWER_WITHIN``.
            interrupt: number of a signal that reaches it when it has forked its keeper, and before its loop.
        """
        constants = dict(constants or {})
        if flush_limit is not None:
            constants["operations.run.FLUSH_LIMIT"] = flush_limit
        if leftover_grace is not None:
            constants |= dict.fromkeys(("machine.step.LEFTOVER_GRACE", "loop.LEFTOVER_GRACE"), leftover_grace)
        if jobs or workflow is not None:
            workflow = workflow_of(*jobs) if workflow is None else workflow
        options = {"max_parallel_jobs": 1000} | options
        number = len(self.supervisors)
        setup = self.directory / f"setup{number}.json"
        document = {
            "output": str(output or self.output),
            "workflow": workflow.to_dict() if workflow is not None else None,
            "options": options,
            "resume": resume,
            "cgroups": cgroups,
            "last_words": waiting.LIMIT if stderr is None else None,
            "constants": constants,
            "interrupt": interrupt,
            "fault": str(self.directory / "fault"),
            "hung_disk": str(self.directory / "hung_disk"),
            "sick_disk": str(self.directory / "sick_disk"),
            "no_keepers": str(self.directory / "no_keepers"),
            "later": str(self.directory / "later"),
        }
        setup.write_text(json.dumps(document))
        name, _, value = self.mark.partition("=")
        log = self.directory / f"stderr{number}"
        batch = ["bash", "-c", f'{before}\nexec "$@"', "batch"] if before else []
        with open(log, "wb") as file:
            process = subprocess.Popen(
                [*batch, sys.executable, str(DRIVE), str(setup)],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=file if stderr is None else stderr,
                env={**os.environ, name: value, "BENCH": str(self.directory), **(environment or {})},
                start_new_session=True,
            )
        supervisor = Supervisor(process, output or self.output, log)
        self.supervisors.append(supervisor)
        return supervisor

    def leftovers(self) -> list[int]:
        """Processes of this test that are alive."""
        return [pid for pid in waiting.marked(self.mark) if waiting.state_of(pid) not in ("Z", None)]

    def close(self) -> None:
        waiting.kill_marked(self.mark)
        for supervisor in self.supervisors:
            supervisor.process.kill()
            supervisor.process.wait()
            assert supervisor.process.stdout is not None
            supervisor.process.stdout.close()
        for fifo in self._fifos:
            fifo.close()
        self.held.close()


class Supervisor:
    """One run of the driver."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path, log: Path) -> None:
        self.process = process
        self.output = output
        self.log = log
        assert isinstance(process.args, list)
        words: list[str] = process.args[-3:]
        self._command_line = b"".join(os.fsencode(word) + b"\0" for word in words)  # its own, and its forks'

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def signal(self, signum: int) -> None:
        self.process.send_signal(signum)

    def helpers(self) -> list[int]:
        """Pids of its forked helpers, the keeper first: children that never called exec and ignore SIGTERM.

        (A job on its way to its exec looks like the supervisor too, but ignores nothing.)
        """
        return [
            pid
            for pid in waiting.children_of(self.pid)
            if waiting.ignores(pid, signal.SIGTERM) and waiting.command_line(pid) == self._command_line
        ]

    def keeper(self) -> int:
        """The living keeper; waits for one while a dead one is being replaced.

        By its name: behind a dead one the sampler comes first.
        """
        found: list[int] = []

        def there() -> list[int]:
            found[:] = [pid for pid in self.helpers() if waiting.name_of(pid) == "torc-keeper"]
            return found

        waiting.wait_until(there, "no keeper")
        return found[0]

    def stop(self, pid: int) -> None:
        """SIGSTOP, and wait until it has stopped, with all of its threads: each does that by itself."""
        os.kill(pid, signal.SIGSTOP)
        waiting.wait_until(lambda: waiting.has_stopped(pid), f"{pid} does not stop")

    def break_loop(self) -> None:
        """Have the next turn of its loop raise, and bring that turn about."""
        (self.output.parent / "fault").touch()
        self.signal(signal.SIGCHLD)

    def let_grace_pass(self, *leaders: int) -> None:
        """Its clock is past every grace, and so are its helpers' and its leaders'.  Helpers see it when they wake up.

        What is to happen before the end of a grace need not be quick then, and the end need not be waited for.

        Args:
            leaders: pids, of isolated jobs, that are to look at it at once, as the supervisor does.
        """
        (self.output.parent / "later").touch()
        self.signal(signal.SIGCHLD)
        for leader in leaders:
            os.kill(leader, signal.SIGCHLD)

    def lose_keepers(self) -> None:
        """Kill the keeper; no other one gets anything done until :meth:`allow_keepers`."""
        keeper = self.keeper()
        (self.output.parent / "no_keepers").touch()
        os.kill(keeper, signal.SIGKILL)
        waiting.wait_until(lambda: last_resort.ALONE in self.said(), "it does not say so")

    def allow_keepers(self) -> None:
        (self.output.parent / "no_keepers").unlink()

    def end_alone(self) -> int:
        """Wait for its end, while others may live on that hold its stdout; returns its exit code."""
        waiting.wait_for_end(self.pid)
        return self.process.wait()

    def end(self, exit_code: int | None = None) -> dict[str, Any]:
        """Wait for its end and return its report."""
        try:
            out, _ = self.process.communicate(timeout=waiting.LIMIT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the supervisor does not end; it said:\n{self.said()}") from None
        if exit_code is not None:
            assert self.process.returncode == exit_code, self.said()
        lines = out.decode().splitlines()
        report: dict[str, Any] = json.loads(lines[-1]) if lines else {}
        return report

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def journal(self, workflow_id: int = 1) -> Journal:
        # Asked before the file is read: what ends meanwhile is not taken for torn.  A keeper writes longer than a
        # supervisor lives that was killed or did not wait for it.
        live = self.running or waiting.any_with(self._command_line)
        return Journal(self.output / "workflows" / str(workflow_id) / "events.jsonl", live=live)


class Journal:
    """What a journal says, read as plain JSON, independent of the code that wrote it.

    Args:
        live: somebody may write to it just now, so its last line may not be whole.
    """

    def __init__(self, path: Path, *, live: bool = False) -> None:
        assert live or path.read_bytes().endswith(b"\n"), "torn last line"
        self.entries = whole_lines(path)
        self.names = {job["job_id"]: job["name"] for job in self.entries[0]["workflow"]["jobs"]}
        assert [entry["seq"] for entry in self.entries] == list(range(1, len(self.entries) + 1)), (
            "gap or duplicate"
        )

    def of(self, event: str, **fields: Any) -> list[dict[str, Any]]:
        return [
            entry
            for entry in self.entries
            if entry["event"] == event and all(entry.get(name) == value for name, value in fields.items())
        ]

    def results(self) -> dict[str, dict[str, Any]]:
        """Job name -> its one result; fails where an attempt that started has none or several (P9)."""
        started = [(e["run_id"], e["job_id"], e["attempt_id"]) for e in self.of("job_started")]
        ended = [(e["run_id"], e["job_id"], e["attempt_id"]) for e in self.of("job_ended")]
        assert sorted(started) == sorted(ended), "each attempt that started has exactly one result"
        assert len(set(ended)) == len(ended)
        return {self.names[e["job_id"]]: e for e in self.of("job_ended")}

    def signals_of(self, name: str) -> list[str]:
        job_id = next(number for number, known in self.names.items() if known == name)
        return [entry["signal"] for entry in self.of("job_signaled", job_id=job_id)]

    def warnings(self) -> list[str]:
        return [entry["code"] for entry in self.of("warning")]


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a journal that may be written to just now.

    Race: a write that crosses a page boundary is not one step for a reader.  The kernel copies page by page, lets other
    processes run in between, and holds a writer up there while too much is waiting for the disk.
    """
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def job(name: str, command: str, *, after: tuple[str, ...] = (), saves: bool = True, **fields: Any) -> Job:
    """A job; ``after`` names jobs, resolved by :func:`workflow_of`; ``saves`` is supports_termination."""
    env = {"AFTER": " ".join(after)} if after else {}
    return Job(0, name, command, supports_termination=saves, env=env | fields.pop("env", {}), **fields)


def workflow_of(
    *jobs: Job,
    grace: float | None = None,
    sample: float | None = None,
    files: dict[str, str] | None = None,
    **execution: Any,
) -> Workflow:
    """A workflow; ``grace`` is a stated sigterm_lead_seconds, ``sample`` the sampler's interval."""
    ids = {each.name: number for number, each in enumerate(jobs, 1)}
    numbered = []
    for each in jobs:
        env = dict(each.env)
        after = env.pop("AFTER", "").split()
        depends_on = tuple(sorted(ids[name] for name in after))
        numbered.append(replace(each, job_id=ids[each.name], depends_on=depends_on, env=env))
    if grace is not None:
        execution |= {"sigterm_lead_seconds": grace, "sigterm_lead_stated": True}
    monitor = ResourceMonitor() if sample is None else ResourceMonitor(True, sample_interval_seconds=sample)
    return Workflow(
        "test",
        tuple(numbered),
        files=files or {},
        execution=ExecutionConfig(**execution),
        resource_monitor=monitor,
    )


def needs(**amounts: Any) -> Requirements:
    return Requirements(**amounts)


def child(name: str, *arguments: str) -> str:
    """Shell command of a child program in tests/support/children."""
    return " ".join([sys.executable, str(CHILDREN / name), *arguments])


HOLD = "exec 9>$BENCH/held;"
"""Start of a command: hold the end-of-file pipe."""


def say(text: str) -> str:
    """Shell command: one line to the test."""
    return f"echo {text} >$BENCH/said;"


def until_trapped(fifo: str) -> str:
    """Shell command: wait, with a fifo to which nobody writes, until a trap ends the shell.

    Race: bash runs its traps between two commands, and a signal that comes after the last look for one and before the
    read(2) of ``read`` does not interrupt it (bash 5.2: 6 of 700).  So ``read`` gives up after a moment, and a trap
    that was missed runs then.
    """
    return f"while :; do read -rt 0.1 _ <>{fifo}; done"


SLEEPS = f"{HOLD} {say('ready $$')} exec sleep 1000"
"""A job that dies of SIGTERM."""
