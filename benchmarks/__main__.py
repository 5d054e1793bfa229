"""``python -m benchmarks run [NAME...]``, ``compare A.json B.json``, ``report RESULT.json...``.

Run it from the project's directory, with the project installed, on an idle machine.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import machine, measure, report
from benchmarks.catalogue import measures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="measure, in turn, and print the result as JSON")
    run.add_argument("names", nargs="*", help="measures, * allowed; all of them by default")
    run.add_argument("--subject", action="append", help="only these, by name; may be repeated")
    run.add_argument("--repeat", type=int, help="rounds, instead of each measure's own number")
    run.add_argument("--quick", action="store_true", help="smaller, once each: a look, about three minutes")
    run.add_argument("--directory", type=Path, help="where jobs write, instead of TMPDIR")
    run.add_argument("--output", type=Path, help="a file for the JSON instead of stdout")
    run.set_defaults(do=_run)
    listing = commands.add_parser("list", help="what can be measured, and who is not installed")
    listing.set_defaults(do=_list)
    compare = commands.add_parser("compare", help="two results, figure by figure")
    compare.add_argument("before", type=Path)
    compare.add_argument("after", type=Path)
    compare.set_defaults(do=_compare)
    making = commands.add_parser("report", help="the page docs/performance.md and its plots, from results")
    making.add_argument(
        "result", type=Path, nargs="+", help="of different measures; of two the later one counts"
    )
    making.add_argument("--docs", type=Path, default=Path("docs"))
    making.set_defaults(do=_report)
    arguments = parser.parse_args()
    return int(arguments.do(arguments))


def _run(arguments: argparse.Namespace) -> int:
    known = measures(quick=arguments.quick)
    patterns = arguments.names or ["*"]
    wanted = [name for name in known if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    if not wanted:
        print(f"no such measure; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # nobody's program is compiled anew at each start
    result: dict[str, Any] = {
        "machine": machine.facts(arguments.directory),
        "quick": arguments.quick,
        "measures": {},
    }
    with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.directory) as scratch:
        for name in wanted:
            result["measures"][name] = measure.run(
                known[name],
                arguments.subject,
                arguments.repeat or (1 if arguments.quick else None),
                lambda text: print(text, file=sys.stderr, flush=True),
                Path(scratch),
            )
            if arguments.output is not None:  # after each: what was measured is kept, whatever comes
                arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    if arguments.output is None:
        print(json.dumps(result, indent=1))
    return 0


def _list(arguments: argparse.Namespace) -> int:
    for name, each in measures().items():
        missing = [subject for subject, once in each.subjects.items() if once is None]
        print(f"{name}: {each.what}" + (f" (not installed: {', '.join(missing)})" if missing else ""))
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    before, after = (json.loads(path.read_text())["measures"] for path in (arguments.before, arguments.after))
    for name in before.keys() & after.keys():
        for subject, figures in before[name]["subjects"].items():
            for figure, old in figures.items():
                new = after[name]["subjects"].get(subject, {}).get(figure)
                if new is not None:
                    ratio = new["median"] / old["median"] if old["median"] else float("nan")
                    print(
                        f"{name} {subject} {figure}: {old['median']:.4g} -> {new['median']:.4g} (x {ratio:.2f})"
                    )
    return 0


def _report(arguments: argparse.Namespace) -> int:
    report.write([json.loads(path.read_text()) for path in arguments.result], arguments.docs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
