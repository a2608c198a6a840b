"""A simulator episode for the testbed to replay: its tasks, batteries and link rates.

Also the reverse: the simulator's outcomes for the decisions that the testbed's agents made, or for its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgebrush.api.rules import OPENAI_SIZES
from edgebrush.diffusion.images import SIDE
from edgebrush.diffusion.onnx import load_model
from edgebrush.errors import UserError
from edgebrush.evaluation.episodes import play
from edgebrush.policies.protocol import Policy
from edgebrush.scenario.expand import expand_bss
from edgebrush.scenario.parameters import Params
from edgebrush.scenario.schema import Scenario
from edgebrush.sim.channel import capacity_bps
from edgebrush.sim.simulator import Simulator, records_needed

from .links import Rate

MAX_DECISIONS = 10_000  # to simulate at most until every UE has had a task


@dataclass(frozen=True)
class EpisodeTask:
    """A task of an episode. ``ue``, ``number`` (of the UE's tasks), ``request`` and ``content`` count from 0."""

    ue: int
    number: int
    at_s: float  # arrival, from the episode's start
    request: int
    content: int
    prompt: str
    seed: int  # of the image

    @property
    def key(self) -> str:
        return f"ue-{self.ue + 1}-task-{self.number + 1}"


@dataclass(frozen=True)
class Episode:
    """The first ``seconds`` of the simulator's episode with a seed. N UEs, M BSs."""

    scenario: Scenario
    seed: int
    seconds: float
    params: Params
    tasks: tuple[EpisodeTask, ...]  # by arrival time
    battery_levels: tuple[float, ...]  # of each UE at the start, 0 to 1
    neighbours: tuple[tuple[int, ...], ...]  # of each UE: the BSs in its slots 1, 2, ...
    gains: np.ndarray  # (N, M) link gains, 0 where the BS is not a neighbour of the UE

    def uplink(self, bs: int) -> Rate:
        """Rates to a BS: each UE puts all its power into its part of the band."""
        fixed, noise_w = self.params.bs[bs], self._noise_w(bs)
        if fixed["up_bps"] > 0:
            return lambda ue, sharing: fixed["up_bps"] / sharing
        return lambda ue, sharing: capacity_bps.py_func(
            fixed["bandwidth_hz"] / sharing, self.params.ue[ue]["radiated_w"], self.gains[ue, bs], noise_w / sharing
        )

    def downlink(self, bs: int) -> Rate:
        """Rates from a BS: it divides its power as well as its band."""
        fixed, noise_w = self.params.bs[bs], self._noise_w(bs)
        if self.params.common[0]["downlink"] == 0:
            return lambda ue, sharing: np.inf
        if fixed["down_bps"] > 0:
            return lambda ue, sharing: fixed["down_bps"] / sharing
        return lambda ue, sharing: capacity_bps.py_func(
            fixed["bandwidth_hz"] / sharing, fixed["power_w"] / sharing, self.gains[ue, bs], noise_w / sharing
        )

    def _noise_w(self, bs: int) -> float:
        return float(self.params.common[0]["noise_w_per_hz"] * self.params.bs[bs]["bandwidth_hz"])


def draw_episode(scenario: Scenario, seed: int, seconds: float) -> Episode:
    """What the simulator draws for ``seed``.

    Raises ``UserError`` if the testbed cannot run such a scenario, or if no task arrives within ``seconds``.
    """
    check_scenario(scenario)
    classes = load_model("light").classes
    simulator = Simulator(scenario, 1)
    state, tasks = simulator.worlds.episode[0], simulator.worlds.task[0]
    simulator.reset(np.array([seed]), horizon_s=np.inf)
    batteries = simulator.worlds.ue[0]["battery_j"] / simulator.params.ue["battery_j"]
    found: list[EpisodeTask] = []
    seen_ues: set[int] = set()  # a UE's link gains are drawn with its first task
    while state["time"][0] < seconds or (len(seen_ues) < scenario.ue_count and state["decisions"][0] < MAX_DECISIONS):
        task = tasks[state["deciding"][0]]
        if task["arrival"] < seconds:
            found.append(_episode_task(scenario, seed, task, classes))
        seen_ues.add(int(task["ue"]))
        simulator.step(np.zeros(1, np.int64))
    if not found:
        raise UserError(f"seconds = {seconds:g}: no task arrives in this time; give more seconds")
    neighbours = tuple(tuple(row) for row in simulator.worlds.neighbour[0].tolist())
    gains = simulator.worlds.link[0]["gain"].copy()
    return Episode(
        scenario, seed, seconds, simulator.params, tuple(found), tuple(batteries.tolist()), neighbours, gains
    )


def _episode_task(scenario: Scenario, seed: int, task: np.void, classes: Sequence[str]) -> EpisodeTask:
    """The simulator's task with a prompt: its content's name, or any model class if there is one content only."""
    ue, number, content = int(task["ue"]), int(task["number"]), int(task["content"])
    random = np.random.default_rng([seed, ue, number])
    several = len(scenario.contents) > 1
    prompt = scenario.contents[content].name if several else classes[int(random.integers(len(classes)))]
    image_seed = int(random.integers(2**31))
    return EpisodeTask(ue, number, float(task["arrival"]), int(task["request"]), content, prompt, image_seed)


def simulate(episode: Episode, decisions: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """The simulator's ``state.OUTCOME`` rows for (place, steps, class) of each task, in the order of the tasks."""
    scenario = _shortened(episode)
    simulator = Simulator(scenario, 1, records=records_needed(scenario))
    grid = scenario.decision.step_grid
    simulator.reset(np.array([episode.seed]))
    for task, (place, steps, service_class) in zip(episode.tasks, decisions, strict=True):
        slot = 0 if place == 0 else 1 + episode.neighbours[task.ue].index(place - 1)
        simulator.step(np.array([simulator.action_space.encode(slot, grid.index(steps), service_class)]))
    return _by_task(episode, simulator.outcomes())


def decide_in_simulator(episode: Episode, policy: Policy) -> np.ndarray:
    """The simulator's ``state.OUTCOME`` rows where it decides by a policy itself, in the order of the tasks."""
    return _by_task(episode, play(_shortened(episode), policy, np.array([episode.seed])))


def _shortened(episode: Episode) -> Scenario:
    """The scenario with arrivals only within the episode."""
    return episode.scenario.model_copy(update={"horizon_s": episode.seconds})


def _by_task(episode: Episode, rows: np.ndarray) -> np.ndarray:
    order = {(task.ue, task.number): n for n, task in enumerate(episode.tasks)}
    return rows[np.argsort([order[row["ue"], row["number"]] for row in rows])]


def check_scenario(scenario: Scenario) -> None:
    """Raises ``UserError`` for a scenario that processes on one machine cannot reproduce."""
    radio, classes = scenario.radio, load_model("light").classes
    names = [content.name for content in scenario.contents]
    on_radio = any(bs.link is None for bs in scenario.bss)  # the others have measured rates, which are constant
    problems = {
        "radio.fading: link rates must be constant; set none": on_radio and radio.fading != "none",
        "radio.shadowing_db: link rates must be constant; set 0": on_radio and radio.shadowing_db != 0,
        "radio.interference: links must not interfere; set false": on_radio and radio.interference,
        "mobility.speed_mps: UEs must not move; set 0": on_radio and scenario.mobility.speed_mps > 0,
        "decision.interval_s: agents decide at arrival; set 0": scenario.decision.interval_s > 0,
        f"contents: {', '.join(names)} are not all names of {', '.join(classes)}": (
            len(names) > 1 and not set(names) <= set(classes)
        ),
    }
    problems |= {
        f"bss: {bs.name} is a server of kind {bs.endpoint.kind}, and the testbed runs `edgebrush serve`; "
        "remove its endpoint": bs.endpoint.kind != "edgebrush"
        for bs in scenario.bss
        if bs.endpoint is not None  # of an edgebrush serve: the testbed starts another one in its place
    }
    # Agents ask for images of the profile's size. The shipped model takes its own, and a standard size as its own.
    problems |= {
        f"bss: {bs.name}: its profile has images of {profile.resolution_px} px, and the testbed's stations take "
        f"{SIDE} px, 256, 512 or 1024; set resolution_px in a copy of the profile": not served(profile.resolution_px)
        for bs, profile in expand_bss(scenario)
    }
    for problem, present in problems.items():
        if present:
            raise UserError(f"{scenario.name}: {problem}")


def served(side_px: int) -> bool:
    """Whether a station with the shipped model answers a request for square images of a size."""
    return side_px == SIDE or f"{side_px}x{side_px}" in OPENAI_SIZES
