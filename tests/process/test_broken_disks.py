"""Disks that become read-only or fail, for a while or for good (P8, P9); full ones are in test_faults.py."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import waiting
from support.mounts import mounted
from support.supervised import HOLD, SLEEPS, Bench, child, job, say

pytestmark = pytest.mark.process

WAITS = f"{HOLD} {say('at gate')} read -r _ <$BENCH/gate"


@pytest.mark.parametrize(
    ("error", "text"), [("EROFS", "Read-only file system"), ("EIO", "Input/output error"), ("EDQUOT", "full")]
)
def test_p9_a_disk_that_refuses_for_a_while_is_said_once_and_loses_nothing(
    bench: Bench, error: str, text: str
) -> None:
    """Journal and snapshot alike; jobs start and end meanwhile."""
    gate = bench.gate("gate")
    supervisor = bench.start(
        job("first", WAITS),
        *(job(f"j{i}", "exit 0", after=("first",)) for i in range(20)),
        job("saves", child("saver.py", "saved", "-"), after=tuple(f"j{i}" for i in range(20))),
    )
    bench.said.expect(1, "at gate", unless_gone=supervisor.pid)
    waiting.wait_until(lambda: supervisor.journal().of("job_started"), "the start is not written")
    sick = bench.directory / "sick_disk"
    (bench.directory / "new").write_text(error)
    (bench.directory / "new").rename(sick)
    gate.put(b"\n")
    bench.said.expect(1, "ready", unless_gone=supervisor.pid)  # jobs go on
    waiting.wait_until(lambda: f"events.jsonl: {waits(text)}" in supervisor.said(), "it does not say so")
    sick.unlink()
    waiting.wait_until(lambda: "everything is written again" in supervisor.said(), "it is not written")
    supervisor.signal(signal.SIGTERM)
    supervisor.end(exit_code=75)
    journal = supervisor.journal()
    assert len(journal.results()) == 22
    assert journal.results()["saves"]["ended"] == "in_grace"
    assert journal.warnings().count("journal_not_written") == 1
    assert journal.warnings().count("journal_written_again") == 1
    assert supervisor.said().count(f"events.jsonl: {waits(text)}") == 1


def waits(text: str) -> str:
    return "the disk is full" if text == "full" else text


# -- real ones ----------------------------------------------------------------------------------------------


@pytest.fixture
def read_only_stdio(bench: Bench) -> Iterator[Path]:
    yield from mounted(bench.output / "job_stdio", "-t", "tmpfs", "-o", "ro,mode=755", "torc-test")


@pytest.mark.root
@pytest.mark.usefixtures("read_only_stdio")
def test_a_job_whose_files_are_on_a_read_only_disk_fails_and_the_others_go_on(bench: Bench) -> None:
    supervisor = bench.start(job("refused", "touch ran"), job("other", "touch other", stdio="none"))
    supervisor.end(exit_code=1)
    results = supervisor.journal().results()
    assert (results["refused"]["status"], results["refused"]["return_code"]) == ("failed", 125)
    assert results["other"]["status"] == "completed"
    assert not (bench.directory / "ran").exists(), "it did not run without its files"
    assert "job_wf1_j1_r1_a1.o: Read-only file system" in supervisor.said()


class Ext4:
    """A file system that an error makes read-only, as on a node whose disk goes."""

    def __init__(self, mount: Path) -> None:
        self.mount = mount
        source = subprocess.run(["findmnt", "-no", "SOURCE", str(mount)], capture_output=True, check=True)
        self._trigger = Path(f"/sys/fs/ext4/{Path(os.fsdecode(source.stdout.strip())).name}/trigger_fs_error")

    def go_bad(self) -> None:
        self._trigger.write_text("torc-supervise's test")


@pytest.fixture
def ext4(tmp_path: Path) -> Iterator[Ext4]:
    image = tmp_path / "image"
    with open(image, "wb") as file:
        file.truncate(4 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", str(image)], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("no ext4 can be made here")
    for mount in mounted(tmp_path / "disk", "-o", "loop,errors=remount-ro", str(image)):
        yield Ext4(mount)


@pytest.mark.root
def test_p8_a_disk_that_becomes_read_only_for_good_holds_up_nobody(ext4: Ext4, bench: Bench) -> None:
    """Jobs save elsewhere; exit code 70 says that the records are nowhere."""
    leave = bench.gate("gate")
    supervisor = bench.start(
        job("saves", child("saver.py", "saved", "-"), stdio="none"),
        job("first", WAITS, stdio="none"),
        job("second", SLEEPS.replace("ready", "second"), after=("first",), stdio="none"),
        output=ext4.mount / "out",
        flush_limit=6.0,
    )
    bench.said.expect(1, "ready", unless_gone=supervisor.pid)
    bench.said.expect(1, "at gate", unless_gone=supervisor.pid)
    keeper = supervisor.keeper()
    ext4.go_bad()
    leave.put(b"\n")
    bench.said.expect(1, "second", unless_gone=supervisor.pid)
    waiting.wait_until(lambda: "events.jsonl: Read-only file system" in supervisor.said(), "it says nothing")
    supervisor.signal(signal.SIGTERM)
    bench.said.expect(1, "saved", unless_gone=supervisor.pid)
    bench.held.wait()
    assert supervisor.end_alone() == 70
    assert "records to be written: is the disk slow or full?" in supervisor.said()
    assert "the keeper goes on alone" in supervisor.said()
    assert (bench.directory / "saved").exists()
    os.kill(keeper, signal.SIGKILL)
