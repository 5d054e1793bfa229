"""Commands of actions, as the keeper runs them: order, failure, and how they are ended."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import waiting
from support.supervised import child
from support.waiting import EndOfFile, Fifo
from torc_supervise.helpers import commands
from torc_supervise.helpers.commands import end_commands, run_commands


class Shop:
    """Runs commands in a thread, as a chore is run; children tell the test what they reached."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key = uuid.uuid4().hex
        self.mark = f"TORC_TEST_MARK={self.key}"
        self.said = Fifo(directory / "said")
        self.held = EndOfFile(directory / "held")
        self.answer: dict[str, Any] = {}
        self.thread: threading.Thread | None = None

    def body(self, *written: str, **fields: Any) -> dict[str, Any]:
        environment = {"BENCH": str(self.directory), "TORC_TEST_MARK": self.key}
        return {
            "key": self.key,
            "commands": list(written),
            "directory": str(self.directory),
            "log": str(self.directory / "actions.log"),
            "environment": environment,
            "open_files": None,
            "title": "action 1 (on_worker_start, run_commands)",
        } | fields

    def begin(self, *written: str, **fields: Any) -> None:
        def work() -> None:
            self.answer = run_commands(self.body(*written, **fields))

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()

    def end(self) -> dict[str, Any]:
        assert self.thread is not None
        self.thread.join(waiting.LIMIT)
        assert not self.thread.is_alive(), "the commands do not end"
        return self.answer

    def log(self) -> str:
        return (self.directory / "actions.log").read_text()

    def close(self) -> None:
        waiting.kill_marked(self.mark)
        self.said.close()
        self.held.close()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.close()


HOLDS = "exec 9>$BENCH/held; echo ready $$ >$BENCH/said;"


def test_commands_run_in_order_in_their_directory_and_write_to_the_log(shop: Shop) -> None:
    answer = run_commands(
        shop.body("pwd", "echo a >made; echo to stderr >&2", "cat made", "echo $X", environment={"X": "x1"})
    )
    assert answer == {"ok": True, "done": 4}
    lines = [line for line in shop.log().splitlines() if not line.startswith("==")]
    assert lines == [str(shop.directory), "to stderr", "a", "x1"]
    headings = [line for line in shop.log().splitlines() if line.startswith("==")]
    assert len(headings) == 4
    assert headings[0].endswith("action 1 (on_worker_start, run_commands), command 1: pwd")


def test_the_first_failure_is_the_last_command(shop: Shop) -> None:
    answer = run_commands(shop.body("true", "exit 3", "touch never"))
    assert answer["ok"] is False
    assert answer["done"] == 1
    assert answer["message"] == f"command 2 of 3: exit code 3, see {shop.directory}/actions.log"
    assert not (shop.directory / "never").exists()


@pytest.mark.parametrize(
    ("command", "fields", "message"),
    [
        ("kill -9 $$", {}, "died of signal 9"),
        ("true", {"directory": "/proc/none"}, "exit code 125"),
        ("true", {"log": "/proc/none/log"}, "exit code 125"),
        ("true\0", {}, "cannot be started"),
        ("if", {}, "exit code 2"),
    ],
)
def test_what_cannot_be_run_is_an_answer(
    shop: Shop, command: str, fields: dict[str, Any], message: str
) -> None:
    answer = run_commands(shop.body(command, **fields))
    assert answer["ok"] is False
    assert message in answer["message"]


def test_a_command_has_a_session_of_its_own_and_default_signals(shop: Shop) -> None:
    """The keeper ignores what a terminal sends; its commands must not inherit that."""
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        shop.begin(f"{HOLDS} read line")
        assert shop.end()["ok"] is False, "stdin is /dev/null"
        shop.key = uuid.uuid4().hex
        shop.begin(f"{HOLDS} exec sleep 1000")
        first, second = (int(line.split()[1]) for line in shop.said.expect(2, "ready"))
        assert os.getsid(second) == second != os.getsid(0)
        assert not waiting.ignores(second, signal.SIGUSR2)
        assert not waiting.ignores(second, signal.SIGTERM)
        assert first != second
    finally:
        signal.signal(signal.SIGUSR2, before)
        end_commands({"key": shop.key, "grace": 0.0})
        shop.end()


def test_commands_are_asked_to_end_and_may_finish_what_they_do(shop: Shop) -> None:
    shop.begin(f"exec {child('saver.py', 'saved', '-')}", "touch never")
    shop.said.expect(1, "ready")
    end_commands({"key": shop.key, "grace": 1000.0})
    answer = shop.end()
    assert (shop.directory / "saved").exists()
    assert answer["ok"] is False
    assert "command 1 of 2: ended with the run (exit code 0)" in answer["message"]
    assert not (shop.directory / "never").exists()
    shop.held.wait()


def test_p4_a_command_is_over_when_its_group_is_empty(shop: Shop) -> None:
    """Its shell dies of SIGTERM at once; the child that saves is waited for."""
    gate = Fifo(shop.directory / "gate")
    shop.begin(f"{child('saver.py', 'saved', 'gate')} & wait")
    shop.said.expect(1, "ready")
    end_commands({"key": shop.key, "grace": 1000.0})
    gate.put(b"go\n")
    assert shop.end()["ok"] is False
    assert (shop.directory / "saved").exists()
    gate.close()


def test_commands_that_do_not_listen_are_killed_with_all_they_started(shop: Shop) -> None:
    shop.begin(f"trap '' TERM; (sleep 1000) & {HOLDS} sleep 1000; sleep 1000")
    shop.said.expect(1, "ready")
    end_commands({"key": shop.key, "grace": 1000.0})
    end_commands({"key": shop.key, "grace": 0.0})
    answer = shop.end()
    assert "died of signal 9" in answer["message"]
    shop.held.wait()


def test_p14_a_stopped_command_hears_that_it_is_to_end(shop: Shop) -> None:
    shop.begin(f"{HOLDS} kill -STOP $$")
    pid = int(shop.said.expect(1, "ready")[0].split()[1])
    waiting.wait_for_state(pid, "T")
    end_commands({"key": shop.key, "grace": 1000.0})
    assert "died of signal 15" in shop.end()["message"]


def test_commands_that_were_ended_before_they_began_do_not_begin(shop: Shop) -> None:
    end_commands({"key": shop.key, "grace": 0.0})
    answer = run_commands(shop.body("touch never"))
    assert answer["ok"] is False
    assert "not begun" in answer["message"]
    assert not (shop.directory / "never").exists()


def test_what_a_command_leaves_in_the_background_is_not_waited_for(shop: Shop) -> None:
    answer = run_commands(
        shop.body("(exec 9>$BENCH/held; echo up >$BENCH/said; exec sleep 1000) & read <$BENCH/said", "true")
    )
    assert answer["ok"] is True


def test_p11_a_full_machine_is_not_a_failed_command(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    real, tries = commands.spawn, []

    def full(argv: tuple[str, ...], environment: Any) -> int:
        tries.append(argv)
        if len(tries) < 3:
            raise commands.SpawnRefusedError(11)
        return real(argv, environment)

    monkeypatch.setattr(commands, "spawn", full)
    assert run_commands(shop.body("true")) == {"ok": True, "done": 1}
    assert len(tries) == 3


def test_a_command_whose_keeper_is_gone_does_not_begin(shop: Shop) -> None:
    """Its shell looks who its parent is.  Control: the same line does begin where that is the keeper, which is us."""
    body = shop.body("", open_files=256)
    script = commands._Commands(body, -1)._script("echo ran")
    bash = ["bash", "-c", 'bash -c "$1"; exit $?', "parent", script]
    assert subprocess.run(bash, check=False).returncode == 125
    assert not (shop.directory / "actions.log").exists()
    assert subprocess.run(["bash", "-c", script], check=False).returncode == 0
    assert shop.log() == "ran\n"


def left(shop: Shop, number: int, *, nonce: str = "n1", before: str = "") -> subprocess.Popen[bytes]:
    """A process of a command, whose keeper is dead."""
    environment = {commands.ACTION_KEY: f"{shop.key}.{number}", "TORC_RUN_NONCE": nonce}
    process = subprocess.Popen(
        # It ends of no other's signal: a sleep that is hit first would have it end by itself.
        ["bash", "-c", f"{before} echo ready $$ >$BENCH/said; while :; do sleep 1000; done"],
        env={**os.environ, "BENCH": str(shop.directory), "TORC_TEST_MARK": shop.key, **environment},
        start_new_session=True,
    )
    shop.said.expect(starting_with="ready")
    return process


def test_what_a_dead_keeper_has_left_is_ended_and_what_an_earlier_command_left_is_not(shop: Shop) -> None:
    earlier, stranger, mine = left(shop, 0), left(shop, 1, nonce="n2"), left(shop, 1)
    body = {"key": shop.key, "environment": {"TORC_RUN_NONCE": "n1"}}
    with mine, earlier, stranger:
        assert commands.end_left_commands({**body, "grace": 1000.0}) == {}
        assert mine.wait() == -signal.SIGTERM
        with left(shop, 1, before="trap '' TERM;") as deaf:
            assert commands.end_left_commands({**body, "grace": 0.0}) == {}
            assert deaf.wait() == -signal.SIGKILL
        assert (earlier.poll(), stranger.poll()) == (None, None)
        earlier.kill()
        stranger.kill()
