"""What goes wrong in a way that a person can do something about."""

from __future__ import annotations


class ClusterError(Exception):
    """Its text is the message to print."""
