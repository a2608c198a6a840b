"""One episode's life: reset, run to the next decision, observe, decide. Semantics: docs/simulator.md."""

import math

import numpy as np

from edgebrush.decision import action_space as actions
from edgebrush.decision import observation as obs
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
describe_candidates = compiled(obs.describe_candidates)
expected_cost = compiled(obs.expected_cost)


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
    describe_task(params, world, task)
    describe_own(params, world, own)
    describe_stations(params, world, stations)
    describe_candidates(task, own, stations, common.neighbours, classes, common.bs_energy_weight, candidates)
    step_grid = array_at(params.step_grid, 0, (common.steps,))
    log_step_grid = array_at(params.log_step_grid, 0, (common.steps,))
    expected_cost(task, candidates, step_grid, log_step_grid, classes, common.missed, cost)
    for f in range(obs.TASK_FEATURES):
        out[f] = task[f]
    for f in range(out.shape[0] - obs.TASK_FEATURES):  # candidates and cost lie one after the other
        out[obs.TASK_FEATURES + f] = world.scratch[candidates_at + f]


@compiled
def describe_task(params, world, row):
    """The deciding task's features, see decision/observation.py."""
    episode = world.episode[0]
    task = world.task[episode.deciding]
    row[obs.DELAY_WEIGHT] = task.delay_weight
    row[obs.ENERGY_WEIGHT] = task.energy_weight
    row[obs.QUALITY_WEIGHT] = task.quality_weight
    row[obs.DIFFICULTY] = task.difficulty
    row[obs.BITS_IN] = task.bits_in
    row[obs.BITS_OUT] = task.bits_out
    row[obs.DEADLINE_RATE] = 1.0 / max(task.deadline_at - episode.time, 1e-3)
    row[obs.BATTERY] = world.ue[task.ue].battery_j / params.ue[task.ue].battery_j


@compiled
def describe_own(params, world, row):
    """The deciding UE's device and its queue."""
    common, episode = params.common[0], world.episode[0]
    i = world.task[episode.deciding].ue
    ue, fixed = world.ue[i], params.ue[i]
    row[obs.OWN_FIXED_S], row[obs.OWN_STEP_S] = fixed.fixed_s, fixed.step_s
    row[obs.OWN_FIXED_J], row[obs.OWN_STEP_J] = fixed.fixed_j, fixed.step_j
    row[obs.OWN_CEILING], row[obs.OWN_HALF_STEPS] = fixed.ceiling, fixed.half_steps
    row[obs.OWN_SHARPNESS] = fixed.sharpness
    row[obs.OWN_ALLOWED] = 1.0 if common.local == 1 and device_has_room(params, world, i) else 0.0
    row[obs.OWN_BUSY_S] = ue.serving_until - episode.time if ue.serving != NONE else 0.0
    row[obs.OWN_WAITING] = ue.waiting
    row[obs.OWN_TRANSMIT_W], row[obs.OWN_RECEIVE_W] = fixed.transmit_w, fixed.receive_w
    row[obs.OWN_STANDBY_W] = fixed.standby_w
    for p in range(common.classes):
        row[obs.OWN_WORK_S + p] = ue.work_s[p]


@compiled
def describe_stations(params, world, rows):
    """The deciding UE's neighbours: measured rates, what is known of the servers, the last broadcasts."""
    common, episode = params.common[0], world.episode[0]
    i = world.task[episode.deciding].ue
    if common.speed_mps > 0.0:
        choose_neighbours(params, world, i, episode.time)
    block = block_at(params, episode.time)
    for s in range(common.neighbours):
        row, j = rows[s], world.neighbour[i * common.neighbours + s]
        fixed, board = params.bs[j], world.board[j]
        if common.broadcast_s == 0.0 and common.interval_s == 0.0:
            _publish(world, j)
        row[obs.BS_NUMBER] = j + 1
        row[obs.BS_UP_BPS], row[obs.BS_DOWN_BPS] = measured_rates(params, world, i, j, block)
        if common.downlink == 0:
            row[obs.BS_DOWN_BPS] = np.inf
        row[obs.BS_IN_FLIGHT] = link_of(params, world, i, j).in_flight
        row[obs.BS_AGE_S] = episode.time - board.time
        row[obs.BS_ROUND_INTERCEPT_S], row[obs.BS_ROUND_SLOPE_S] = fixed.alpha_s, fixed.beta_s
        row[obs.BS_FIXED_S] = fixed.encode_s + fixed.decode_s
        row[obs.BS_BATCH_LIMIT], row[obs.BS_QUEUE_LIMIT] = fixed.batch_limit, fixed.queue_limit
        row[obs.BS_CONNECTION_LIMIT] = fixed.connection_limit
        row[obs.BS_ROUND_INTERCEPT_J], row[obs.BS_ROUND_SLOPE_J] = fixed.alpha_j, fixed.beta_j
        row[obs.BS_FIXED_J] = fixed.fixed_j
        row[obs.BS_CEILING], row[obs.BS_HALF_STEPS] = fixed.ceiling, fixed.half_steps
        row[obs.BS_SHARPNESS] = fixed.sharpness
        row[obs.BS_RUNNING], row[obs.BS_STEPS_LEFT] = board.running, board.steps_left
        row[obs.BS_CONNECTIONS] = board.connections
        for p in range(common.classes):
            row[obs.BS_WAITING + p] = board.waiting[p]
            row[obs.BS_WAITING + common.classes + p] = board.waiting_steps[p]


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
    bs, board = world.bs[j], world.board[j]
    bs.connections, bs.queued = 0, 0
    for direction in range(2):
        band = band_of(world, j, direction)
        band.head, band.count, band.since, band.first = NONE, 0, 0.0, NONE
    bs.running_head, bs.running, bs.steps_left, bs.busy = NONE, 0, 0, 0
    board.time, board.running, board.steps_left, board.connections = 0.0, 0, 0, 0
    for p in range(common.classes):
        bs.head[p], bs.tail[p], bs.waiting[p], bs.waiting_steps[p] = NONE, NONE, 0, 0
        board.waiting[p], board.waiting_steps[p] = 0, 0


@compiled
def _publish(world, j):
    bs, board, time = world.bs[j], world.board[j], world.episode[0].time
    board.time, board.running, board.connections = time, bs.running, bs.connections
    board.steps_left = steps_left_now(bs, time)
    for p in range(MAX_CLASSES):
        board.waiting[p], board.waiting_steps[p] = bs.waiting[p], bs.waiting_steps[p]


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
    task.energy_weight = kind.energy_weight * (1.0 + params.ue[i].battery_care * (1.0 - level))
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
