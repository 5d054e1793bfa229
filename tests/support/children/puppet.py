"""A process that does what it is told.  Usage: puppet.py DIRECTORY.

Reads commands, one line each, from the FIFO ``DIRECTORY/<pid>`` and answers ``<pid> ANSWER`` into ``DIRECTORY/said``:
``fork`` (answers the child's pid), ``setsid``, ``ignore N``, ``note N`` (says ``got N`` from then on), ``reap PID``,
``exit N``.
"""

import os
import select
import signal
import sys

DIRECTORY = sys.argv[1]
SAID = os.open(f"{DIRECTORY}/said", os.O_WRONLY)


def answer(text: str) -> None:
    os.write(SAID, f"{os.getpid()} {text}\n".encode())


def noted(signum: int, frame: object) -> None:
    answer(f"got {signum}")


def new_commands():
    path = f"{DIRECTORY}/{os.getpid()}"
    os.mkfifo(path)
    return open(os.open(path, os.O_RDWR), encoding="ascii")


def next_command(commands):
    """Race: a signal that comes just before a blocking read is noted when that read returns, which may be never.

    So it is noted a tenth of a second later.
    """
    while not select.select([commands], [], [], 0.1)[0]:
        continue
    return commands.readline().split()


def main() -> None:
    commands = new_commands()
    answer("ready")
    while True:
        command, *argument = next_command(commands)
        number = int(argument[0]) if argument else 0
        match command:
            case "fork":
                if child := os.fork():
                    answer(f"forked {child}")
                    continue
                commands = new_commands()
                answer("ready")
                continue
            case "setsid":
                os.setsid()
            case "ignore":
                signal.signal(number, signal.SIG_IGN)
            case "note":
                signal.signal(number, noted)
            case "reap":
                os.waitpid(number, 0)
            case "exit":
                os._exit(number)
        answer("done")


main()
