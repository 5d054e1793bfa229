"""One live writer per workflow.  Races are real: threads and processes, many times."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from msgspec.structs import replace

from torc_supervise.errors import WorkflowBusy
from torc_supervise.store import lock as module
from torc_supervise.store.jsontext import dumps
from torc_supervise.store.lock import Lock, Owner, acquire, read_owner

DEAD = Owner("node1", 11, 111, "boot", "2026-01-01T00:00:00.000000Z", "run", slurm_job_id="4711")


def alive(owner: Owner) -> bool:
    """In these tests everybody but ``run`` of pid 11 lives."""
    return owner.pid != DEAD.pid


def owner(pid: int) -> Owner:
    return replace(DEAD, pid=pid, command="reinitialize")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "lock")


def leave_dead(path: str) -> Owner:
    """A lock whose owner is dead."""
    return acquire(path, DEAD, alive)[0].owner


def test_a_free_lock_is_taken_and_released(path: str) -> None:
    held, before = acquire(path, owner(1), alive)
    assert before is None
    assert read_owner(path) == held.owner
    held.release()
    assert os.listdir(os.path.dirname(path)) == []


def test_a_busy_lock_names_its_owner_and_the_way_out(path: str) -> None:
    acquire(path, owner(1), alive)
    with pytest.raises(WorkflowBusy) as caught:
        acquire(path, owner(2), alive)
    assert "'torc-supervise reinitialize' (pid 1 on node1, Slurm job 4711, since 2026" in caught.value.message
    assert path in (caught.value.hint or "")
    assert os.listdir(os.path.dirname(path)) == ["lock"], "nothing is left behind"


def test_a_dead_owners_lock_is_taken_over(path: str) -> None:
    dead = leave_dead(path)
    held, before = acquire(path, owner(2), alive)
    assert before == dead
    assert read_owner(path) == held.owner
    assert os.listdir(os.path.dirname(path)) == ["lock"], "claims are gone"


def test_a_claimant_that_died_is_taken_over_as_well(path: str) -> None:
    dead = leave_dead(path)
    claim = f"{path}.after-{dead.nonce}"
    acquire(claim, DEAD, alive)
    held, before = acquire(path, owner(2), alive)
    assert before == dead
    assert read_owner(path) == held.owner
    assert os.listdir(os.path.dirname(path)) == ["lock"]


def test_a_taker_that_died_as_well_still_names_whom_it_has_taken_from(path: str) -> None:
    first = leave_dead(path)
    second = acquire(path, replace(DEAD, command="reset"), alive)[0].owner
    held, before = acquire(path, owner(2), alive)
    assert before == second
    on_disk = read_owner(path)
    assert on_disk is not None
    assert [each.nonce for each in on_disk.after] == [second.nonce, first.nonce]
    assert all(each.after == () for each in on_disk.after)
    held.settle()
    assert held.owner.after == ()


def test_a_lock_is_given_back_to_the_dead_owner(path: str) -> None:
    first = leave_dead(path)
    held, _ = acquire(path, owner(2), alive)
    held.give_back()
    assert read_owner(path) == first
    held, before = acquire(path, owner(3), alive)
    assert before == first
    held.settle()
    held.give_back()
    assert os.listdir(os.path.dirname(path)) == []


def test_a_full_disk_leaves_a_dead_owners_lock_as_it_was(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dead, write, writes = leave_dead(path), module._write_temporary, 0

    def refuse(where: str, who: Owner) -> str:
        nonlocal writes
        writes += 1
        if writes == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(where, who)

    monkeypatch.setattr(module, "_write_temporary", refuse)
    with pytest.raises(OSError, match="No space left"):
        acquire(path, owner(2), alive)
    assert read_owner(path) == dead
    assert os.listdir(os.path.dirname(path)) == ["lock"], "the claim is gone"


def test_release_removes_only_our_own(path: str) -> None:
    leave_dead(path)
    stale = Lock(path, replace(DEAD, nonce="of another life"))
    held, _ = acquire(path, owner(2), alive)
    stale.release()
    assert read_owner(path) == held.owner
    held.release()
    held.release()
    assert read_owner(path) is None


def test_a_lock_that_names_the_keeper_keeps_its_nonce(path: str) -> None:
    held, _ = acquire(path, owner(2), alive)
    held.name_keeper(33, 333)
    now = read_owner(path)
    assert now is not None
    assert (now.pid, now.keeper_pid, now.keeper_ticks, now.nonce) == (2, 33, 333, held.owner.nonce)
    assert "its keeper 33" in now.describe()
    held.release()
    assert read_owner(path) is None


@pytest.mark.parametrize(
    "moment", ["before it looks", "while it writes", "after its claim", "before its rename"]
)
def test_a_keepers_signature_never_replaces_a_new_owner(
    path: str, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The supervisor was killed, and somebody comes at each moment of what its keeper does."""
    held, _ = acquire(path, owner(11), alive)
    taken: list[Lock] = []

    def take_over() -> None:
        monkeypatch.undo()
        with contextlib.suppress(WorkflowBusy):
            taken.append(acquire(path, owner(2), lambda holder: holder.keeper_pid is not None)[0])

    def hook(name: str, *, after: bool) -> None:
        real: Callable[..., object] = getattr(os, name)

        def call(*arguments: object) -> object:
            if after:
                result = real(*arguments)
                take_over()
                return result
            take_over()
            return real(*arguments)

        monkeypatch.setattr(module.os, name, call)

    match moment:
        case "before it looks":
            take_over()
        case "while it writes":
            hook("fsync", after=True)
        case "after its claim":
            hook("link", after=True)
        case "before its rename":
            hook("rename", after=False)
    refusal = None
    try:
        held.name_keeper(33, 333)
    except OSError as error:
        refusal = error.errno
    if taken:
        assert refusal == errno.EBUSY
        assert read_owner(path) == taken[0].owner
        assert held.owner.keeper_pid is None
    else:
        assert refusal is None, "who came was refused: a keeper lives"
        assert read_owner(path) == held.owner
    assert bool(taken) == (moment in ("before it looks", "while it writes"))
    assert os.listdir(os.path.dirname(path)) == ["lock"]


def test_a_keepers_signature_gives_way_to_a_claim(path: str) -> None:
    held, _ = acquire(path, owner(11), alive)
    claim, _ = acquire(f"{path}.after-{held.owner.nonce}", owner(2), alive)
    with pytest.raises(OSError, match="somebody is taking"):
        held.name_keeper(33, 333)
    assert sorted(os.listdir(os.path.dirname(path))) == ["lock", f"lock.after-{held.owner.nonce}"]
    assert claim.is_ours()


def test_a_keeper_that_died_over_its_signature_keeps_nobody_out(path: str) -> None:
    """Neither the next keeper, nor who takes the workflow over after all of them."""
    held, _ = acquire(path, owner(11), alive)
    first, _ = acquire(f"{path}.after-{held.owner.nonce}", replace(owner(11), keeper_pid=32), alive)
    held.name_keeper(33, 333)
    assert read_owner(path) == held.owner
    assert os.listdir(os.path.dirname(path)) == ["lock"]
    acquire(f"{path}.after-{held.owner.nonce}", first.owner, alive)
    new, before = acquire(path, owner(2), lambda holder: False)
    assert before == held.owner
    assert read_owner(path) == new.owner
    assert os.listdir(os.path.dirname(path)) == ["lock"]


def test_a_lock_that_is_left_to_the_keeper_is_released_by_it_alone(path: str) -> None:
    held, _ = acquire(path, owner(2), alive)
    keepers = Lock(path, held.owner)  # as the fork has it
    held.leave_to_keeper()
    held.release()
    assert read_owner(path) is not None
    keepers.release()
    assert read_owner(path) is None


@pytest.mark.parametrize("content", [b"", b"garbage", b"{}", b"[]", b'{"host":"x"}'])
def test_p12_a_lock_that_cannot_be_read_is_refused_and_not_waited_for(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)
    with pytest.raises(WorkflowBusy, match="cannot be read"):
        acquire(path, owner(2), alive)


def test_a_link_whose_answer_the_network_lost_is_ours(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def lossy(source: str, target: str) -> None:
        real(source, target)
        raise FileExistsError(17, "it was sent twice")

    monkeypatch.setattr(module.os, "link", lossy)
    held, before = acquire(path, owner(2), alive)
    assert before is None
    assert read_owner(path) == held.owner


def test_a_field_of_a_newer_version_is_ignored(path: str) -> None:
    acquire(path, owner(2), alive)
    text = Path(path).read_text().replace('"host"', '"mood":"sad","host"')
    Path(path).write_text(text)
    found = read_owner(path)
    assert found is not None
    assert found.pid == 2


# -- races --------------------------------------------------------------------------------------------------------


def race(path: str, count: int) -> list[str]:
    """``count`` threads go for the lock at once; what became of each."""
    barrier, results = threading.Barrier(count), [""] * count

    def contend(n: int) -> None:
        barrier.wait()
        try:
            acquire(path, owner(100 + n), alive)
            results[n] = "won"
        except WorkflowBusy:
            results[n] = "busy"

    threads = [threading.Thread(target=contend, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.parametrize("attempt", range(40))
def test_only_one_of_many_takes_a_dead_owners_lock_over(path: str, attempt: int) -> None:
    dead = leave_dead(path)
    if attempt % 2:  # and a claimant that died on the way
        acquire(f"{path}.after-{dead.nonce}", DEAD, alive)
    results = race(path, 8)
    assert sorted(results) == ["busy"] * 7 + ["won"]
    holder = read_owner(path)
    assert holder is not None
    assert holder.pid == 100 + results.index("won")
    assert os.listdir(os.path.dirname(path)) == ["lock"]


@pytest.mark.parametrize("attempt", range(10))
def test_only_one_of_many_takes_a_free_lock(path: str, attempt: int) -> None:
    assert race(path, 8).count("won") == 1


def _write_as(path: str, owner: Owner) -> None:
    """Replace a lock by one of another owner with the same nonce."""
    temporary = f"{path}.{os.getpid()}"
    Path(temporary).write_bytes(dumps(owner))
    os.rename(temporary, path)


def _contend(path: str, pid: int, go: Connection, out: Connection) -> None:
    go.recv()
    wins = 0
    for _ in range(30):
        try:
            held, _ = acquire(path, owner(pid), alive)
        except WorkflowBusy:
            continue
        try:
            os.mkdir(f"{path}.inside")  # mutual exclusion: never two in here
            os.rmdir(f"{path}.inside")
            wins += 1
        except FileExistsError:
            wins = -1000
        if wins % 3:
            held.release()
        else:  # die with the lock held: the next one takes it over
            _write_as(path, replace(held.owner, pid=DEAD.pid, start_ticks=1))
    out.send(wins)


@pytest.mark.process
def test_of_many_processes_that_take_release_and_die_never_two_hold_it(path: str) -> None:
    context = multiprocessing.get_context("fork")
    processes, gates, ends = [], [], []
    for pid in range(200, 206):
        go_read, go_write = context.Pipe(duplex=False)
        out_read, out_write = context.Pipe(duplex=False)
        process = context.Process(target=_contend, args=(path, pid, go_read, out_write))
        process.start()
        processes.append(process)
        gates.append(go_write)
        ends.append(out_read)
    for gate in gates:
        gate.send("go")
    wins = [end.recv() for end in ends]
    for process in processes:
        process.join()
    assert all(n >= 0 for n in wins), "two were inside at once"
    assert sum(wins) > 0
