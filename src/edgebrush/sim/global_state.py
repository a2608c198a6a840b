"""The global state: everything, fresh, at the moment of a decision. For a centralised critic in training only."""

from edgebrush.scenario.parameters import NONE

from .compile import compiled
from .state import DOWN, UP
from .station import steps_left_now
from .transfers import band_of

GLOBAL_OF_WORLD, GLOBAL_OF_BS, GLOBAL_OF_UE = 3, 5, 6  # feature counts; BSs have 3 more per class


@compiled
def global_state(params, world, out):
    """Write the global state to ``out (state_size,)`` float32.

    World: tasks in the system, cost per second, share of UEs in a burst. Per BS: uplinks, running tasks, their steps
    left, downlinks, cost per second of the running tasks; and by class: waiting tasks, their steps, their cost per
    second. Per UE: seconds of work in service and waiting, waiting tasks, whether it is in a burst, cost per second
    of its queue, whether it decides now.
    """
    common, episode = params.common[0], world.episode[0]
    at = GLOBAL_OF_WORLD
    for j in range(common.bs_count):
        bs = world.bs[j]
        out[at], out[at + 1] = band_of(world, j, UP).count, bs.running
        out[at + 2], out[at + 3] = steps_left_now(bs, episode.time), band_of(world, j, DOWN).count
        out[at + 4] = _cost_rate_of(world, bs.running_head)
        at += GLOBAL_OF_BS
        for p in range(common.classes):
            out[at], out[at + 1] = bs.waiting[p], bs.waiting_steps[p]
            out[at + 2] = _cost_rate_of(world, bs.head[p])
            at += 3
    bursting = 0.0
    deciding = world.task[episode.deciding].ue if episode.deciding != NONE else NONE
    for i in range(common.ue_count):
        ue = world.ue[i]
        work_s, waiting_rate = 0.0, 0.0
        for p in range(common.classes):
            work_s += ue.work_s[p]
            waiting_rate += _cost_rate_of(world, ue.head[p])
        out[at] = ue.serving_until - episode.time if ue.serving != NONE else 0.0
        out[at + 1], out[at + 2], out[at + 3] = work_s, ue.waiting, ue.phase
        out[at + 4] = waiting_rate
        out[at + 5] = 1.0 if i == deciding else 0.0
        bursting += ue.phase
        at += GLOBAL_OF_UE
    out[0], out[1], out[2] = episode.in_system, episode.cost_rate, bursting / common.ue_count


@compiled
def _cost_rate_of(world, t):
    """Delay cost per second of the tasks of a list."""
    rate = 0.0
    while t != NONE:
        rate += world.task[t].delay_weight
        t = world.task[t].next
    return rate
