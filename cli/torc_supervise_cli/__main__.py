"""``python -m torc_supervise_cli`` is ``torc-supervise``."""

from torc_supervise_cli.main import command

command()
