"""A private Slurm cluster on one machine.  ``scripts/slurm-cluster`` is its command; see docs/development.md."""
