"""The guide's complete example, as a user runs it: stopped while it trains, and resumed."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable

import pytest

from support.cli import Cli, Done, only, statuses

NODE = ("--num-cpus", "8", "--memory-gb", "64", "--num-gpus", "1")
TRAIN = "train.py --checkpoint-dir checkpoints"


def stop_while_training(cli: Cli, signum: signal.Signals = signal.SIGTERM) -> Done:
    """Run the workflow and signal the supervisor as soon as train_model is ready for it.

    As it is it trains for two seconds, in which a busy machine may not get as far as the signal: so it takes hours.
    """
    text = (cli.directory / "workflow.yaml").read_text()
    assert TRAIN in text
    cli.write("workflow.yaml", text.replace(TRAIN, f"{TRAIN} --seconds-per-epoch $(cat pace)"))
    cli.write("pace", "1000\n")
    pipe = cli.stdout_pipe(job_id=2)
    supervisor = cli.start("run", "workflow.yaml", *NODE)
    pipe.wait_for("no checkpoint at")
    supervisor.signal(signum)
    stopped = supervisor.finish()
    cli.write("pace", "0.05\n")
    return stopped


@pytest.mark.parametrize(
    "signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]
)
def test_the_guides_example_is_stopped_by_any_of_the_signals_and_resumed(
    example: Callable[[str], Cli], signum: signal.Signals
) -> None:
    cli = example("ml_training")
    stopped = stop_while_training(cli, signum)

    assert stopped.code == 75
    assert f"{signum.name} received: 1 job asked to save, waiting up to 30 s" in stopped.err
    # Not always the last line: a keeper that takes long to leave is not waited for.
    way_on = only(line for line in stopped.err.splitlines() if "to go on: " in line)
    how = way_on.partition("to go on: torc-supervise ")[2]
    status = cli.run("status", "1", "-f", "json").json
    assert statuses(status) == {"preprocess": "completed", "train_model": "terminated", "evaluate": "blocked"}
    assert status["state"] == "terminated"
    train = only(job for job in status["jobs"] if job["name"] == "train_model")
    assert (train["ended"], train["checkpoint_saved"], train["return_code"]) == ("in_grace", True, 0)
    assert (cli.directory / "checkpoints" / "checkpoint.json").exists()

    again = cli.run("reinitialize", "1")
    assert again.code == 0
    assert "train_model  was terminated" in again.out
    assert shlex.split(how) == ["run", "1", *NODE]
    resumed = cli.run(*shlex.split(how))
    assert resumed.code == 0, resumed.err
    assert "resumed from epoch" in cli.run("logs", "1", "train_model").out
    final = cli.run("status", "1", "-f", "json").json
    assert set(statuses(final).values()) == {"completed"}
    assert (final["state"], final["run_id"]) == ("completed", 2)


def test_run_of_a_terminated_workflow_reinitializes_by_itself(example: Callable[[str], Cli]) -> None:
    cli = example("ml_training")
    stop_while_training(cli)
    resumed = cli.run("run", "1", *NODE, "-f", "json")
    assert resumed.code == 0
    assert resumed.json["reset"] == {"train_model": "was terminated"}
    assert resumed.json["run_id"] == 2


def test_every_field_of_the_example_is_acted_on(example: Callable[[str], Cli]) -> None:
    cli = example("ml_training")
    assert "not acted on yet" not in cli.run("validate", "workflow.yaml").err


def test_a_job_that_can_never_fit_is_an_error_before_anything_starts(example: Callable[[str], Cli]) -> None:
    cli = example("ml_training")
    refused = cli.run("run", "workflow.yaml", "--num-cpus", "4", "--memory-gb", "64", "--num-gpus", "1")
    assert refused.code == 2
    assert "job 'train_model' needs 8 CPUs, this machine offers 4" in refused.err
    assert not (cli.directory / "torc_output").exists()


def test_the_gpu_is_handed_out_by_its_index(example: Callable[[str], Cli]) -> None:
    cli = example("ml_training")
    text = (
        (cli.directory / "workflow.yaml")
        .read_text()
        .replace("python3 evaluate.py", "echo gpu=$CUDA_VISIBLE_DEVICES")
    )
    text = text.replace(
        "command: echo gpu",
        "resource_requirements: {num_cpus: 1, memory: 1m, num_gpus: 1}\n    command: echo gpu",
    )
    cli.write("workflow.yaml", text)
    env = {"CUDA_VISIBLE_DEVICES": "GPU-abc,GPU-def"}
    assert cli.run("run", "workflow.yaml", *NODE[:4], "--num-gpus", "1", env=env).code == 0
    assert cli.run("logs", "1", "evaluate").out.strip() == "gpu=GPU-abc"
