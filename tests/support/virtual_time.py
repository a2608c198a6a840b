"""An asyncio event loop with a virtual clock: tests of delays, timeouts and intervals run at once and exactly.

The clock jumps to the next timer as soon as nothing else can happen. While a watched engine's thread has work, the
clock stands still. The loop waits for the threads of watched journals.
"""

import asyncio
import selectors
import time

START_S = 1000.0
POLL_S = 0.001  # real seconds to wait for an engine's thread
JOURNAL_S = 0.00005  # and for a journal's


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self.now, self.engines, self.journals = START_S, [], []
        super().__init__(JumpingSelector(self))

    def time(self):
        return self.now

    def threads_have_work(self):
        for engine in self.engines:
            with engine.changed:
                if engine.running or engine.waiting:
                    return True
        return False


class JumpingSelector(selectors.DefaultSelector):
    """Advances the loop's clock instead of waiting."""

    def __init__(self, loop):
        super().__init__()
        self.loop = loop

    def select(self, timeout=None):
        while any(journal.busy for journal in self.loop.journals):  # all that was written so far is noticed at once
            time.sleep(JOURNAL_S)
        busy = self.loop.threads_have_work()  # before the look at events: an engine's last event is not missed
        if events := super().select(0):
            return events
        if busy:
            return super().select(POLL_S)
        if timeout is None:
            raise RuntimeError("deadlock: no timer is set, and no event can arrive")
        self.loop.now += timeout
        return []


def run_virtual(coroutine):
    """``asyncio.run`` on a virtual clock."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(coroutine)


def virtual_clock(engine, journal):
    """The running virtual loop's clock, which then also watches an engine and a journal.

    None in other loops and outside of loops.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    if not isinstance(loop, VirtualTimeLoop):
        return None
    loop.engines.append(engine)
    loop.journals.append(journal)
    return loop.time
