"""Driving the installed command line: run it to its end, or start it and talk to it while it works."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from support import waiting
from support.supervised import whole_lines
from support.waiting import wait_until
from torc_supervise import look_up

LIMIT = 150.0  # seconds; generous, reached only when something hangs
COMMAND = [sys.executable, "-m", "torc_supervise_cli"]
PATIENT = [
    *(sys.executable, "-c"),
    "import torc_supervise.operations.lookup as x; x.ANSWER_WITHIN = 100.0; "
    "from torc_supervise_cli.main import main; main()",
]
"""The command, and it waits for a keeper that a busy machine holds up: else it reads the journal after two seconds."""


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Cli:
    """Runs commands in one directory.  ``close`` ends what a failed test left: pipes and commands."""

    directory: Path
    opened: list[OutputPipe | Started] = field(default_factory=list)

    def close(self) -> None:
        for thing in self.opened:
            thing.close()

    def run(
        self,
        *arguments: str,
        stdin: str | bytes | None = None,
        env: dict[str, str] | None = None,
        patient: bool = False,
    ) -> Done:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [*(PATIENT if patient else COMMAND), *arguments],
            cwd=self.directory,
            input=data if data is not None else b"",
            capture_output=True,
            timeout=LIMIT,
            env={**os.environ, **(env or {})},
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def start(self, *arguments: str) -> Started:
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started = Started(process)
        self.opened.append(started)
        return started

    def write(self, name: str, text: str) -> str:
        (self.directory / name).write_text(text)
        return name

    def events(self, workflow_id: int = 1) -> list[dict[str, Any]]:
        path = self.directory / "torc_output" / "workflows" / str(workflow_id) / "events.jsonl"
        return whole_lines(path)

    def wait_until_live(self, workflow_id: int = 1) -> None:
        """Until the supervisor answers for itself and says that a job runs, and that is in the journal as well.

        A job may have begun before its keeper has made the first records durable, and the first snapshot, which names
        the control socket, comes after that.  An answer may be ahead of the journal.
        """
        self.wait_until_started(workflow_id=workflow_id)

        def answers() -> bool:
            head = look_up(str(self.directory / "torc_output"), workflow_id, with_jobs=False).head
            return bool(head["source"] == "live" and head["jobs_by_status"]["running"])

        wait_until(answers, "no live status")

    def wait_until_started(self, job_id: int | None = None, *, workflow_id: int = 1) -> None:
        """Until it is on record that this job, or any, has begun: a job runs a moment before anybody else knows of it.

        From then on each reader knows, whether it asks the keeper or reads a file.
        """

        def started() -> bool:
            starts = [e["job_id"] for e in self.events(workflow_id) if e["event"] == "job_started"]
            return bool(starts) if job_id is None else job_id in starts

        wait_until(started, "no start is on record")

    def stdout_pipe(self, job_id: int, run_id: int = 1, workflow_id: int = 1) -> OutputPipe:
        """A FIFO in place of the stdout file of a job that is still to start: the test reads what the job prints."""
        directory = self.directory / "torc_output" / "job_stdio"
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"job_wf{workflow_id}_j{job_id}_r{run_id}_a1.o"
        os.mkfifo(path)
        # Opened for reading and writing: neither side waits for the other, and there is no end of file in between.
        pipe = OutputPipe(os.fdopen(os.open(path, os.O_RDWR), "rb", buffering=0))
        self.opened.append(pipe)
        return pipe


@dataclass
class OutputPipe:
    """What a job prints, as it prints it."""

    stream: IO[bytes]

    def wait_for(self, text: str) -> str:
        """Read until ``text`` was printed; returns everything up to it.  pytest-timeout is the limit."""
        got = b""
        while text.encode() not in got:
            got += os.read(self.stream.fileno(), 4096)
        return got.decode()

    def close(self) -> None:
        self.stream.close()


@dataclass
class Started:
    """A command that is running."""

    process: subprocess.Popen[bytes]

    def signal(self, signum: signal.Signals) -> None:
        self.process.send_signal(signum)

    def wait_for_err(self, text: str) -> str:
        """Read stderr until ``text`` appears."""
        return _read_until(text, self.process.stderr)

    def wait_for_out(self, text: str) -> str:
        """Read stdout until ``text`` appears."""
        return _read_until(text, self.process.stdout)

    def kill_together(self, others: list[int]) -> None:
        """SIGKILL to it and to these of its children, so that none can react to the end of another."""
        family = [self.process.pid, *others]
        for pid in family:
            os.kill(pid, signal.SIGSTOP)
        waiting.kill_all(family)
        for pid in family:
            waiting.wait_for_end(pid)
        self.finish()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()  # its keeper ends the jobs
            self.process.wait(LIMIT)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def finish(self) -> Done:
        out, err = self.process.communicate(timeout=LIMIT)
        return Done(self.process.returncode, out.decode(), err.decode())


def _read_until(text: str, stream: IO[bytes] | None) -> str:
    assert stream is not None
    got = b""
    while text.encode() not in got:
        chunk = os.read(stream.fileno(), 4096)
        assert chunk, f"ended without {text!r}: {got.decode()}"
        got += chunk
    return got.decode()


def statuses(document: dict[str, Any]) -> dict[str, str]:
    """name -> status of a status document."""
    return {job["name"]: job["status"] for job in document["jobs"]}


def only(items: Iterator[Any] | list[Any]) -> Any:
    found = list(items)
    assert len(found) == 1, found
    return found[0]
