"""The command line of torc-supervise: typer commands, one file each; rendering; exit codes."""
