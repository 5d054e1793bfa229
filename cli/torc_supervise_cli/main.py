"""Entry point: errors become one message and an exit code; ``status`` and ``run`` take a short way."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from torc_supervise_cli.streams import discard, open_closed

TYPE_CHECKING = False  # typing takes a tenth of the time that status may take
if TYPE_CHECKING:
    from typing import NoReturn


def main(argv: Sequence[str] | None = None) -> None:
    """What the console script calls.  Never shows a traceback for something that a user did."""
    try:
        open_closed()
        code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except BrokenPipeError:
        discard(sys.stdout)  # its reader has gone (`| head`)
        code = 0
    except KeyboardInterrupt:
        code = 130
    except Exception as error:  # noqa: BLE001  the last resort: a message instead of a traceback
        code = _explain(error)
    sys.exit(code)


def command() -> NoReturn:
    """The console script: :func:`main`, and out.

    Taking apart all modules, and all jobs of a large workflow, takes as long as everything else that a run does after
    its last job.  Nothing is left that needs it: what was printed is flushed, files are closed by the kernel, and
    whatever still hangs at a disk is a process of its own.
    """
    code: object = 0
    try:
        main()
    except SystemExit as leaving:
        code = leaving.code
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue  # nobody reads it any more; main has said so where it matters
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _dispatch(arguments: list[str]) -> int:
    """The plain forms of ``status`` and ``run`` without typer, whose import takes longer than ``status`` altogether."""
    from torc_supervise_cli import shortcut

    match shortcut.parse(arguments):
        case "status", given:
            from torc_supervise_cli.commands.status import show_status

            return show_status(**given)
        case "run", given:
            _import_msgspec()
            from torc_supervise_cli.running import RunRequest, run_workflow

            return run_workflow(RunRequest(**given))
    from torc_supervise_cli.app import run_app

    return run_app(arguments)


def _import_msgspec() -> None:
    """Without typing_extensions, which it asks, where it is installed, for what typing itself has since Python 3.11.

    Its import, and that of inspect, would be a tenth of the start of a run.
    """
    name = "typing_extensions"
    hidden = sys.modules.setdefault(name, None) is None  # type: ignore[arg-type]
    try:
        import msgspec  # noqa: F401
    finally:
        if hidden:
            del sys.modules[name]


def _explain(error: Exception) -> int:
    from torc_supervise import EXIT_OURS, TorcError

    problems = getattr(error, "problems", ())
    if isinstance(error, TorcError) and len(problems) > 1:
        # One mistake a line, file:line:column first, as editors and people expect of a compiler.
        _complain(f"torc-supervise: error: {len(problems)} mistakes; nothing was started\n{error}")
        return error.exit_code
    if isinstance(error, TorcError):
        _complain(f"torc-supervise: error: {error}")
        return error.exit_code
    if os.environ.get("TORC_SUPERVISE_DEBUG"):
        raise error
    _complain(
        f"torc-supervise: internal error: {type(error).__name__}: {error}\n"
        "  this is a bug of ours; TORC_SUPERVISE_DEBUG=1 shows where it happened"
    )
    return EXIT_OURS


def _complain(text: str) -> None:
    """The exit code says it as well, also where nobody takes the text."""
    try:
        print(text, file=sys.stderr)
    except OSError:
        discard(sys.stderr)


if __name__ == "__main__":
    main()
