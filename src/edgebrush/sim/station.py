"""A BS's heavy GDM: step-level (continuous) batching with a bounded queue in (class, admission) order.

The rounds between two changes of the batch are one event, a *run*. A run ends when its first task finishes its steps.
If a task is admitted while the batch has a free place, the run ends with the round in progress.
"""

import math

import numpy as np

from edgebrush.scenario.parameters import NONE

from .channel import link_of
from .compile import compiled
from .cost import charge_bs, charge_ue, complete, drop
from .device import enter_device
from .events import schedule, station_leaf
from .queues import append, pop_first
from .state import DOWN, UP
from .transfers import start_transfer


@compiled
def connect(params, world, t):
    """Start the uplink of task t, or refuse it where its BS has too many connections."""
    task = world.task[t]
    bs = world.bs[task.bs]
    if bs.connections >= params.bs[task.bs].connection_limit:
        _refuse(params, world, t)
        return
    bs.connections += 1
    link_of(params, world, task.ue, task.bs).in_flight += 1
    start_transfer(params, world, t, UP, world.episode[0].time)


@compiled
def admit(params, world, t):
    """Queue task t at its BS after its upload, or refuse it where the queue is full."""
    episode, task = world.episode[0], world.task[t]
    j = task.bs
    bs, fixed = world.bs[j], params.bs[j]
    charge_ue(world, t, params.ue[task.ue].transmit_w * (episode.time - task.since))
    task.since = episode.time
    if bs.busy == 1 and bs.queued >= fixed.queue_limit:
        _leave(params, world, t)
        _refuse(params, world, t)
        return
    append(world, bs, t)
    bs.queued += 1
    bs.waiting[task.service_class] += 1
    bs.waiting_steps[task.service_class] += task.steps
    if bs.busy == 0:
        _start_run(params, world, j)
    elif bs.running < fixed.batch_limit:
        _cut_run(params, world, j)


@compiled
def end_run(params, world, j):
    """Handle the end of a run at BS j: finished tasks leave, waiting ones enter, the next run starts."""
    episode, bs, fixed = world.episode[0], world.bs[j], params.bs[j]
    share_j = bs.rounds * (fixed.round_intercept_j / bs.running + fixed.round_slope_j)
    stay, leave = NONE, NONE
    t = bs.running_head
    while t != NONE:
        task = world.task[t]
        after = task.next
        task.steps_left -= bs.rounds
        bs.steps_left -= bs.rounds
        if task.steps_left == 0:
            charge_bs(params, world, t, share_j + fixed.fixed_j)
            task.next, leave = leave, t
        else:
            charge_bs(params, world, t, share_j)
            task.next, stay = stay, t
        t = after
    bs.running_head = stay
    while leave != NONE:
        after = world.task[leave].next
        bs.running -= 1
        charge_ue(world, leave, params.ue[world.task[leave].ue].standby_w * (episode.time - world.task[leave].since))
        if params.common[0].downlink == 1:
            start_transfer(params, world, leave, DOWN, episode.time)
        else:
            _leave(params, world, leave)
            complete(params, world, leave)
        leave = after
    _start_run(params, world, j)


@compiled
def deliver(params, world, t):
    """Complete task t after its download."""
    episode, task = world.episode[0], world.task[t]
    charge_ue(world, t, params.ue[task.ue].receive_w * (episode.time - task.since))
    _leave(params, world, t)
    complete(params, world, t)


@compiled
def rounds_done(bs, time):
    """Whole rounds of the current run that are done; the last round counts only at the run's own event."""
    if bs.busy == 0:
        return 0
    done = math.floor((time - bs.run_start - bs.run_encode_s) / bs.round_s)
    return max(0, min(done, bs.rounds - 1))


@compiled
def steps_left_now(bs, time):
    """Denoising steps left over all running tasks, including the round in progress."""
    return bs.steps_left - bs.running * rounds_done(bs, time)


@compiled
def _start_run(params, world, j):
    """Fill the batch from the queue, then schedule the rounds until the batch changes."""
    episode, bs, fixed = world.episode[0], world.bs[j], params.bs[j]
    entered = _enter_waiting(params, world, j)
    leaf = station_leaf(params, j)
    if bs.running == 0:
        bs.busy = 0
        schedule(world, leaf, np.inf)
        return
    bs.busy = 1
    bs.run_start = episode.time
    bs.run_encode_s = entered * fixed.encode_s
    bs.round_s = fixed.round_intercept_s + fixed.round_slope_s * bs.running
    bs.rounds = world.task[bs.running_head].steps_left
    t = bs.running_head
    while t != NONE:
        bs.rounds = min(bs.rounds, world.task[t].steps_left)
        t = world.task[t].next
    bs.run_leaves = 0
    t = bs.running_head
    while t != NONE:
        bs.run_leaves += 1 if world.task[t].steps_left == bs.rounds else 0
        t = world.task[t].next
    end = episode.time + bs.run_encode_s + bs.rounds * bs.round_s + bs.run_leaves * fixed.decode_s
    schedule(world, leaf, end)


@compiled
def _cut_run(params, world, j):
    """End the current run with the round in progress, because a task waits and the batch has a free place."""
    bs = world.bs[j]
    rounds = rounds_done(bs, world.episode[0].time) + 1
    if rounds < bs.rounds:
        bs.rounds = rounds
        schedule(world, station_leaf(params, j), bs.run_start + bs.run_encode_s + rounds * bs.round_s)


@compiled
def _enter_waiting(params, world, j):
    """Fill the batch from the queue and drop tasks past their deadline; returns how many entered."""
    episode, bs = world.episode[0], world.bs[j]
    entered = 0
    while bs.running < params.bs[j].batch_limit:
        t = pop_first(params, world, bs)
        if t == NONE:
            break
        task = world.task[t]
        bs.queued -= 1
        bs.waiting[task.service_class] -= 1
        bs.waiting_steps[task.service_class] -= task.steps
        if episode.time > task.deadline_at:
            charge_ue(world, t, params.ue[task.ue].standby_w * (episode.time - task.since))
            _leave(params, world, t)
            drop(params, world, t)
            continue
        task.steps_left = task.steps
        bs.steps_left += task.steps
        task.next, bs.running_head = bs.running_head, t
        bs.running += 1
        entered += 1
    return entered


@compiled
def _refuse(params, world, t):
    world.task[t].refused = 1
    enter_device(params, world, t)


@compiled
def _leave(params, world, t):
    """Disconnect task t from its BS."""
    task = world.task[t]
    world.bs[task.bs].connections -= 1
    link_of(params, world, task.ue, task.bs).in_flight -= 1
