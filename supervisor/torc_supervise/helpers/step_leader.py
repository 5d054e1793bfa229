"""The leader of a job that is a job step: on the supervisor's host it stands for the job, which runs on other nodes.

It starts ``srun ... task`` and speaks with the task through srun: lines to its stdin, lines from its stdout.  srun
itself is never told to save: SIGTERM makes it kill its task at once (docs/decisions/0016).  To the supervisor the
leader looks like a job of direct mode: it is a process group, takes signals, and ends as the job has ended.

=============  ====================================================================================================
signal         what the leader does
=============  ====================================================================================================
SIGIO          ends the job's processes at once: end of file for the task, SIGTERM for srun if that does not help
SIGKILL        nothing; the task's end of file comes by itself, as nobody else holds the pipe
SIGTERM, ...   passes the signal on to the job, each one once
end of stdin   as SIGIO: the supervisor and its keeper are dead
=============  ====================================================================================================

A program of its own, run by path: it imports nothing of ours, because one starts with each job.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
import time

PASSED_ON = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGQUIT, signal.SIGALRM, signal.SIGXCPU, signal.SIGABRT),
)

LOST = 64  # SIGRTMAX
"""The leader dies of this one where Slurm ended the step, or it could not be had: nobody knows how the job ended, and
it is not the job's fault (``exitstatus.STEP_LOST``)."""

PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds between attempts to have a step; the last one is repeated."""

TRY_FOR = 600.0
"""Seconds after which no further attempt is made."""

TRIES_OF_THE_WRONG = 3
"""Attempts where srun does not understand what it is asked for."""

UNAVAILABLE_FOR = 60.0
"""Seconds in which Slurm may say that what the step asks for is not there: a slurmctld that has just been restarted
says so of what is there (22.05: "Memory required by task is not available")."""

UNSTARTED_AFTER = 2.0
"""Seconds that a step which is asked to end before its task has begun may take to begin, until srun is told."""

STUCK_AFTER = 3.0
"""Seconds between SIGTERM and SIGKILL for an srun whose task has not begun."""

KILLED_AFTER = 1.5
"""Seconds between the end of file and SIGTERM to srun.  srun then takes up to 7 s, and the supervisor waits 10."""

GONE_AFTER = 5.0
"""Seconds that srun may take to end when the task has said how the job ended (slurmctld may be down)."""

MOST_TEXT = 1 << 16
"""Bytes of srun's messages that are kept."""

_WRONG = re.compile(rb"nvalid (option|argument|generic)|nrecognized option|ermission denied|No such file")
_UNAVAILABLE = re.compile(
    rb"configuration is not available|More processors requested|Memory required|nvalid node name|oo many tasks"
)
_OVER = re.compile(rb"nvalid job id|already (finished|completing)|Job.*expired")
_OUT_OF_MEMORY = re.compile(rb"oom[-_ ]kill|Out Of Memory", re.I)

NEVER = float("inf")


class Leader:
    """One job.  ``order``: see ``slurm.steps.leader_command``; ``environment``: what srun and all tasks get."""

    def __init__(self, order: dict[str, object], environment: dict[str, str]) -> None:
        self._srun: list[str] = order["srun"]  # type: ignore[assignment]
        self._stderr: str | None = order["stderr"]  # type: ignore[assignment]
        own = {name: os.environ[name] for name in order["own"]}  # type: ignore[attr-defined]
        task = {**order["task"], "environment": own}  # type: ignore[dict-item]
        self._head = json.dumps(task).encode() + b"\n"
        self._environment = environment
        self._reader, writer = os.pipe()
        for descriptor in (self._reader, writer):
            os.set_blocking(descriptor, False)
        self._raised: list[int] = []
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for signum in (*PASSED_ON, signal.SIGIO, signal.SIGCHLD):
            signal.signal(signum, self._note)
        self._pid = 0  # of srun, 0 while there is none
        self._stdin = self._stdout = self._messages = -1
        self._to_task = b""
        self._partial = b""
        self._text = b""
        self._began = time.monotonic()
        self._tries = 0
        self._started = False  # the task has begun
        self._ended: dict[str, object] | None = None
        self._asked = 0  # the first signal that was passed on
        self._sent: set[int] = set()
        self._killed = False
        self._cut_off = False  # srun was killed before it could say what became of the task
        self._term_at = self._kill_at = self._retry_at = NEVER

    def run(self) -> int:
        """Until the step is over.  Returns a signal to die of, or minus one minus the exit code."""
        self._start()
        while True:
            if (how := self._turn()) is not None:
                return how

    # -- one round ------------------------------------------------------------------------------------------------

    def _turn(self) -> int | None:
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        for descriptor in (self._stdout, self._messages):
            if descriptor >= 0:
                poll.register(descriptor, select.POLLIN)
        if not self._killed:
            poll.register(0, 0)  # says so when it is hung up
        if self._to_task and self._stdin >= 0:
            poll.register(self._stdin, select.POLLOUT)
        due = min(self._term_at, self._kill_at, self._retry_at)
        ready = dict(poll.poll(None if due == NEVER else max(0.0, due - time.monotonic()) * 1000 + 1))
        if ready.get(0, 0) & (select.POLLHUP | select.POLLERR):
            self._kill()  # supervisor and keeper are gone
        self._read_messages()
        self._read_stdout()
        self._take_signals()
        self._write()
        now = time.monotonic()
        if now >= self._term_at:
            self._term_at = NEVER
            self._signal_srun(signal.SIGTERM)
        if now >= self._kill_at:
            self._kill_at = NEVER
            self._cut_off = self._ended is None
            self._signal_srun(signal.SIGKILL)
        if self._pid:
            return self._look_at_srun()
        if self._killed or self._asked:
            return signal.SIGKILL if self._killed else self._asked
        if now >= self._retry_at:
            self._start()
        return None

    def _note(self, signum: int, frame: object) -> None:
        self._raised.append(signum)

    def _take_signals(self) -> None:
        """Race: a signal arrives after the list was taken: its byte makes the next poll return at once."""
        try:
            os.read(self._reader, 4096)
        except BlockingIOError:
            pass
        raised, self._raised = self._raised, []
        for signum in raised:
            if signum == signal.SIGIO:
                self._kill()
            elif signum != signal.SIGCHLD and signum not in self._sent:
                self._sent.add(signum)
                self._ask(signum)

    def _ask(self, signum: int) -> None:
        self._asked = self._asked or signum
        self._to_task += b"signal %d\n" % signum
        if not self._started:
            self._end_srun(UNSTARTED_AFTER)

    def _kill(self) -> None:
        if not self._killed:
            self._killed = True
            self._close_stdin()
            if self._started:
                self._term_at = min(self._term_at, time.monotonic() + KILLED_AFTER)
            else:
                self._end_srun(0.0)

    def _end_srun(self, pause: float) -> None:
        """There is no task yet.  While slurmctld does not answer, srun hears no SIGTERM for half a minute."""
        due = time.monotonic() + pause
        self._term_at, self._kill_at = min(self._term_at, due), min(self._kill_at, due + STUCK_AFTER)

    # -- srun -----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._tries += 1
        self._retry_at = NEVER
        self._text = self._partial = b""
        stdin, self._stdin = os.pipe()
        self._stdout, stdout = os.pipe()
        self._messages, messages = os.pipe()
        actions = [
            (os.POSIX_SPAWN_DUP2, descriptor, n) for n, descriptor in enumerate((stdin, stdout, messages))
        ]
        # A session of its own: what is sent to the leader's group must not reach srun.
        try:
            self._pid = os.posix_spawn(
                self._srun[0],
                self._srun,
                self._environment,
                file_actions=actions,
                setsid=True,
                setsigmask=(),
                setsigdef=sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}),
            )
        except OSError as error:
            self._text = f"{self._srun[0]}: {error.strerror}\n".encode()
        for descriptor in (stdin, stdout, messages):
            os.close(descriptor)
        for descriptor in (self._stdin, self._stdout, self._messages):
            os.set_blocking(descriptor, False)
        self._to_task = self._head + b"".join(b"signal %d\n" % signum for signum in sorted(self._sent))
        if not self._pid:
            self._forget()
            self._retry_at = time.monotonic() + self._pause()

    def _look_at_srun(self) -> int | None:
        pid, _ = os.waitpid(self._pid, os.WNOHANG)
        if not pid:
            return None
        self._pid = 0
        self._read_stdout()
        self._read_messages()
        self._forget()
        if self._ended is not None:
            return self._as_it_ended(self._ended)
        if self._cut_off:
            return LOST
        if self._killed:
            return signal.SIGKILL
        if self._started:
            self._tell(b"the step was ended by Slurm" if self._text else b"the step is gone")
            return signal.SIGKILL if _OUT_OF_MEMORY.search(self._text) else LOST
        return self._not_started()

    def _not_started(self) -> int | None:
        """Not the job's fault: the controller is down, the node is busy.  Once more, after a pause."""
        if self._asked:
            return self._asked
        waited = time.monotonic() - self._began
        if waited >= TRY_FOR or (_OVER.search(self._text) and b"nable to contact" not in self._text):
            self._tell(b"there is no step to be had for this job")
            return LOST
        wrong = self._tries >= TRIES_OF_THE_WRONG and _WRONG.search(self._text)
        if wrong or (waited >= UNAVAILABLE_FOR and _UNAVAILABLE.search(self._text)):
            self._tell(b"Slurm does not give this job a step")
            return -1 - 126
        self._retry_at = time.monotonic() + self._pause()
        return None

    def _pause(self) -> float:
        return PAUSES[min(self._tries, len(PAUSES)) - 1]

    def _as_it_ended(self, ended: dict[str, object]) -> int:
        number = int(str(ended["number"]))
        if ended["told"] and not self._asked:
            self._tell(b"Slurm asked the step to end")
            return LOST
        return number if ended["how"] == "signal" else -1 - number

    def _signal_srun(self, signum: int) -> None:
        """It is a child of ours that was not waited for: the number is its own, and that of its session."""
        if self._pid:
            os.killpg(self._pid, signum)

    def _forget(self) -> None:
        self._close_stdin()
        for descriptor in (self._stdout, self._messages):
            if descriptor >= 0:
                os.close(descriptor)
        self._stdout = self._messages = -1
        self._term_at = self._kill_at = NEVER

    # -- lines ----------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        while self._to_task and self._stdin >= 0:
            try:
                self._to_task = self._to_task[os.write(self._stdin, self._to_task) :]
            except BlockingIOError:
                return
            except OSError:  # nobody reads any more: srun is about to end
                self._close_stdin()

    def _close_stdin(self) -> None:
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    def _read_stdout(self) -> None:
        while data := _read(self._stdout):
            *lines, self._partial = (self._partial + data).split(b"\n")
            for line in lines:
                self._hear(line)
        if data is not None and self._stdout >= 0:
            os.close(self._stdout)
            self._stdout = -1

    def _hear(self, line: bytes) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            said = None
        if not isinstance(said, dict):  # a task prolog prints what it likes
            self._text = (self._text + line + b"\n")[-MOST_TEXT:]
        elif "started" in said:
            self._started = True
            self._kill_at = NEVER
            if not self._killed:
                self._term_at = NEVER
        elif "ended" in said:
            self._ended = said["ended"]
            self._close_stdin()  # the tasks on other nodes may go
            self._term_at, self._kill_at = NEVER, time.monotonic() + GONE_AFTER

    def _read_messages(self) -> None:
        while data := _read(self._messages):
            self._text = (self._text + data)[-MOST_TEXT:]
        if data is not None and self._messages >= 0:
            os.close(self._messages)
            self._messages = -1

    def _tell(self, what: bytes) -> None:
        """Into the job's stderr file, which is where its user looks."""
        text = b"torc-supervise: " + what + (b":\n" + self._text if self._text else b"\n")
        try:
            descriptor = os.open(self._stderr or "/dev/null", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError:
            return
        try:
            os.write(descriptor, text)
        except OSError:
            pass  # a full disk; the journal says what became of the job
        finally:
            os.close(descriptor)


def _read(descriptor: int) -> bytes | None:
    """What is there; empty at the end of file, None where nothing is there now."""
    if descriptor < 0:
        return None
    try:
        return os.read(descriptor, 1 << 16)
    except BlockingIOError:
        return None


def die_of(signum: int) -> None:
    """End as the job has ended, without a core file of our own."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if signum not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signum])
    os.kill(os.getpid(), signum)
    os._exit(128 + signum)  # it does not end a process by default


def main(arguments: list[str]) -> None:
    """Run the leader.  ``arguments``: the order, as JSON.

    Race: the supervisor is killed while it waits in posix_spawn for our exec, so that nobody hears of this job (P10).
    Our parent is somebody else then, and the job does not begin.
    Test: test_step_leader.py::test_a_leader_whose_supervisor_is_gone_starts_nothing.
    """
    order = json.loads(arguments[0])
    if os.getppid() != order["parent"]:
        os._exit(125)
    environment = {name: value for name, value in os.environ.items() if name not in order["not_for_srun"]}
    how = Leader(order, environment).run()
    if how > 0:
        die_of(how)
    os._exit(-1 - how)


if __name__ == "__main__":
    main(sys.argv[1:])
