"""Random workflows with random actions x random events: what is due is taken once, and no run waits without end."""

from __future__ import annotations

from signal import SIGINT, SIGTERM
from typing import Any

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from support.errands import Office, entry
from support.replaying import Program, job
from torc_supervise.machine import records as r
from torc_supervise.machine.action_errands import ANSWER_WITHIN, LAST_GRACE, Actions, CommandPlace
from torc_supervise.machine.chain import Chain
from torc_supervise.machine.next_allocation import TRY_FOR, BatchPlace, NextAllocation
from torc_supervise.machine.state import WorkflowState
from torc_supervise.machine.status import SETTLED, Status
from torc_supervise.machine.step import UNKILLABLE_AFTER
from torc_supervise.machine.unneeded import Unneeded
from torc_supervise.workflow.signals import parse_signal_spec
from torc_supervise.workflow.spec_slurm import TRIGGERS

LONG_ENOUGH = 2000.0 + 40 * (UNKILLABLE_AFTER + ANSWER_WITHIN + LAST_GRACE + 30.0) + TRY_FOR
NOT_READY = (Status.BLOCKED, Status.UNINITIALIZED)


class Prompt(Office):
    """Answers chores at once, as its list says; the keeper of some worlds is silent for ever."""

    def __init__(self, *jobs: Any, answers: list[str], **fields: Any) -> None:
        self.to_come = list(answers)
        super().__init__(*jobs, **fields)

    def settle(self) -> None:
        super().settle()
        for _, chore in list(self.chores):
            if chore.chore_id in self.answered:
                continue
            self.answered.add(chore.chore_id)
            how = self.to_come.pop(0) if self.to_come else "ok"
            if how != "never":
                self.answer_chore(chore.chore_id, self._come_to(chore.kind, how))

    def _come_to(self, kind: str, how: str) -> dict[str, Any]:
        if how == "lost":
            return {"ok": False, "lost": True}
        if how == "fails":
            return {"ok": False, "message": "no"}
        if kind == "submit":
            return {"ok": True, "slurm_job_id": str(100 + len(self.answered)), "auto_resubmit": 1}
        return {"ok": True, "seen": {}, "running": how == "ok"}


@st.composite
def worlds(draw: st.DrawFn) -> Prompt:
    count = draw(st.integers(2, 5))
    ids = st.lists(st.integers(1, count), min_size=1, max_size=3, unique=True)
    entries = []
    for _ in range(draw(st.integers(1, 6))):
        trigger = draw(st.sampled_from([*TRIGGERS, "on_jobs_ready", "on_jobs_complete", "on_jobs_complete"]))
        kind = draw(st.sampled_from(["run_commands", "run_commands", "schedule_nodes"]))
        jobs = sorted(draw(ids)) if trigger.startswith("on_jobs") else []
        entries.append(entry(trigger, *jobs, kind=kind, persistent=draw(st.booleans())))
    allocations = NextAllocation(BatchPlace("/out", 1), "7", "s", draw(st.integers(0, 3)))
    spec = draw(st.sampled_from([None, "B:TERM@60"]))
    chain = Chain(allocations, None if spec is None else parse_signal_spec(spec))
    actions = Actions(CommandPlace("/out", "/log"), allocations)
    return Prompt(
        *(
            job(
                number,
                depends_on=tuple(d for d in range(1, number) if draw(st.booleans())),
                checkpoint=draw(st.sampled_from([None, "ckpt"])),
            )
            for number in range(1, count + 1)
        ),
        programs={
            number: Program(
                draw(st.sampled_from([0.0, 1.0, 50.0, 5000.0])),
                code=draw(st.sampled_from([0, 1])),
                saves=draw(st.sampled_from([0.0, 20.0])),
            )
            for number in range(1, count + 1)
        },
        answers=draw(st.lists(st.sampled_from(["ok", "ok", "fails", "lost", "never"]), max_size=6)),
        end=draw(st.sampled_from([None, 100.0, 1000.0])),
        errands=[actions, chain, allocations, Unneeded(allocations)],
        extra={"actions": entries},
    )


OPERATIONS = st.one_of(
    st.tuples(st.just("pass"), st.sampled_from([0.1, 2.0, 31.0, 150.0])),
    st.tuples(st.just("signal"), st.sampled_from([SIGTERM, SIGINT])),
    st.tuples(st.just("cancel"), st.none()),
)


def is_due(state: WorkflowState, action: dict[str, Any]) -> bool:
    """Said plainly, by looking at all jobs."""
    mine = [state.status[job_id] for job_id in action.get("job_ids", ())]
    match action["trigger_type"]:
        case "on_jobs_ready":
            return all(x not in NOT_READY for x in mine) and any(x is not Status.CANCELED for x in mine)
        case "on_jobs_complete":
            return all(x in SETTLED for x in mine)
        case "on_workflow_complete":
            return all(state.status[j.job_id] in SETTLED for j in state.workflow.jobs)
        case _:
            return True


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(worlds(), st.lists(OPERATIONS, max_size=5))
def test_p12_what_is_due_is_taken_once_and_every_run_ends(
    world: Prompt, operations: list[tuple[str, Any]]
) -> None:
    for what, value in operations:
        if world.supervision.done:
            break
        match what:
            case "pass":
                world.until(world.now - world.start + value)
            case "signal":
                world.signal(value)
            case "cancel":
                world.cancel()
    if not world.supervision.done and world.supervision.ending is None and not world.wall.known:
        world.until(world.now - world.start + 6000.0)
        if not world.supervision.done:
            world.signal(SIGTERM)
    world.finish(within=LONG_ENOUGH)
    world.check_books()
    entries = world.state.workflow.extra["actions"]
    taken = [record.action for record in world.of(r.ActionTaken)]
    assert len(taken) == len(set(taken)), "each once"
    if not world.state.canceled:  # else jobs that were ready, and ran, are canceled in the end
        assert all(is_due(world.state, entries[index]) for index in taken)
    if world.supervision.ending is None:
        due = {n for n, action in enumerate(entries) if is_due(world.state, action)}
        by_submit = {
            n
            for n, action in enumerate(entries)
            if action["trigger_type"] == "on_workflow_start" and action["action_type"] == "schedule_nodes"
        }
        assert set(taken) == due - by_submit
        event("all taken")
    ahead = [at for at, chore in world.chores if chore.kind == "run_commands" and starts(chore.body)]
    assert all(at >= max(ahead, default=0.0) for at, _ in world.starts), "jobs wait for the first commands"
    assert len(world.of(r.AllocationSubmitted)) <= 1 + len(world.of(r.AllocationEnded))


def starts(body: dict[str, Any]) -> bool:
    return body["environment"]["TORC_TRIGGER"] in ("on_workflow_start", "on_worker_start")
