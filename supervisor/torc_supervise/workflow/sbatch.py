"""sbatch's options as people write them: words of a line to options by their long names, and the ones that are ours."""

from __future__ import annotations

import shlex

from msgspec import Struct

OURS = {
    "output": "the batch output has a name of its own, by which it is found again",
    "error": "the batch output has a name of its own, by which it is found again",
    "job-name": "the name carries the workflow's id",
    "chdir": "a workflow runs in the directory that it was submitted in",
    "dependency": "allocations of one workflow wait for each other by it",
    "array": "a workflow has one supervisor at a time",
    "wrap": "the batch script is written by torc-supervise",
    "wait": "submit returns when the job is queued",
    "parsable": "submit reads what sbatch prints",
    "test-only": "'torc-supervise submit --dry-run' shows what would be submitted",
    "help": "it submits nothing",
    "usage": "it submits nothing",
    "version": "it submits nothing",
}
"""Options that cannot be given, and why."""

_SHORT = {
    "a": "array", "A": "account", "b": "begin", "B": "extra-node-info", "c": "cpus-per-task", "C": "constraint",
    "d": "dependency", "D": "chdir", "e": "error", "F": "nodefile", "G": "gpus", "h": "help", "H": "hold",
    "i": "input", "J": "job-name", "k": "no-kill", "L": "licenses", "m": "distribution", "M": "clusters",
    "n": "ntasks", "N": "nodes", "o": "output", "O": "overcommit", "p": "partition", "q": "qos", "Q": "quiet",
    "s": "oversubscribe", "S": "core-spec", "t": "time", "u": "usage", "v": "verbose", "V": "version",
    "w": "nodelist", "W": "wait", "x": "exclude",
}  # fmt: skip

# Options that take no value, or only one that is joined to them by "=".
_BARE = frozenset(
    {
        *("contiguous", "exclusive", "get-user-env", "help", "hold", "ignore-pbs", "nice", "no-kill"),
        *("no-requeue", "overcommit", "oversubscribe", "parsable", "propagate", "quiet", "reboot", "requeue"),
        *("spread-job", "stepmgr", "test-only", "usage", "use-min-nodes", "verbose", "version", "wait"),
    }
)
_NEED_VALUE = frozenset(
    {
        *(
            "account",
            "acctg-freq",
            "array",
            "batch",
            "bb",
            "bbf",
            "begin",
            "chdir",
            "cluster-constraint",
            "clusters",
        ),
        *("comment", "constraint", "container", "core-spec", "cores-per-socket", "cpu-freq", "cpus-per-gpu"),
        *("cpus-per-task", "deadline", "delay-boot", "dependency", "distribution", "error", "exclude"),
        *(
            "export",
            "export-file",
            "extra",
            "extra-node-info",
            "gid",
            "gpu-bind",
            "gpu-freq",
            "gpus",
            "gpus-per-node",
        ),
        *("gpus-per-socket", "gpus-per-task", "gres", "gres-flags", "hint", "input", "job-name"),
        *(
            "kill-on-invalid-dep",
            "licenses",
            "mail-type",
            "mail-user",
            "mcs-label",
            "mem",
            "mem-bind",
            "mem-per-cpu",
        ),
        *("mem-per-gpu", "mincpus", "network", "nodefile", "nodelist", "nodes", "ntasks", "ntasks-per-core"),
        *(
            "ntasks-per-gpu",
            "ntasks-per-node",
            "ntasks-per-socket",
            "open-mode",
            "output",
            "partition",
            "power",
        ),
        *("prefer", "priority", "profile", "qos", "reservation", "segment", "signal", "sockets-per-node"),
        *("switches", "thread-spec", "threads-per-core", "time", "time-min", "tmp", "tres-bind"),
        *("tres-per-task", "uid", "wckey", "wrap"),
    }
)
_LONG = _BARE | _NEED_VALUE
_OLD_NAMES = {"share": "oversubscribe", "workdir": "chdir"}


class SbatchOption(Struct, frozen=True):
    """One option.  ``name`` is the long one without dashes; ``value`` is None where it stands alone."""

    name: str
    value: str | None = None

    @property
    def word(self) -> str:
        """``--name`` or ``--name=value``, not quoted."""
        return f"--{self.name}" if self.value is None else f"--{self.name}={self.value}"


def parse_options(line: str) -> tuple[SbatchOption, ...]:
    """The options of one line, as sbatch reads it: words and quotes as in a shell, ``#`` begins a comment.

    Short names become long ones, and abbreviated ones are completed, where that is certain.

    Raises:
        ValueError: it is no line of options, or has one that is ours (:data:`OURS`).
    """
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise ValueError(f"not a line of sbatch options: {str(error).lower()}") from None
    options: list[SbatchOption] = []
    while words:
        options += _take(words)
    for option in options:
        reason = OURS.get(option.name)
        if reason is not None:
            raise ValueError(f"--{option.name} cannot be given: {reason}")
    return tuple(options)


def long_name(name: str) -> str:
    """``mem-per`` as it stands after the dashes -> the option that sbatch takes it for; itself in doubt."""
    name = _OLD_NAMES.get(name, name)
    if name in _LONG:
        return name
    longer = [known for known in _LONG if known.startswith(name)]
    return longer[0] if len(longer) == 1 else name


def _take(words: list[str]) -> list[SbatchOption]:
    """Remove the first word, and the next one if it is its value."""
    word = words.pop(0)
    if word == ":":
        raise ValueError("':' begins another job of a heterogeneous one, which a workflow cannot use")
    if word.startswith("--") and len(word) > 2:
        text, joined, value = word[2:].partition("=")
        name = long_name(text)
        if not name:
            raise ValueError(f"{word!r} is not an sbatch option")
        return [SbatchOption(name, value if joined else _value(name, words))]
    if word.startswith("-") and len(word) > 1 and not word.startswith("--"):
        return _take_short(word[1:], words)
    raise ValueError(
        f"{word!r} is not an sbatch option; write --NAME=VALUE, with quotes around a value with blanks"
    )


def _take_short(letters: str, words: list[str]) -> list[SbatchOption]:
    """``c4``, ``c`` and ``4``, or several that take no value: ``HQ``."""
    options = []
    while letters:
        letter, letters = letters[0], letters[1:]
        name = _SHORT.get(letter)
        if name is None:
            raise ValueError(f"sbatch has no option -{letter}")
        if name in _BARE:
            options.append(SbatchOption(name))
        else:
            options.append(SbatchOption(name, letters or _value(name, words)))
            letters = ""
    return options


def _value(name: str, words: list[str]) -> str | None:
    if name in _BARE or not words:
        return None
    if name in _NEED_VALUE or not words[0].startswith("-"):
        return words.pop(0)
    return None
