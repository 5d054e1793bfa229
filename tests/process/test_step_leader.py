"""Leader and task of a job step, with a stand-in for srun between them (tests/cluster has the real one)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.supervised import until_trapped
from support.waiting import LIMIT, EndOfFile, Fifo, wait_until
from torc_supervise.exitstatus import STEP_LOST
from torc_supervise.helpers import step_leader
from torc_supervise.helpers import task as task_module
from torc_supervise.posix.steps import KILL_STEP
from torc_supervise.slurm.steps import LEADER_NAME, import_path, leader_command, python_command

SRUN = str(Path(__file__).parents[1] / "support" / "children" / "srun.py")
BOOT = "import sys; sys.path += sys.argv[1:]; from torc_supervise.helpers.task import main; main()"


class Step:
    """A job under a leader, as the supervisor would start it."""

    def __init__(self, directory: Path, said: Fifo) -> None:
        self.directory, self.said = directory, said
        self.stderr = directory / "job.e"
        self._quiet = directory / "quiet"
        os.mkfifo(self._quiet)
        self._lifeline, self.held = os.pipe()
        self.leader: subprocess.Popen[bytes] | None = None

    def start(self, command: str, *srun: str, scope: str = "group", parent: int | None = None) -> None:
        order = srun or ("run",)
        task = [*python_command(sys.executable), "-c", BOOT, *import_path()]
        environment = {
            **os.environ,
            "SAID": str(self.said.path),
            "QUIET": str(self._quiet),
            "TORC_OUTPUT_DIR": str(self.directory),
            **dict.fromkeys(("TORC_WORKFLOW_ID", "TORC_RUN_ID", "TORC_JOB_ID"), "1"),
            LEADER_NAME: "1",
        }
        job: dict[str, object] = {
            "bash": "/bin/bash",
            "command": command,
            "stdout": str(self.directory / "job.o"),
            "stderr": str(self.stderr),
            "open_files": None,
            "scope": scope,
            "nodes": 1,
            "cpus": 1,
        }
        argv = leader_command(
            sys.executable,
            [sys.executable, SRUN, *order, "--", *task],
            job,
            dict(os.environ),
            environment,
            str(self.stderr),
        )
        if parent is not None:
            argv = (*argv[:-1], argv[-1].replace(f'"parent": {os.getpid()}', f'"parent": {parent}'))
        self.leader = subprocess.Popen(argv, env=environment, stdin=self._lifeline, start_new_session=True)

    def signal(self, signum: int) -> None:
        assert self.leader is not None
        os.killpg(self.leader.pid, signum)

    def ended(self) -> int:
        """The exit code, or minus the signal."""
        assert self.leader is not None
        return self.leader.wait(LIMIT)

    def close(self) -> None:
        if self.leader is not None and self.leader.poll() is None:
            self.leader.kill()
            self.leader.wait()
        os.close(self._lifeline)
        if self.held >= 0:
            os.close(self.held)


@pytest.fixture
def step(tmp_path: Path) -> Iterator[Step]:
    said = Fifo(tmp_path / "said")
    made = Step(tmp_path, said)
    yield made
    made.close()
    said.close()


@pytest.fixture
def holding(tmp_path: Path) -> Iterator[EndOfFile]:
    made = EndOfFile(tmp_path / "held")
    yield made
    made.close()


SAVES = f"trap 'echo got >$SAID; exit 3' TERM; echo ready >$SAID; {until_trapped('$QUIET')}"
DEAF = "trap '' TERM; (trap '' TERM; echo ready >$SAID; read <> <(:)) & echo ready >$SAID; wait"


@pytest.mark.parametrize(
    ("command", "ended"), [("true", 0), ("exit 7", 7), ("kill -SEGV $$", -signal.SIGSEGV)]
)
def test_it_ends_as_the_job_has_ended(step: Step, command: str, ended: int) -> None:
    step.start(f"echo out; echo err >&2; {command}")
    assert step.ended() == ended
    assert (step.directory / "job.o").read_text() == "out\n"
    assert step.stderr.read_text().startswith("err\n")


def test_a_signal_to_the_leader_reaches_the_job_once(step: Step) -> None:
    step.start(SAVES)
    step.said.expect(1, "ready")
    step.signal(signal.SIGTERM)
    step.signal(signal.SIGTERM)
    assert step.ended() == 3
    assert step.said.drain() == ["got"]


def test_p4_the_grace_goes_on_when_the_first_process_has_died_of_the_signal(step: Step) -> None:
    """bash dies of USR1 at once; the job is over when its child has saved."""
    step.start(f"{sys.executable} -c '{SAVING_CHILD}' ; true")
    step.said.expect(1, "ready")
    step.signal(signal.SIGUSR1)
    step.said.expect(1, "saving")
    step.said.expect(1, "saved")
    assert step.ended() == -signal.SIGUSR1
    assert step.said.drain() == [], "no second signal came in between"


SAVING_CHILD = """
import os, signal
said = os.open(os.environ["SAID"], os.O_WRONLY)
both = {signal.SIGUSR1, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, both)
os.write(said, b"ready\\n")
signal.sigwait({signal.SIGUSR1})
os.write(said, b"saving\\n")
if signal.sigtimedwait(both, 0.3) is not None:
    os.write(said, b"asked again\\n")
os.write(said, b"saved\\n")
""".replace("\n", "\n")


def deaf(step: Step, holding: EndOfFile) -> None:
    """A job of two processes that ignores SIGTERM, each holding a pipe open."""
    step.start(f"exec 9>{holding.path}; {DEAF}")
    step.said.expect(2, "ready")
    step.signal(signal.SIGTERM)


def test_the_order_to_kill_ends_everything_before_the_leader_is_gone(step: Step, holding: EndOfFile) -> None:
    deaf(step, holding)
    step.signal(KILL_STEP)
    assert step.ended() == -signal.SIGKILL
    assert not holding.held()


def test_p10_a_killed_leader_takes_the_job_with_it(step: Step, holding: EndOfFile) -> None:
    deaf(step, holding)
    step.signal(signal.SIGKILL)
    assert step.ended() == -signal.SIGKILL
    holding.wait()


def test_p10_supervisor_and_keeper_dead_the_job_is_ended(step: Step, holding: EndOfFile) -> None:
    """Both hold the other end of the leader's stdin, and nobody else."""
    deaf(step, holding)
    os.close(step.held)
    step.held = -1
    assert step.ended() == -signal.SIGKILL
    assert not holding.held()


def test_a_leader_whose_supervisor_is_gone_starts_nothing(step: Step) -> None:
    step.start("echo began >$SAID", parent=1)
    assert step.ended() == 125
    assert step.said.drain() == []


def test_signal_scope_leader_is_kept_on_the_node(step: Step) -> None:
    step.start(
        "trap 'echo first >$SAID; kill $!; exit 5' USR1; (trap 'echo second >$SAID' USR1; exec sleep 600) & "
        "echo ready >$SAID; wait",
        scope="leader",
    )
    step.said.expect(1, "ready")
    step.signal(signal.SIGUSR1)
    assert step.ended() == 5
    assert step.said.drain() == ["first"]


def test_a_controller_that_is_away_is_asked_again(step: Step) -> None:
    step.start("exit 6", "later", "1", str(step.directory / "tries"))
    assert step.ended() == 6
    assert not step.stderr.read_text()


def test_a_job_that_is_asked_to_end_before_it_has_a_step_ends_by_that(step: Step) -> None:
    step.start("exit 6", "refuse", "Unable to contact slurm controller (connect failure)")
    assert step.leader is not None
    wait_until_refused_once(step.leader.pid)
    step.signal(signal.SIGTERM)
    assert step.ended() == -signal.SIGTERM


def wait_until_refused_once(pid: int) -> None:
    """Until the leader has had an srun and has none any more."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    wait_until(children.read_text, "it starts srun")
    wait_until(lambda: not children.read_text(), "srun fails")


def test_a_step_that_can_never_be_had_is_the_jobs_own_fault(
    step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    step.start("true", "refuse", "unrecognized option '--exact'")
    assert step.ended() == 126
    assert "unrecognized option" in step.stderr.read_text()


@pytest.mark.parametrize(
    ("how", "text", "ended"),
    [
        ("refuse", "Unable to create step for job 7: Invalid job id specified", STEP_LOST),
        ("vanish", "Node failure on n2", STEP_LOST),
        ("vanish", "STEP 7.1 ON n2 CANCELLED", STEP_LOST),
        ("vanish", "Detected 1 oom-kill event(s) in StepId=7.1", signal.SIGKILL),
    ],
)
def test_what_slurm_ended_is_told_from_what_the_job_did(step: Step, how: str, text: str, ended: int) -> None:
    step.start("true", how, text)
    assert step.ended() == -ended
    assert text in step.stderr.read_text()


def test_an_srun_that_does_not_end_holds_no_result_back(step: Step) -> None:
    step.start("true", "stay")
    assert step.ended() == 4


def test_leader_and_task_agree_on_the_number_for_a_lost_step() -> None:
    assert step_leader.LOST == STEP_LOST == signal.SIGRTMAX
    assert KILL_STEP == signal.SIGIO
    assert task_module.HUNT_FOR < 10


def test_a_signal_that_comes_with_the_head_is_obeyed(tmp_path: Path) -> None:
    """srun hands over what it has in one piece, so the task may read the order to end together with the job."""
    job = {
        "bash": "/bin/bash",
        "command": "exit 7",
        "stdout": None,
        "stderr": None,
        "open_files": None,
        "scope": "group",
        "nodes": 1,
        "cpus": 1,
        "environment": {
            "TORC_OUTPUT_DIR": str(tmp_path),
            **dict.fromkeys(("TORC_WORKFLOW_ID", "TORC_RUN_ID", "TORC_JOB_ID"), "1"),
        },
    }
    argv = [*python_command(sys.executable), "-c", BOOT, *import_path()]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as task:
        assert task.stdin is not None
        assert task.stdout is not None
        task.stdin.write(json.dumps(job).encode() + b"\nsignal 15\n")
        task.stdin.flush()
        assert json.loads(task.stdout.readline()) == {"ended": {"how": "signal", "number": 15, "told": False}}
        task.stdin.close()
        assert task.wait(LIMIT) == 0
