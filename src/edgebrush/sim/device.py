"""A UE's own GDM: one task at a time, waiting tasks in (class, entry) order, a bounded queue."""

import numpy as np

from edgebrush.scenario.parameters import NONE

from .compile import compiled
from .cost import charge_ue, complete, drop, lose
from .events import device_leaf, schedule
from .queues import append, pop_first


@compiled
def service_s(params, i, steps):
    """Seconds that UE i needs to generate an image with ``steps`` denoising steps."""
    return params.ue[i].fixed_s + steps * params.ue[i].step_s


@compiled
def device_has_room(params, world, i):
    return world.ue[i].serving == NONE or world.ue[i].waiting < params.ue[i].queue_limit


@compiled
def enter_device(params, world, t):
    """Queue task t on its own UE; it is lost where the queue is full."""
    episode, task = world.episode[0], world.task[t]
    i = task.ue
    ue = world.ue[i]
    task.bs = NONE
    if not device_has_room(params, world, i):
        lose(params, world, t)
        return
    append(world, ue, t)
    ue.waiting += 1
    ue.work_s[task.service_class] += service_s(params, i, task.steps)
    if ue.serving == NONE:
        _serve_next(params, world, i, episode.time)


@compiled
def end_service(params, world, i):
    """Handle the device event of UE i: the task in service is done."""
    t = world.ue[i].serving
    world.ue[i].serving = NONE
    charge_ue(world, t, params.ue[i].fixed_j + world.task[t].steps * params.ue[i].step_j)
    complete(params, world, t)
    _serve_next(params, world, i, world.episode[0].time)


@compiled
def _serve_next(params, world, i, time):
    ue = world.ue[i]
    while True:
        t = pop_first(params, world, ue)
        if t == NONE:
            for p in range(params.common[0].classes):
                ue.work_s[p] = 0.0  # remove rounding errors: an empty queue holds no work
            schedule(world, device_leaf(params, i), np.inf)
            return
        task = world.task[t]
        ue.waiting -= 1
        work_s = service_s(params, i, task.steps)
        ue.work_s[task.service_class] -= work_s
        if time > task.deadline_at:
            drop(params, world, t)
            continue
        ue.serving = t
        ue.serving_until = time + work_s
        schedule(world, device_leaf(params, i), ue.serving_until)
        return
