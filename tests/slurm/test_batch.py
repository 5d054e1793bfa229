"""The batch script: lines that sbatch reads back as they were meant, and a command that bash does."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from torc_supervise.errors import TorcError
from torc_supervise.slurm import batch, submission
from torc_supervise.slurm.batch import BatchScript, RunSettings
from torc_supervise.store.layout import WorkflowFiles
from torc_supervise.workflow.model import Job, Workflow
from torc_supervise.workflow.schedulers import SlurmScheduler

WORKFLOW = Workflow('a training: 100% "new"\\', (Job(1, "j", "true"),))
SCHEDULER = SlurmScheduler("the 'gpu' one", "acc", extra="--signal=TERM@60")


def make(output: str = "/out", directory: str = "/sub", **scheduler: str) -> BatchScript:
    return batch.make_script(
        WORKFLOW,
        WorkflowFiles(output, 7),
        directory,
        replace(SCHEDULER, **scheduler),
        WORKFLOW.jobs,
        RunSettings(auto_resubmit=3, max_parallel_jobs=2),
        number=4,
    )


def read_as_sbatch(line: str) -> list[str]:
    """What sbatch 22.05 makes of what follows #SBATCH (its _get_argument)."""
    words, word, quote, position, inside = [], "", "", 0, False
    while position < len(line):
        character = line[position]
        position += 1
        if character == "\\":
            word, inside = word + line[position], True
            position += 1
        elif quote:
            quote, word = ("", word) if character == quote else (quote, word + character)
        elif character in "\"'":
            quote, inside = character, True
        elif character == "#":
            break
        elif character.isspace():
            words, word, inside = ([*words, word] if inside else words), "", False
        else:
            word, inside = word + character, True
    return [*words, word] if inside else words


def options(script: BatchScript) -> list[str]:
    found = [
        line.removeprefix("#SBATCH ") for line in script.text.splitlines() if line.startswith("#SBATCH ")
    ]
    return [word for line in found for word in read_as_sbatch(line)]


def test_the_script_reads_like_this() -> None:
    script = make()
    assert script.path == "/out/workflows/7/slurm_wf7_4.sh"
    assert script.name.startswith("torc_wf7_4_a_training_100_new_")
    assert script.text.splitlines() == [
        "#!/bin/bash",
        "# An allocation of 'the 'gpu' one' for workflow 7 'a training: 100% \"new\"\\'.",
        f"#SBATCH --job-name={script.name}",
        "#SBATCH --chdir=/sub",
        "#SBATCH --output=/out/slurm_output_wf7_sl%j.o",
        "#SBATCH --error=/out/slurm_output_wf7_sl%j.e",
        "#SBATCH --open-mode=append",
        "#SBATCH --account=acc",
        "#SBATCH --time=01:00:00",
        "#SBATCH --nodes=1",
        "#SBATCH --cpus-per-task=1  # as much as the largest job needs",
        "#SBATCH --signal=B:TERM@60",
        f'# torc-supervise: {{"name": "{script.name}", "scheduler": "the \'gpu\' one", "auto_resubmit": 3}}',
        "",
        "trap '' TERM INT USR1 USR2  # until the supervisor listens; it knows the end by itself",
        f"exec {shlex.quote(sys.executable)} -P -m torc_supervise_cli run 7 --output-dir /out --scheduler "
        "'the '\"'\"'gpu'\"'\"' one' --warned-by B:TERM@60 --auto-resubmit 3 --max-parallel-jobs 2",
    ]


@pytest.mark.parametrize(("trapped", "code"), [(True, 0), (False, -signal.SIGTERM)])
def test_an_early_signal_does_not_end_it(tmp_path: Path, trapped: bool, code: int) -> None:
    """In place of the supervisor a program that gets the signal before it has a handler; and without the trap."""
    *lines, command = make().text.splitlines()
    assert command.startswith("exec ")
    early = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"]
    script = [line for line in lines if trapped or not line.startswith("trap")]
    path = tmp_path / "script.sh"
    path.write_text("\n".join([*script, f"exec {shlex.join(early)}\n"]))
    assert subprocess.run(["bash", str(path)], check=False).returncode == code


def test_the_same_is_written_twice_but_for_the_name() -> None:
    first, second = make(), make()
    assert first.name != second.name, "a job is found by it"
    assert first.text.replace(first.name, second.name) == second.text


@given(
    st.text(
        st.characters(
            min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cs", "Zl", "Zp", "Cc"]
        )
    )
)
def test_what_is_quoted_is_read_back_as_it_was(text: str) -> None:
    found = options(make(directory=f"/d{text}", account=f"a{text}"))
    assert f"--chdir=/d{text}" in found
    assert f"--account=a{text}" in found


def test_a_percent_sign_in_the_output_directory_is_no_pattern() -> None:
    assert "--output=/100%%j/slurm_output_wf7_sl%j.o" in options(make(output="/100%j"))


@pytest.mark.parametrize("where", ["output", "directory"])
def test_a_line_break_in_a_directory_is_refused(where: str) -> None:
    with pytest.raises(TorcError, match="line break or control character"):
        make(**{where: "/a\nb"})


def test_a_backslash_in_the_output_directory_is_refused() -> None:
    with pytest.raises(TorcError, match="backslash"):
        make(output="/a\\b")


def test_scripts_are_numbered_kept_and_executable(tmp_path: Path) -> None:
    files = WorkflowFiles(str(tmp_path), 1)
    os.makedirs(files.directory)

    def write() -> BatchScript:
        return batch.write_script(WORKFLOW, files, "/sub", SCHEDULER, WORKFLOW.jobs, RunSettings(2))

    scripts = [write(), write()]
    os.unlink(scripts[0].path)
    scripts.append(write())
    assert [os.path.basename(s.path) for s in scripts] == [
        "slurm_wf1_1.sh",
        "slurm_wf1_2.sh",
        "slurm_wf1_3.sh",
    ]
    assert batch.existing_scripts(files) == [scripts[1].path, scripts[2].path]
    assert os.access(scripts[1].path, os.X_OK)
    facts = batch.read_facts(scripts[1].path)
    assert facts == batch.ScriptFacts(scripts[1].path, scripts[1].name, SCHEDULER.name, 2)


def test_a_script_that_somebody_changed_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s.sh"
    assert batch.read_facts(str(path)) is None
    for text in (
        "#!/bin/bash\n",
        "# torc-supervise: {]\n",
        "# torc-supervise: {}\n",
        "# torc-supervise: []\n",
    ):
        path.write_text(text)
        assert batch.read_facts(str(path)) is None


@pytest.mark.parametrize("name", ["OUTPUT", "ERROR", "INPUT", "JOB_NAME", "SIGNAL", "ARRAY_INX", "WAIT"])
def test_a_variable_that_would_win_over_a_line_of_the_script_is_not_handed_to_sbatch(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"SBATCH_{name}", "x")
    monkeypatch.setenv("SBATCH_CONSTRAINT", "fast")  # control: the script has no such line
    environment = submission.environment_of(make())
    assert f"SBATCH_{name}" not in environment
    assert environment["SBATCH_CONSTRAINT"] == "fast"
