"""Cost accounting: the cost that accrues over time, and the record of every ended task.

``C = w_D·D + w_E·(E_ue + omega·E_bs) + w_Q·(1−Q) + missed + lost``, with weights already divided by their references.
Delay accrues while a task is in the system, energy when it is charged, the rest when the task ends. So the sum over
time equals the sum over tasks.
"""

from edgebrush.decision import task_cost
from edgebrush.scenario.parameters import NONE

from .compile import compiled

fill_cost, penalty = compiled(task_cost.fill_cost), compiled(task_cost.penalty)
quality_at = compiled(task_cost.quality_at)


@compiled
def pass_time(world, time):
    """Advance the clock; every task in the system costs its delay weight per second."""
    episode = world.episode[0]
    episode.cost += episode.cost_rate * (time - episode.time)
    episode.time = time


@compiled
def charge_ue(world, t, joules):
    """Charge the energy that task t's UE spent on it."""
    task = world.task[t]
    ue = world.ue[task.ue]
    task.energy_ue_j += joules
    ue.battery_j = max(0.0, ue.battery_j - joules)
    world.episode[0].cost += task.energy_weight * joules


@compiled
def charge_bs(params, world, t, joules):
    """Charge task t's share of its BS's energy."""
    task = world.task[t]
    task.energy_bs_j += joules
    world.episode[0].cost += task.energy_weight * params.common[0].bs_energy_weight * joules


@compiled
def complete(params, world, t):
    """Complete task t: its UE has the image now."""
    task = world.task[t]
    if task.bs == NONE:
        maker = params.ue[task.ue]
        quality = quality_at(maker.ceiling, maker.half_steps, maker.sharpness, task.difficulty, task.steps)
    else:
        server = params.bs[task.bs]
        quality = quality_at(server.ceiling, server.half_steps, server.sharpness, task.difficulty, task.steps)
    _end(params, world, t, quality, world.episode[0].time > task.deadline_at, False, False)


@compiled
def drop(params, world, t):
    """Drop task t, which passed its deadline before it was processed."""
    _end(params, world, t, 0.0, True, True, False)


@compiled
def lose(params, world, t):
    """Lose task t, which was refused everywhere."""
    _end(params, world, t, 0.0, False, False, True)


@compiled
def _end(params, world, t, quality, missed, dropped, lost):
    common, episode, task = params.common[0], world.episode[0], world.task[t]
    penalty_cost = penalty(common.missed, common.lost, missed, lost)
    episode.cost += task.quality_weight * (1.0 - quality) + penalty_cost
    episode.ended += 1
    episode.in_system -= 1
    episode.cost_rate -= task.delay_weight
    if episode.in_system == 0:
        episode.cost_rate = 0.0  # rounding errors must not carry over to the next busy period
    if episode.records > 0:
        if episode.recorded < episode.records:
            _record(params, world, t, quality, penalty_cost, missed, dropped, lost)
        episode.recorded += 1
    task.next, episode.free = episode.free, t


@compiled
def _record(params, world, t, quality, penalty_cost, missed, dropped, lost):
    common, episode, task = params.common[0], world.episode[0], world.task[t]
    row = world.outcome[episode.recorded]
    row.ue, row.number, row.request, row.content = task.ue, task.number, task.request, task.content
    row.arrival_s, row.end_s = task.arrival, episode.time
    row.place, row.steps, row.service_class = task.bs + 1, task.steps, task.service_class
    row.delay_s = episode.time - task.arrival
    row.energy_ue_j, row.energy_bs_j, row.quality = task.energy_ue_j, task.energy_bs_j, quality
    bs_weight = common.bs_energy_weight
    fill_cost(row, task.delay_weight, task.energy_weight, task.quality_weight, bs_weight, penalty_cost)
    row.refused = task.refused
    row.missed, row.dropped, row.lost = missed, dropped, lost
