"""``isolation: pid_namespace``: a job's processes are in a PID namespace of their own, which ends with it (P5, P10)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from support import waiting
from support.supervised import CHILDREN, Bench, Supervisor, child, job, say, until_trapped, workflow_of
from support.users import NOBODY, as_nobody, bench_for_nobody
from support.ways import WAYS, WIPED, escapes
from torc_supervise.posix import namespaces
from torc_supervise.workflow.model import Job, Workflow

pytestmark = pytest.mark.process

# Programs that an ordinary user can run: in a namespace nobody reads root's home, where Python may be.
SAVES = f"""
exec 9>$BENCH/held
trap 'echo asked >$BENCH/said; read -r _ <$BENCH/leave; echo saved >$1; echo saved >$BENCH/said; exit 0' TERM
echo ready >$BENCH/said
{until_trapped("$BENCH/quiet")}
"""
DEAF = f"""
exec 9>$BENCH/held
trap 'echo got TERM >$BENCH/said' TERM
echo ready $$ >$BENCH/said
{until_trapped("$BENCH/quiet")}
"""
every_way = pytest.mark.parametrize("way", [*WAYS.values(), *WIPED.values()], ids=[*WAYS, *WIPED])


@pytest.fixture(scope="session", autouse=True)
def needs_namespaces() -> None:
    if (trouble := namespaces.trouble()) is not None:
        pytest.skip(f"no PID namespaces here: {trouble}")


class Place:
    """A bench, and whose processes are on it."""

    def __init__(self, bench: Bench, before: str = "") -> None:
        self.bench, self._before = bench, before
        for name, text in (("saves", SAVES), ("deaf", DEAF)):
            (bench.directory / name).write_text(text)
        for name in ("quiet", "leave"):
            bench.gate(name).path.chmod(0o666)

    def start(
        self, *jobs: Job, workflow: Workflow | None = None, isolated: bool = True, **options: Any
    ) -> Supervisor:
        workflow = workflow if workflow is not None else workflow_of(*jobs)
        if isolated:
            workflow = replace(workflow, execution=replace(workflow.execution, isolation="pid_namespace"))
        return self.bench.start(workflow=workflow, before=self._before, **options)

    def open(self) -> Supervisor:
        """What the next command does."""
        return self.bench.start(before=self._before)

    def wait_for_nobody(self) -> None:
        """Until no process is left that has not wiped its environment."""
        waiting.wait_until(lambda: not self.bench.leftovers(), f"left: {self.bench.leftovers()}")

    def leave(self) -> None:
        """Let one that was asked go on."""
        with open(self.bench.directory / "leave", "wb", buffering=0) as gate:
            gate.write(b"\n")


@pytest.fixture(params=["same_user", pytest.param("nobody", marks=pytest.mark.root)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """As whoever runs the tests, and as an ordinary user."""
    if request.param == "nobody":
        with bench_for_nobody() as made:
            yield Place(made, as_nobody())
        return
    bench = Bench(tmp_path)
    try:
        yield Place(bench)
    finally:
        bench.close()


def program(name: str, *arguments: str) -> str:
    return " ".join(["bash $BENCH/" + name, *arguments])


def on_record(supervisor: Supervisor) -> int:
    """Wait until the start of the job is written; returns the leader's pid."""
    waiting.wait_until(lambda: supervisor.journal().of("job_started"), "the start is not written")
    return int(supervisor.journal().of("job_started")[0]["pid"])


def kill(*pids: int) -> None:
    """At once, as far as that can be: none of them sees another one's end.  And wait until all of them are dead.

    Race: what they held open is closed a moment before they are dead, and whoever looks then takes them for alive.
    """
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    waiting.kill_all(pids)
    for pid in pids:
        waiting.wait_for_end(pid)


# -- what a job sees, and how it ends -----------------------------------------------------------------------


def test_a_job_is_alone_with_its_own_processes(place: Place) -> None:
    supervisor = place.start(job("alone", "echo $$ $PPID; kill -0 -1 || echo alone; exit 7"))
    supervisor.end(exit_code=1)
    assert output(place.bench, 1) == "2 1\nalone\n"
    result = supervisor.journal().results()["alone"]
    assert (result["status"], result["return_code"], result["ended"]) == ("failed", 7, "exited")


def output(bench: Bench, job_id: int, stream: str = "o") -> str:
    return (bench.output / "job_stdio" / f"job_wf1_j{job_id}_r1_a1.{stream}").read_text()


@pytest.mark.root
def test_a_user_namespace_gives_an_ordinary_user_no_rights_over_others() -> None:
    """What only root may read stays so, and so does what only root may signal."""
    with bench_for_nobody() as bench:
        secret = bench.directory / "secret"
        secret.write_text("roots\n")
        secret.chmod(0o600)
        tries = "cat secret; chown 0 mine; echo x >/proc/sys/kernel/hostname; id -u; grep CapEff /proc/self/status"
        supervisor = Place(bench, as_nobody()).start(job("tries", f"echo >mine; {tries}"))
        supervisor.end(exit_code=0)
        assert output(bench, 1).splitlines() == [str(NOBODY), "CapEff:\t0000000000000000"]
        assert len(output(bench, 1, "e").splitlines()) == 3


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_job_has_the_environment_descriptors_and_signals_of_any_other(bench: Bench, locale: str) -> None:
    look = (
        "env | grep -v '^\\(_\\|SHLVL\\|TORC_JOB_.*\\|TORC_TEST_.*\\)=' | sort;"
        "grep '^Sig[BIC]' /proc/self/status; ls /proc/self/fd; umask; pwd; ulimit -a; echo err >&2"
    )
    place = Place(bench)
    workflow = workflow_of(
        job("plain", look, isolation="none"), job("isolated", look, isolation="pid_namespace")
    )
    supervisor = bench.start(workflow=workflow, environment={"LC_ALL": "", "LANG": locale})
    supervisor.end(exit_code=0)
    assert output(place.bench, 1) == output(place.bench, 2)
    assert output(place.bench, 2, "e") == "err\n"


@pytest.mark.parametrize(
    ("command", "code", "name"),
    [
        ("exit 0", 0, None),
        ("kill -USR1 $$; read -r _ <$BENCH/quiet", 138, "SIGUSR1"),
        ("kill -KILL $$", 137, "SIGKILL"),
        ("kill -SEGV $$", 139, "SIGSEGV"),
        ("kill -KILL 0", 137, "SIGKILL"),
        ("exec /nonexistent", 127, None),
    ],
)
def test_it_ends_as_its_shell_has_ended(place: Place, command: str, code: int, name: str | None) -> None:
    supervisor = place.start(job("ends", command))
    supervisor.end(exit_code=int(code != 0))
    result = supervisor.journal().results()["ends"]
    assert (result["return_code"], result.get("signal"), result["ended"]) == (code, name, "exited")
    assert supervisor.journal().warnings() == [] or "KILL 0" in command


def test_p4_what_stays_in_the_group_is_asked_when_the_shell_has_ended(place: Place) -> None:
    supervisor = place.start(
        job("starts", f"{program('saves', 'saved')} & read -r _ <$BENCH/leave"),
        job("next", f"[ -e saved ] && {say('next')}", after=("starts",)),
        leftover_grace=waiting.LIMIT,
    )
    place.bench.said.expect(1, "ready", unless_gone=supervisor.pid)
    place.leave()
    place.bench.said.expect(1, "asked", unless_gone=supervisor.pid)
    place.leave()
    place.bench.said.expect(1, "next", unless_gone=supervisor.pid)
    supervisor.end(exit_code=0)
    place.bench.held.wait()
    journal = supervisor.journal()
    assert [entry["message"] for entry in journal.of("warning")] == [
        "job 'starts' exited and left 1 process behind"
    ]


@every_way
def test_p5_what_left_the_group_is_asked_when_its_job_ends(bench: Bench, way: str) -> None:
    place = Place(bench)
    supervisor = place.start(
        job("other", f"{say('other')} read -r _ <$BENCH/quiet"),
        job("starts", f"{escapes(way, child('saver.py', 'saved', '-'))} read -r _ <$BENCH/leave"),
        job("next", f"[ -e saved ] && {say('next')}", after=("starts",)),
        leftover_grace=waiting.LIMIT,
    )
    bench.said.expect(1, "ready", unless_gone=supervisor.pid)
    bench.said.expect(1, "other", unless_gone=supervisor.pid)
    place.leave()
    bench.said.expect(1, "next", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    bench.held.wait()
    journal = supervisor.journal()
    assert journal.results()["starts"]["status"] == "completed"
    assert [(entry["code"], entry["job_id"]) for entry in journal.of("warning")] == [("escaped", 2)]


# -- termination --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["group", "leader"])
def test_p4_a_job_saves_within_its_grace(place: Place, scope: str) -> None:
    command = f"exec {program('saves', 'saved')}"
    supervisor = place.start(job("saves", command, signal_scope=scope))
    place.bench.said.expect(1, "ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    place.bench.said.expect(1, "asked", unless_gone=supervisor.pid)
    place.leave()
    supervisor.end(exit_code=75)
    place.bench.held.wait()
    assert (place.bench.directory / "saved").exists()
    result = supervisor.journal().results()["saves"]
    assert (result["status"], result["ended"], result["return_code"]) == ("terminated", "in_grace", 0)


@pytest.mark.parametrize("scope", ["group", "leader"])
def test_p6_each_process_gets_the_signal_once(bench: Bench, scope: str) -> None:
    """The one that is asked for the group, or for the leader alone, is not passed on a second time."""
    place = Place(bench)
    below = child("counts.py", "below")
    supervisor = place.start(
        job(
            "counts",
            f"{below} & exec {child('counts.py', 'shell')}",
            signal_scope=scope,
            sigterm_lead_seconds=1000.0,
        )
    )
    bench.said.expect(2, "ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    wanted = ["got SIGTERM below", "got SIGTERM shell"][scope == "leader" :]
    got = bench.said.expect(len(wanted), "got", unless_gone=supervisor.pid)
    supervisor.let_grace_pass()
    supervisor.end(exit_code=75)
    bench.held.wait()
    assert sorted(got + bench.said.drain()) == wanted
    result = supervisor.journal().results()["counts"]
    assert (result["ended"], result["return_code"]) == ("killed", 137)


def test_p6_a_deaf_daemon_without_an_environment_is_killed_with_its_job(place: Place) -> None:
    way = escapes(WIPED["env_i_daemon"], program("deaf"))
    supervisor = place.start(job("deaf", f"{way} exec sleep 1000", sigterm_lead_seconds=1000.0))
    place.bench.said.expect(1, "ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    place.bench.said.expect(1, "got TERM", unless_gone=supervisor.pid)
    supervisor.let_grace_pass()
    supervisor.end(exit_code=75)
    place.bench.held.wait()
    assert supervisor.journal().results()["deaf"]["ended"] == "killed"
    assert place.bench.said.drain() == [], "asked once"


def test_a_job_that_cannot_save_is_killed_at_once(place: Place) -> None:
    way = escapes(WIPED["env_i_daemon"], program("deaf"))
    supervisor = place.start(job("plain", f"{way} exec sleep 1000", saves=False))
    place.bench.said.expect(1, "ready", unless_gone=supervisor.pid)
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    place.bench.held.wait()
    assert supervisor.journal().signals_of("plain") == ["SIGKILL"]


def test_p14_a_stopped_job_goes_on_to_save(place: Place) -> None:
    supervisor = place.start(job("saves", f"exec {program('saves', 'saved')}"))
    place.bench.said.expect(1, "ready", unless_gone=supervisor.pid)
    leader = on_record(supervisor)
    os.killpg(leader, signal.SIGSTOP)
    waiting.wait_for_state(leader, "T")
    supervisor.signal(signal.SIGTERM)
    place.leave()
    supervisor.end(exit_code=75)
    place.bench.held.wait()
    assert supervisor.journal().results()["saves"]["ended"] == "in_grace"


@pytest.mark.parametrize("where", ["before", "after"])
def test_p7_a_signal_before_the_shell_runs_reaches_it(bench: Bench, where: str) -> None:
    """It comes when only the leader is there to get it, or when both are."""
    gate = bench.gate("gate")
    reader, writer = os.pipe()
    environment = {
        **os.environ,
        "BENCH": str(bench.directory),
        "TORC_TEST_MARK": bench.mark.partition("=")[2],
    }
    argv = namespaces.leader_command(
        ("/bin/bash", "-c", "echo ran >ran"), environment, scope="group", signum=15, grace=30.0, cgroup=None
    )
    order = argv[argv.index(namespaces.ROOT) + 1 :]
    leader = subprocess.Popen(
        [sys.executable, str(CHILDREN / "leader.py"), where, *order],
        stdin=reader,
        env=environment,
        cwd=bench.directory,
        start_new_session=True,
    )
    bench.said.expect(1, "there", unless_gone=leader.pid)
    os.killpg(leader.pid, signal.SIGTERM)
    gate.put(b"x")
    assert leader.wait(waiting.LIMIT) == -signal.SIGTERM
    assert not (bench.directory / "ran").exists()
    os.close(reader)
    os.close(writer)


# -- somebody is killed -------------------------------------------------------------------------------------


def test_p10_the_keeper_of_a_killed_supervisor_lets_it_save(place: Place) -> None:
    supervisor = place.start(job("saves", f"exec {program('saves', 'saved')}"))
    place.bench.said.expect(1, "ready", unless_gone=supervisor.pid)
    keeper = supervisor.keeper()
    supervisor.signal(signal.SIGKILL)
    place.bench.said.expect(1, "asked")
    place.leave()
    place.bench.held.wait()
    waiting.wait_for_end(keeper)
    assert (place.bench.directory / "saved").exists()
    assert supervisor.journal().results()["saves"]["ended"] == "in_grace"


@pytest.mark.parametrize("saves", [True, False], ids=["saves", "plain"])
@pytest.mark.parametrize("scope", ["group", "leader"])
def test_p10_nothing_outlives_supervisor_and_keeper(place: Place, scope: str, *, saves: bool) -> None:
    """The daemon has wiped its environment, lost its ancestors, and is deaf.  The other one may save if its job may."""
    way = escapes(WIPED["env_i_daemon"], program("deaf"))
    command = f"{way} exec {program('saves', 'saved')}"
    supervisor = place.start(
        job("job", command, saves=saves, signal_scope=scope, sigterm_lead_seconds=1000.0)
    )
    place.bench.said.expect(2, "ready", unless_gone=supervisor.pid)
    leader = on_record(supervisor)
    kill(supervisor.keeper(), supervisor.pid)
    if saves:
        place.bench.said.expect(1, "asked")
        place.leave()
        place.bench.said.expect(1, "saved")
        supervisor.let_grace_pass(leader)
    place.bench.held.wait()
    assert (place.bench.directory / "saved").exists() == saves
    place.wait_for_nobody()
    lost = place.open()
    lost.end(exit_code=0)
    assert lost.journal().results()["job"]["ended"] == "lost"


def test_p10_control_without_a_namespace_the_daemon_outlives_both(place: Place) -> None:
    way = escapes(WIPED["env_i_daemon"], program("deaf"))
    supervisor = place.start(job("job", f"{way} exec sleep 1000"), isolated=False)
    daemon = int(place.bench.said.expect(1, "ready", unless_gone=supervisor.pid)[0].split()[1])
    on_record(supervisor)
    kill(supervisor.keeper(), supervisor.pid)
    place.open().end(exit_code=0)  # the next command ends what it can find
    try:
        place.wait_for_nobody()
        assert place.bench.held.held()
    finally:
        os.kill(daemon, signal.SIGKILL)
    place.bench.held.wait()


def test_p6_a_grace_that_had_begun_goes_on_when_both_are_killed(place: Place) -> None:
    supervisor = place.start(job("deaf", f"exec {program('deaf')}", sigterm_lead_seconds=1000.0))
    place.bench.said.expect(1, "ready", unless_gone=supervisor.pid)
    keeper, leader = supervisor.keeper(), on_record(supervisor)
    supervisor.signal(signal.SIGTERM)
    place.bench.said.expect(1, "got TERM", unless_gone=supervisor.pid)
    kill(keeper, supervisor.pid)
    supervisor.let_grace_pass(leader)
    place.bench.held.wait()
    assert place.bench.said.drain() == [], "asked once"


@pytest.mark.parametrize("who", ["leader", "init"])
def test_when_leader_or_init_is_killed_all_is(place: Place, who: str) -> None:
    way = escapes(WIPED["env_i_daemon"], program("deaf"))
    supervisor = place.start(job("job", f"{way} exec sleep 1000"))
    place.bench.said.expect(1, "ready", unless_gone=supervisor.pid)
    leader = on_record(supervisor)
    (init,) = waiting.children_of(leader)
    os.kill({"leader": leader, "init": init}[who], signal.SIGKILL)
    supervisor.end(exit_code=1)
    place.bench.held.wait()
    result = supervisor.journal().results()["job"]
    assert (result["status"], result["return_code"], result["signal"]) == ("failed", 137, "SIGKILL")


def test_p10_a_leader_whose_supervisor_is_gone_starts_nothing(bench: Bench) -> None:
    argv = namespaces.leader_command(
        ("/bin/bash", "-c", "echo ran >ran"), os.environ, scope="group", signum=15, grace=0.0, cgroup=None
    )
    with subprocess.Popen(
        ["bash", "-c", '"$@"; echo $?', "other parent", *argv], stdout=subprocess.PIPE, cwd=bench.directory
    ) as other:
        assert other.stdout is not None
        assert other.stdout.read() == b"125\n"
    assert not (bench.directory / "ran").exists()


# -- limits on namespaces -----------------------------------------------------------------------------------


def with_limit(number: int) -> str:
    """A user namespace of its own, where we may set limits, and are root."""
    script = f'echo {number} >/proc/sys/user/max_pid_namespaces; exec "$@"'
    return f"set -- unshare --user --map-root-user bash -c '{script}' limited \"$@\""


@pytest.fixture
def needs_user_namespaces() -> None:
    if subprocess.run(["unshare", "--user", "--map-root-user", "true"], check=False).returncode:
        pytest.skip("no user namespaces here")


@pytest.mark.usefixtures("needs_user_namespaces")
def test_p11_a_job_waits_for_a_namespace_and_does_not_fail(bench: Bench) -> None:
    place = Place(bench)
    first, second = bench.gate("first"), bench.gate("second")
    jobs = (job(name, f"{say(name)} read -r _ <$BENCH/{name}") for name in ("first", "second"))
    workflow = workflow_of(*jobs, isolation="pid_namespace")
    supervisor = bench.start(workflow=workflow, before=with_limit(1))
    (came,) = bench.said.expect(1, unless_gone=supervisor.pid)
    assert place.bench.said.lines == []
    gates: dict[str, Callable[[bytes], None]] = {"first": first.put, "second": second.put}
    gates.pop(came)(b"\n")
    ((name, put),) = gates.items()
    bench.said.expect(1, name, unless_gone=supervisor.pid)
    put(b"\n")
    supervisor.end(exit_code=0)


@pytest.mark.usefixtures("needs_user_namespaces")
def test_where_the_kernel_allows_none_nothing_is_started(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("name: x\njobs: [{name: inside, command: 'true', isolation: pid_namespace}]\n")
    run = f"{sys.executable} -m torc_supervise_cli run {spec}"
    done = subprocess.run(
        ["bash", "-c", f'set -- {run}\n{with_limit(0)}\nexec "$@"'],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2, done.stderr
    assert "job 'inside' has isolation: pid_namespace" in done.stderr
    assert "user.max_pid_namespaces is 0" in done.stderr
    assert "isolation: none" in done.stderr
    assert not (tmp_path / "torc_output").exists()


def test_whoever_ignores_sigchld_may_start_it(tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text("name: x\njobs: [{name: inside, command: 'true', isolation: pid_namespace}]\n")
    command = ["env", "--ignore-signal=CHLD", sys.executable, "-m", "torc_supervise_cli", "run", str(spec)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
