"""``torc-supervise repair``."""

from __future__ import annotations

import typer
from msgspec.structs import asdict

from torc_supervise import DEFAULT_OUTPUT_DIRECTORY
from torc_supervise import repair as carry_out
from torc_supervise_cli.options import FormatOption, IdArgument, OutputOption, wants_json
from torc_supervise_cli.output import command, plural, print_json, print_table, say


def repair(
    ctx: typer.Context,
    workflow_id: IdArgument,
    output_dir: OutputOption = DEFAULT_OUTPUT_DIRECTORY,
    format_: FormatOption = None,
) -> None:
    """Mend a workflow's journal that something else has damaged: keep a copy, and everything that can be read.

    A last line that was cut short needs no repair. Attempts whose result is lost run again.

    Example: torc-supervise repair 1
    """
    done = carry_out(output_dir, workflow_id, say)
    if wants_json(ctx, format_):
        damages = [asdict(damage) for damage in done.damages]
        print_json(
            {"workflow_id": workflow_id, "damages": damages, "records_kept": done.kept, "copy": done.copy}
        )
        return
    if done.copy is None:
        print(f"nothing is wrong with the journal of workflow {workflow_id}: {plural(done.kept, 'record')}")
        return
    print_table(
        ("line", "byte", "what"), [(d.line, d.byte, d.what) for d in done.damages], right=("line", "byte")
    )
    print(f"{plural(done.kept, 'record')} kept; the damaged file is {done.copy}")
    print(f"to go on: {command(f'run {workflow_id}', output_dir)}")
