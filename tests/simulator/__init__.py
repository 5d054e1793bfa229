"""The simulator: the whole program but its system calls, on a fake kernel, a fake clock and a fake disk, with a seed.

A *day* is a whole run and what follows it: a random workflow, random programs, and a list of events that somebody or
something inflicts on them.  ``day.py`` says how one is lived through, ``rules.py`` what must hold after every event.

Real: ``operations.run.run`` and ``open_workflow``, the loop, the supervision, scheduler and state, the link, the keeper
with its writer, inspector, speaker and look outside, journal, snapshot, lock and requests, the last will with its kin
and its hunt, the last resort.

Fake, put in place of the names by which those modules know ``os``, ``time``, ``threading``, ``select`` and the like
(``seams.py``): clocks, disk, /proc, pidfds, sockets, selectors, threads (fibers here, so that a seed says in what order
they run), the fork of a helper, the control socket.  ``posix.kernel`` is support.fake_kernel, which passes the same
contract suite as the real one.  Not here: the sampler, chores and Slurm, cgroups, job steps.
"""
