"""torc-supervise: runs a workflow of shell jobs inside an HPC allocation and ends it gracefully before wall time."""

__version__ = "0.1.0"
