"""Shrink: from a plan that breaks a rule to a shorter one that breaks the same rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from simulator.plan import JobPlan, Plan
from simulator.programs import Program

MOST_TRIES = 2000

Try = Callable[[Plan], str | None]


def rule(failure: str) -> str:
    """The first words, which name the rule: numbers and times of one failure change while it gets shorter."""
    return failure.partition(":")[0]


def shrink(plan: Plan, failure: str, live: Try) -> tuple[Plan, str]:
    """The shortest plan that was found, and how it fails.

    Args:
        live: says how a plan fails, None if it does not.
    """
    tries = 0
    shorter = True
    while shorter:
        shorter = False
        for candidate in _simpler(plan):
            tries += 1
            if tries > MOST_TRIES:
                return plan, failure
            found = live(candidate)
            if found is not None and rule(found) == rule(failure):
                plan, failure, shorter = candidate, found, True
                break
    return plan, failure


def _simpler(plan: Plan) -> Iterator[Plan]:
    """Plans with a little less in them, those with much less first."""
    for index in range(len(plan.events)):
        yield replace(plan, events=plan.events[:index] + plan.events[index + 1 :])
    for index in reversed(range(len(plan.jobs))):
        if len(plan.jobs) > 1:
            yield _without_job(plan, index)
    plain = Plan(plan.seed, ())
    names = (
        "fatal",
        "fatal_keepers",
        "refusals",
        "latency",
        "signals_first",
        "time_limit",
        "headroom",
        "lead",
        "num_cpus",
    )
    for name in names:
        if getattr(plan, name) != getattr(plain, name):
            yield replace(plan, **{name: getattr(plain, name)})
    for index, job in enumerate(plan.jobs):
        for simpler in _simpler_jobs(job):
            yield replace(plan, jobs=(*plan.jobs[:index], simpler, *plan.jobs[index + 1 :]))
    for index, (at, kind, argument) in enumerate(plan.events):
        if at != round(at):
            event = (float(round(at)), kind, argument)
            yield replace(plan, events=(*plan.events[:index], event, *plan.events[index + 1 :]))


def _without_job(plan: Plan, index: int) -> Plan:
    """Ids of those behind it change: what they wait for goes, too."""
    jobs = [job for number, job in enumerate(plan.jobs) if number != index]
    free = [JobPlan({k: v for k, v in job.fields.items() if k != "depends_on"}, job.program) for job in jobs]
    return replace(plan, jobs=tuple(free))


def _simpler_jobs(job: JobPlan) -> Iterator[JobPlan]:
    for name in job.fields:
        if name != "supports_termination":
            yield replace(job, fields={k: v for k, v in job.fields.items() if k != name})
    program, plain = job.program, Program()
    for index in range(len(program.children)):
        children = program.children[:index] + program.children[index + 1 :]
        yield replace(job, program=replace(program, children=children))
    for name in ("stuck_at", "stuck_for", "code", "saved_code", "saving", "on_signal", "seconds"):
        if getattr(program, name) != getattr(plain, name):
            yield replace(job, program=replace(program, **{name: getattr(plain, name)}))


def describe(plan: Plan) -> str:
    """As Python, to be pasted into tests/simulator/test_found.py, without what is as it always is."""
    parts = [f"{plan.seed}", f"jobs=({''.join(f'{_describe_job(job)}, ' for job in plan.jobs)})"]
    plain = Plan(plan.seed, ())
    for name in Plan.__dataclass_fields__:
        if name not in ("seed", "jobs") and getattr(plan, name) != getattr(plain, name):
            parts.append(f"{name}={getattr(plan, name)!r}")
    return f"Plan({', '.join(parts)})".replace("=inf", "=NEVER")


def _describe_job(job: JobPlan) -> str:
    plain = Program()
    names = [n for n in Program.__dataclass_fields__ if getattr(job.program, n) != getattr(plain, n)]
    program = ", ".join(f"{name}={getattr(job.program, name)!r}" for name in names)
    return f"JobPlan({job.fields!r}, Program({program}))"
