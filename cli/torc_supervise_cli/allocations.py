"""What people are told of allocations.  Imports nothing heavy, as ``status`` does not."""

from __future__ import annotations

from torc_supervise_cli.output import colour

TYPE_CHECKING = False  # typing takes a tenth of the time that status may take
if TYPE_CHECKING:
    from typing import Any


def shown(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Allocations that may still be something, or of which nobody has recorded the end; else the newest."""
    interesting = [row for row in rows if row["state"] in ("queued", "running", "ending", "gone")]
    return interesting[-5:] or rows[-1:]


def allocation_text(row: dict[str, Any], supervisor: dict[str, Any] | None) -> str:
    """ "12 queued (Resources) since ..., expected to start at ...", "11 running since ..., on n[1-2]"."""
    state, reason = row["state"], row.get("reason")
    text = f"{row['slurm_job_id']} {colour(state)}"
    if state == "queued":
        text += f" ({reason})" if reason else ""
        text += f" since {time_text(row.get('submit_time') or row['since'])}"
        if row.get("expected_start"):
            text += f", expected to start at {time_text(row['expected_start'])}"
        waits_for = row.get("dependency") or row.get("after")
        return text + (f", waits for {waits_for}" if waits_for else "")
    if state in ("running", "ending"):
        text += f" since {time_text(row.get('start_time') or row['since'])}"
        if row.get("end_time"):
            text += f", ends at {time_text(row['end_time'])}"
        return text + (f", on {row['nodes']}" if row.get("nodes") else "")
    if state == "gone":
        return f"{text}: Slurm does not know it any more"
    said = f" ({_said_of_end(row, supervisor)})" if row.get("slurm_state") else ""
    return f"{text}{said} at {time_text(row.get('end_time') or row['since'])}"


def _said_of_end(row: dict[str, Any], supervisor: dict[str, Any] | None) -> str:
    """Slurm says FAILED of every exit code but 0, also where a supervisor stopped early and all is well."""
    code = supervisor["exit_code"] if supervisor and _is_of(supervisor, row) else None
    said = str(row["slurm_state"])
    return f"exit code {code}, which Slurm calls {said}" if code and said == "FAILED" else said


def _is_of(supervisor: dict[str, Any], row: dict[str, Any]) -> bool:
    return bool(supervisor["slurm_job_id"] == row["slurm_job_id"])


def goes_on(row: dict[str, Any]) -> bool:
    """A supervisor will start in it, or start again where Slurm has requeued it.  One that Slurm has given to a person
    (salloc) is not ours to say that of.
    """
    return row["state"] == "queued" or (row["state"] == "running" and bool(row["why"]))


def ran_nothing(row: dict[str, Any], supervisor: dict[str, Any] | None) -> bool:
    """The newest allocation is over, and no supervisor has begun since it was queued."""
    if row["state"] not in ("ended", "gone") or not row["why"]:
        return False
    return supervisor is None or (not _is_of(supervisor, row) and row["since"] > supervisor["started"])


def time_text(text: str) -> str:
    """ "2026-01-31T12:00:00.000000Z" -> "2026-01-31 12:00:00 UTC"."""
    return f"{text[:19].replace('T', ' ')} UTC"
