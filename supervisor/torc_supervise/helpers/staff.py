"""Staff: keeper and sampler as the loop has them: in its selector, replaced when they die, sent what was queued."""

from __future__ import annotations

import selectors
from collections.abc import Callable

from torc_supervise.exitstatus import Exit
from torc_supervise.helpers.channel import Channel
from torc_supervise.helpers.last_resort import KEEPERS_IN_A_ROW
from torc_supervise.helpers.link import KeeperLink, Replacement, SamplerLink
from torc_supervise.machine.phases import NEVER
from torc_supervise.machine.state import WorkflowState
from torc_supervise.workflow.model import Job, JobId

SAMPLERS_IN_A_ROW = 5
"""Samplers that may die without having seen anything until no other one is tried."""

LOOK_LIMIT = 2.0
"""Seconds that a job waits for a look at its files where no keeper can be had: there may be one again."""

Callback = Callable[[int], None]
Warn = Callable[[str, str], None]


class Staff:
    """Owns nothing but the order in which helpers come and go; ``sampler`` is None where nobody asked for figures."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        keeper: KeeperLink,
        sampler: SamplerLink | None,
        on_keeper: Callback,
        on_sampler: Callback,
        warn: Warn,
    ) -> None:
        """``warn``: told a code and a message."""
        self._selector = selector
        self.keeper = keeper
        self.sampler = sampler
        self._on_keeper = on_keeper
        self._on_sampler = on_sampler
        self._warn = warn
        self._new_keeper = Replacement()
        self._new_sampler = Replacement(SAMPLERS_IN_A_ROW)
        self._hiring = True  # False: the keeper that is there is the last one
        self._connect_keeper()
        self._connect_sampler()

    @property
    def keeper_due(self) -> float:
        """Monotonic seconds: when another keeper is to be started, NEVER unless one is wanted."""
        return self._new_keeper.due if self._hiring else NEVER

    @property
    def due(self) -> float:
        return min(self.keeper_due, self._new_sampler.due)

    @property
    def alone(self) -> bool:
        """Several keepers in a row were of no use."""
        return self._new_keeper.failures >= KEEPERS_IN_A_ROW

    @property
    def vacant(self) -> bool:
        """There is no keeper, and there will be none."""
        return not (self._hiring or self.keeper.pid)

    def dismiss_keeper(self) -> bool:
        """Start no other keeper.  One that was of no use is killed; False: one is there that may do its work yet."""
        self._hiring = False
        if self.keeper.pid and not self.alone:
            return False
        self.keeper.kill()
        return True

    def keeper_worked(self) -> None:
        self._new_keeper.worked()
        self.keeper.voice.lower()

    def sampler_worked(self) -> None:
        self._new_sampler.worked()

    def watch(self, job: Job, pid: int) -> None:
        """A job has a process; the sampler looks at it, where there is one."""
        if self.sampler is not None:
            self.sampler.watch(job, pid)

    def forget(self, job_id: JobId) -> None:
        """The job is over."""
        if self.sampler is not None:
            self.sampler.forget(job_id)

    def channels(self) -> list[Channel]:
        links = [self.keeper.channel] + ([self.sampler.channel] if self.sampler else [])
        return [link for link in links if not link.closed]

    def disconnect(self, channel: Channel) -> None:
        if channel in self._selector.get_map():
            self._selector.unregister(channel)

    def bury_keeper(self, exit_: Exit, now: float) -> list[int]:
        """The keeper was collected, and heard out.

        Returns:
            the chores of it that are lost.
        """
        self.disconnect(self.keeper.channel)
        self.keeper.died()
        if self.keeper.gone:
            return []
        self._expect_new_keeper(f"the keeper died ({exit_}); starting another one", now)
        return self.keeper.take_lost()

    def bury_sampler(self, exit_: Exit, now: float, *, replace: bool) -> None:
        assert self.sampler is not None
        self.disconnect(self.sampler.channel)
        self.sampler.died()
        if replace:
            self._expect_new_sampler(f"the sampler died ({exit_})", now)

    def replace_if_due(self, now: float, state: WorkflowState, fds: Callable[[], list[int]]) -> None:
        """What a keeper had not confirmed is given to the new one with the fork; open questions are asked again.

        Only at the end of a turn, when every order was carried out: a record that is folded into the state but not
        yet handed over would be folded by the new keeper a second time.
        Test: test_faults.py::test_p9_keepers_are_killed_one_after_another.

        Args:
            fds: descriptors that a new helper must close.
        """
        if self._hiring and self._new_keeper.take(now):
            try:
                self.keeper.restart(fds(), state)
                self._connect_keeper()
            except OSError as error:  # the machine is full
                self._expect_new_keeper(f"no new keeper can be started: {error.strerror}; trying again", now)
        if self.sampler is not None and self._new_sampler.take(now):
            try:
                self.sampler.restart(fds())
                self._connect_sampler()
            except OSError as error:
                self._expect_new_sampler(f"no new sampler can be started: {error.strerror}", now)

    def flush(self) -> None:
        links = [self.keeper.channel] + ([self.sampler.channel] if self.sampler else [])
        for channel, callback in zip(links, (self._on_keeper, self._on_sampler), strict=False):
            more = channel.flush()
            if channel.closed or more is channel.waits:
                continue
            channel.waits = more
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if more else 0)
            self._selector.modify(channel, wanted, callback)

    def close(self) -> None:
        """The sampler is hung up on; the keeper's channel is closed by whoever made it."""
        if self.sampler is not None:
            self.sampler.channel.close()

    def _connect_keeper(self) -> None:
        self._selector.register(self.keeper.channel, selectors.EVENT_READ, self._on_keeper)

    def _connect_sampler(self) -> None:
        if self.sampler is not None:
            self._selector.register(self.sampler.channel, selectors.EVENT_READ, self._on_sampler)

    def _expect_new_keeper(self, why: str, now: float) -> None:
        """The first one comes at once; keepers that die without having confirmed anything come slower and slower."""
        self._new_keeper.wanted(now)
        if self.alone:
            self.keeper.speak_for_itself()
        self._warn("keeper_died", why)

    def _expect_new_sampler(self, why: str, now: float) -> None:
        if self._new_sampler.wanted(now):
            self._warn("sampler_died", f"{why}; starting another one")
        else:
            self.sampler = None
            self._warn(
                "sampler_died", f"{why}, as {SAMPLERS_IN_A_ROW} did before: memory limits are not enforced"
            )
