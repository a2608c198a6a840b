"""Whether a BS is offered to the policy: a circuit breaker over its answers, and the pauses that it asks for.

The numbers are those of SGLang's router: three failures in sequence drop a BS, two successes bring it back. While it is
dropped, its load is still requested, and one image at a time may go there, at a bounded rate ("half-open").
"""

from __future__ import annotations

import math
from collections.abc import Callable

FAILURES_TO_DROP, SUCCESSES_TO_RETURN = 3, 2
AVOIDED_S = 5.0  # after a single failure, unless the BS answers a load request earlier
TRIAL_INTERVAL_S = 5.0  # from a failed image at a dropped BS to the next one


class Health:
    """What a BS's last answers say about it. Times are on ``clock``, monotonic."""

    def __init__(self, clock: Callable[[], float]):
        self.clock = clock
        self.dropped = False
        self.failures = 0  # in sequence, of load requests and images
        self.successes = 0  # in sequence, since it was dropped
        self.answers = True  # whether the last load request was answered, whatever the status
        self.made_last_image: bool | None = None  # None before the first image
        self.failed_at = self.avoided_until = self.trial_at = -math.inf
        self.paused_until = -math.inf
        self.resumes_at = -math.inf  # from then on, a load report that shows room ends the pause
        self.resumed_early = False  # whether the last pause ended because the BS reported room

    @property
    def available(self) -> bool:
        """Whether a task may go to the BS now."""
        now = self.clock()
        if now < self.paused_until:
            return False
        if self.dropped:
            return self.answers and now >= self.trial_at
        return now >= self.avoided_until

    # -- images

    def image_started(self) -> None:
        """At a dropped BS, no other image is tried until this one has ended."""
        if self.dropped:
            self.trial_at = math.inf

    def image_succeeded(self) -> None:
        self.answers = self.made_last_image = True
        self.avoided_until, self.trial_at = -math.inf, self.clock()
        self.resumed_early = False
        self._count_success()

    def image_failed(self, reached: bool = True) -> None:
        """The BS is the cause. Without ``reached``, no connection was made, which says nothing about its images."""
        if reached:
            self.made_last_image = False
        else:
            self.answers = False
        self._count_failure()
        if self.dropped:
            self.trial_at = self.clock() + TRIAL_INTERVAL_S

    def image_ended_otherwise(self) -> None:
        """An end that says nothing about the BS: the client left, or the cause is the request."""
        if self.trial_at == math.inf:
            self.trial_at = self.clock()

    # -- load requests

    def load_answered(self, sent_at: float, good: bool) -> None:
        """A load request was answered; ``good`` says whether its status is the expected one.

        What the last image showed weighs more: where it was made, a bad answer is no failure, and where it was not, a
        good answer is no success.
        """
        self.answers = True
        if not good and not self.made_last_image:
            self._count_failure()
        elif sent_at > self.failed_at:  # otherwise the BS failed after this request was sent
            self.avoided_until = -math.inf
            if self.made_last_image is not False:
                self._count_success()

    def load_unanswered(self) -> None:
        self.answers = False
        self._count_failure()

    # -- pauses

    def pause(self, seconds: float) -> None:
        """The BS asked for a pause. If it does so although it reported room, it is tried again at a bounded rate."""
        now = self.clock()
        self.paused_until = now + seconds
        self.resumes_at = now + TRIAL_INTERVAL_S if self.resumed_early else now

    def room_reported(self, sent_at: float) -> None:
        """A load report, requested at ``sent_at``, shows that an image would start at once: a pause ends."""
        if self.resumes_at < sent_at < self.paused_until:
            self.paused_until = -math.inf
            self.resumed_early = True

    def _count_failure(self) -> None:
        self.failures, self.successes = self.failures + 1, 0
        self.failed_at = self.clock()
        self.avoided_until = self.failed_at + AVOIDED_S
        if self.failures >= FAILURES_TO_DROP and not self.dropped:
            self.dropped, self.trial_at = True, self.failed_at + TRIAL_INTERVAL_S

    def _count_success(self) -> None:
        self.failures, self.successes = 0, self.successes + 1
        if self.dropped and self.successes >= SUCCESSES_TO_RETURN:
            self.dropped, self.avoided_until = False, -math.inf
