"""One episode's life: reset, run to the next decision, observe, decide. Semantics: docs/simulator.md."""

import math

import numpy as np
from numba.extending import register_jitable

from edgebrush.decision import action_space as actions
from edgebrush.decision import observation as obs
from edgebrush.decision import task_cost
from edgebrush.scenario.parameters import NONE, TRACE

from . import draws
from .arrivals import after_task, pick, start_arrivals
from .channel import block_at, choose_neighbours, link_of, measured_rates, place_ue
from .compile import compiled
from .cost import lose, pass_time
from .device import device_has_room, end_service, enter_device
from .events import BROADCAST, FIRST_ARRIVAL, clear, earliest, schedule, slot_leaf
from .rows import array_at
from .state import MAX_CLASSES, UP
from .station import admit, connect, deliver, end_run, steps_left_now
from .transfers import band_of, end_transfer

decode_action = compiled(actions.decode_action)
energy_weight_at = compiled(task_cost.energy_weight_at)
fill_task, fill_device, fill_queue = compiled(obs.fill_task), compiled(obs.fill_device), compiled(obs.fill_queue)
fill_server, fill_link, fill_load = compiled(obs.fill_server), compiled(obs.fill_link), compiled(obs.fill_load)
fill_candidates, fill_expected_cost = compiled(obs.fill_candidates), compiled(obs.fill_expected_cost)
for helper in (obs.fill_own_candidate, obs.fill_bs_candidate):
    register_jitable(helper)


@compiled
def reset(params, world, seed, horizon_s):
    """Start the episode of this seed, empty, at time 0; arrivals stop at ``horizon_s`` (inf: never)."""
    common, episode = params.common[0], world.episode[0]
    episode.seed, episode.time, episode.horizon_s = seed, 0.0, horizon_s
    episode.deciding, episode.slot_cursor, episode.done = NONE, NONE, 0
    episode.in_system, episode.cost, episode.cost_seen, episode.time_seen, episode.cost_rate = 0, 0.0, 0.0, 0.0, 0.0
    episode.arrived, episode.ended, episode.recorded, episode.overflow, episode.decisions = 0, 0, 0, 0, 0
    for t in range(episode.capacity):
        world.task[t].next = t + 1 if t + 1 < episode.capacity else NONE
    episode.free = 0
    clear(world)
    for i in range(common.ue_count):
        _reset_ue(params, world, i)
    for j in range(common.bs_count):
        _reset_bs(common, world, j)
    start_arrivals(params, world)
    for i in range(common.ue_count):
        schedule(world, FIRST_ARRIVAL + i, world.ue[i].next_arrival)
    if 0.0 < common.broadcast_s < np.inf:
        schedule(world, BROADCAST, 0.0)
    if common.interval_s > 0.0:
        schedule(world, slot_leaf(params), common.interval_s)


@compiled
def advance(params, world):
    """Run to the next decision. True: task ``episode.deciding`` waits for it; False: the episode is over."""
    common, episode = params.common[0], world.episode[0]
    episode.deciding = NONE
    while True:
        if episode.slot_cursor != NONE and _next_of_slot(params, world):
            return True
        if episode.in_system == 0 and episode.open_arrivals == 0:
            episode.done = 1
            return False
        leaf = earliest(world)
        pass_time(world, world.tree[1])
        if leaf == BROADCAST:
            _publish_all(params, world)
            schedule(world, BROADCAST, _next_multiple(episode.time, common.broadcast_s))
        elif leaf < FIRST_ARRIVAL + common.ue_count:
            if _arrive(params, world, leaf - FIRST_ARRIVAL):
                return True
        elif leaf < FIRST_ARRIVAL + 2 * common.ue_count:
            end_service(params, world, leaf - FIRST_ARRIVAL - common.ue_count)
        elif leaf < slot_leaf(params):
            _station_event(params, world, leaf - FIRST_ARRIVAL - 2 * common.ue_count)
        else:
            if common.broadcast_s == 0.0:
                _publish_all(params, world)
            episode.slot_cursor = 0
            schedule(world, leaf, _next_multiple(episode.time, common.interval_s))


@compiled
def _next_multiple(time, interval_s):
    """The multiple of an interval after the one that ``time`` is: no rounding adds up over an episode."""
    return (math.floor(time / interval_s + 0.5) + 1.0) * interval_s


@compiled
def decide(params, world, choice):
    """Apply an action (see decision/action_space.py) to the task that waits for one."""
    common, episode = params.common[0], world.episode[0]
    t = episode.deciding
    task = world.task[t]
    slot, step_index, service_class = decode_action(choice, common.steps, common.classes)
    task.service_class = service_class
    task.steps = params.step_grid[step_index]
    episode.decisions += 1
    episode.deciding = NONE
    if slot == 0:
        enter_device(params, world, t)
    else:
        task.bs = world.neighbour[task.ue * common.neighbours + slot - 1]
        connect(params, world, t)


@compiled
def take_reward(world):
    """(reward, seconds) since this was last asked: minus the cost that accrued meanwhile, and the gap."""
    episode = world.episode[0]
    reward, gap = episode.cost_seen - episode.cost, episode.time - episode.time_seen
    episode.cost_seen, episode.time_seen = episode.cost, episode.time
    return reward, gap


@compiled
def observe(params, world, out):
    """Write the local observation of the deciding task's UE to ``out (layout.size,)`` float32."""
    common = params.common[0]
    classes, slots = common.classes, common.neighbours + 1
    own_columns, bs_columns = obs.OWN_COLUMNS + classes, obs.BS_COLUMNS + 2 * classes
    own_at = obs.TASK_FEATURES
    stations_at = own_at + own_columns
    candidates_at = stations_at + common.neighbours * bs_columns
    cost_at = candidates_at + slots * (obs.CANDIDATE_FEATURES + classes)
    task = array_at(world.scratch, 0, (obs.TASK_FEATURES,))
    own = array_at(world.scratch, own_at, (own_columns,))
    stations = array_at(world.scratch, stations_at, (common.neighbours, bs_columns))
    candidates = array_at(world.scratch, candidates_at, (slots, obs.CANDIDATE_FEATURES + classes))
    cost = array_at(world.scratch, cost_at, (slots, common.steps, classes))
    _observe_task(params, world, task)
    _observe_own(params, world, own)
    _observe_stations(params, world, stations)
    fill_candidates(task, own, stations, common.neighbours, classes, common.bs_energy_weight, candidates)
    step_grid = array_at(params.step_grid, 0, (common.steps,))
    log_step_grid = array_at(params.log_step_grid, 0, (common.steps,))
    fill_expected_cost(task, candidates, step_grid, log_step_grid, classes, common.missed, cost)
    for f in range(obs.TASK_FEATURES):
        out[f] = task[f]
    for f in range(out.shape[0] - obs.TASK_FEATURES):  # candidates and cost lie one after the other
        out[obs.TASK_FEATURES + f] = world.scratch[candidates_at + f]


@compiled
def _observe_task(params, world, row):
    episode = world.episode[0]
    task = world.task[episode.deciding]
    fill_task(row, task, world.ue[task.ue].battery_j / params.ue[task.ue].battery_j, episode.time)


@compiled
def _observe_own(params, world, row):
    common, episode = params.common[0], world.episode[0]
    i = world.task[episode.deciding].ue
    ue = world.ue[i]
    fill_device(row, params.ue[i])
    allowed = common.local == 1 and device_has_room(params, world, i)
    busy_s = ue.serving_until - episode.time if ue.serving != NONE else 0.0
    fill_queue(row, allowed, busy_s, ue.waiting, ue.work_s, common.classes)


@compiled
def _observe_stations(params, world, rows):
    common, episode = params.common[0], world.episode[0]
    i = world.task[episode.deciding].ue
    if common.speed_mps > 0.0:
        choose_neighbours(params, world, i, episode.time)
    block = block_at(params, episode.time)
    for s in range(common.neighbours):
        row, j = rows[s], world.neighbour[i * common.neighbours + s]
        if common.broadcast_s == 0.0 and common.interval_s == 0.0:
            _publish(world, j)
        up_bps, down_bps = measured_rates(params, world, i, j, block)
        fill_server(row, j, params.bs[j])
        down_bps = down_bps if common.downlink == 1 else np.inf
        fill_link(row, up_bps, down_bps, params.bs[j].latency_s, link_of(params, world, i, j).in_flight)
        fill_load(row, world.report[j], episode.time, common.classes)


@compiled
def _reset_ue(params, world, i):
    common, ue, fixed, seed = params.common[0], world.ue[i], params.ue[i], world.episode[0].seed
    ue.serving, ue.serving_until, ue.waiting = NONE, 0.0, 0
    for p in range(common.classes):
        ue.head[p], ue.tail[p], ue.work_s[p] = NONE, NONE, 0.0
    ue.pending, ue.pending_head, ue.pending_tail = 0, NONE, NONE
    level = fixed.level_low + (fixed.level_high - fixed.level_low) * draws.uniform(seed, draws.BATTERY, i, 0)
    ue.battery_j = level * fixed.battery_j
    ue.requests, ue.images_left, ue.tasks, ue.phase, ue.phases, ue.phase_until = 0, 0, 0, 0, 0, 0.0
    place_ue(params, world, i)
    for j in range(common.bs_count):
        link = link_of(params, world, i, j)
        link.in_flight, link.block, link.knot = 0, NONE, NONE
    choose_neighbours(params, world, i, 0.0)


@compiled
def _reset_bs(common, world, j):
    bs, report = world.bs[j], world.report[j]
    bs.connections, bs.queued = 0, 0
    for direction in range(2):
        band = band_of(world, j, direction)
        band.head, band.count, band.since, band.first = NONE, 0, 0.0, NONE
    bs.running_head, bs.running, bs.steps_left, bs.busy = NONE, 0, 0, 0
    report.time, report.running, report.steps_left, report.connections = 0.0, 0, 0, 0
    for p in range(common.classes):
        bs.head[p], bs.tail[p], bs.waiting[p], bs.waiting_steps[p] = NONE, NONE, 0, 0
        report.waiting[p], report.waiting_steps[p] = 0, 0


@compiled
def _publish(world, j):
    bs, report, time = world.bs[j], world.report[j], world.episode[0].time
    report.time, report.running, report.connections = time, bs.running, bs.connections
    report.steps_left = steps_left_now(bs, time)
    for p in range(MAX_CLASSES):
        report.waiting[p], report.waiting_steps[p] = bs.waiting[p], bs.waiting_steps[p]


@compiled
def _publish_all(params, world):
    for j in range(params.common[0].bs_count):
        _publish(world, j)


@compiled
def _arrive(params, world, source):
    """Arrival source ``source`` gives a task. True where its UE decides at once."""
    common, episode = params.common[0], world.episode[0]
    i = episode.trace_ue if common.arrivals == TRACE else source
    t = _new_task(params, world, i)
    after_task(params, world, source, episode.time)
    schedule(world, FIRST_ARRIVAL + source, world.ue[source].next_arrival)
    if t == NONE:
        return False
    if common.interval_s == 0.0:
        episode.deciding = t
        return True
    _put_off(params, world, t)
    return False


@compiled
def _new_task(params, world, i):
    """A task of UE i's present request enters. NONE, and an overflow counted, where no room is left."""
    episode, ue = world.episode[0], world.ue[i]
    t = episode.free
    if t == NONE:
        episode.overflow += 1
        return NONE
    task = world.task[t]
    episode.free = task.next
    number = ue.requests - 1
    task.request = pick(params.request, draws.uniform(episode.seed, draws.REQUEST, i, number))
    task.content = pick(params.content, draws.uniform(episode.seed, draws.CONTENT, i, number))
    kind = params.request[task.request]
    level = ue.battery_j / params.ue[i].battery_j
    task.ue, task.number, task.next = i, ue.tasks, NONE
    task.arrival, task.deadline_at = episode.time, episode.time + kind.deadline_s
    task.delay_weight, task.quality_weight = kind.delay_weight, kind.quality_weight
    task.energy_weight = energy_weight_at(kind.energy_weight, params.ue[i].battery_care, level)
    task.difficulty = params.content[task.content].difficulty
    task.bits_in, task.bits_out = kind.bits_in, kind.bits_out
    task.bs, task.steps, task.service_class, task.steps_left = NONE, -1, -1, 0
    task.energy_ue_j, task.energy_bs_j, task.refused = 0.0, 0.0, 0
    ue.tasks += 1
    episode.arrived += 1
    episode.in_system += 1
    episode.cost_rate += task.delay_weight
    return t


@compiled
def _put_off(params, world, t):
    """Slotted mode: the task waits for the end of the slot; beyond the UE's limit it is lost."""
    ue = world.ue[world.task[t].ue]
    if ue.pending >= params.ue[world.task[t].ue].queue_limit:
        lose(params, world, t)
        return
    if ue.pending_head == NONE:
        ue.pending_head = t
    else:
        world.task[ue.pending_tail].next = t
    ue.pending_tail = t
    ue.pending += 1


@compiled
def _next_of_slot(params, world):
    """Slotted mode: the next UE with a pending task decides its oldest one; False at the slot's end."""
    episode = world.episode[0]
    for i in range(episode.slot_cursor, params.common[0].ue_count):
        ue = world.ue[i]
        if ue.pending > 0:
            episode.deciding = ue.pending_head
            ue.pending_head = world.task[ue.pending_head].next
            ue.pending -= 1
            episode.slot_cursor = i + 1
            return True
    episode.slot_cursor = NONE
    return False


@compiled
def _station_event(params, world, leaf):
    j, part = leaf // 3, leaf % 3
    if part == 0:
        end_run(params, world, j)
        return
    direction = part - 1
    moved = end_transfer(params, world, j, direction, world.episode[0].time)
    if moved == NONE:
        return
    if direction == UP:
        admit(params, world, moved)
    else:
        deliver(params, world, moved)
