"""The leader of a job that has a PID namespace of its own (``isolation: pid_namespace``).

::

    leader       the job to the supervisor: its group, its session; ends as the job's shell has ended
     |- init     PID 1 inside: takes orphans; when it ends, the kernel kills everything inside
         |- bash -c command

All three are in one process group, so a signal to the group reaches the job's own processes directly; leader and init
take no notice of it.  What goes wrong with the leader goes wrong with init (PR_SET_PDEATHSIG), and so with everything.

The leader's stdin is the lifeline: the supervisor and its keepers hold the other end.  When all of them are dead, the
leader asks everything inside to end, gives it the job's grace, and ends it (P10).

A program of its own (``posix.namespaces`` starts it): it imports nothing of ours but itself, and little else, because
one starts with each job.
"""
