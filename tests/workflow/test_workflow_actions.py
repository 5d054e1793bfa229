"""The jobs of actions: names and patterns become ids, and ids stay right when jobs get others."""

from __future__ import annotations

import io

from torc_supervise.machine import records as r
from torc_supervise.operations.reinitialize import take_over_ids
from torc_supervise.store import journal
from torc_supervise.workflow import load
from torc_supervise.workflow.actions import Action, actions_of
from torc_supervise.workflow.model import Workflow


def from_text(text: str) -> Workflow:
    return load("-", stdin=io.BytesIO(text.encode()), user="u").workflow


JOBS = "name: w\njobs:\n" + "".join(
    f'  - {{name: {name}, command: "true"}}\n' for name in ("a", "b_1", "b_2")
)
ACTIONS = """\
actions:
  - {trigger_type: on_jobs_ready, action_type: run_commands, jobs: [b_2, a], commands: [x, y]}
  - trigger_type: on_jobs_complete
    action_type: schedule_nodes
    job_name_regexes: ["^b_", "b_2"]
    jobs: null
    scheduler_type: slurm
    scheduler: big
    max_parallel_jobs: 3
    persistent: true
  - {trigger_type: on_worker_start, action_type: run_commands, commands: [z]}
slurm_schedulers: [{name: big, account: me}]
"""


def test_names_and_patterns_become_ids() -> None:
    assert actions_of(from_text(JOBS + ACTIONS)) == (
        Action(0, "on_jobs_ready", "run_commands", (1, 3), ("x", "y")),
        Action(
            1,
            "on_jobs_complete",
            "schedule_nodes",
            (2, 3),
            (),
            "big",
            "slurm",
            max_parallel_jobs=3,
            persistent=True,
        ),
        Action(2, "on_worker_start", "run_commands", (), ("z",)),
    )


def test_a_workflow_without_actions_has_none() -> None:
    assert actions_of(from_text(JOBS)) == ()


def test_the_journal_keeps_them() -> None:
    workflow = from_text(JOBS + ACTIONS)
    assert actions_of(Workflow.from_dict(workflow.to_dict())) == actions_of(workflow)


def test_a_new_version_whose_jobs_keep_their_ids_says_so_in_its_actions() -> None:
    old = from_text(JOBS + ACTIONS)
    state = journal.new_state(r.WorkflowCreated(r.SCHEMA_VERSION, 1, old.to_dict()), "t")
    reversed_jobs = "name: w\njobs:\n" + "".join(
        f'  - {{name: {name}, command: "true"}}\n' for name in ("b_2", "new", "a", "b_1")
    )
    new = take_over_ids(state, from_text(reversed_jobs + ACTIONS))
    assert {job.name: job.job_id for job in new.jobs} == {"a": 1, "b_1": 2, "b_2": 3, "new": 4}
    assert [action.job_ids for action in actions_of(new)] == [(1, 3), (2, 3), ()]
