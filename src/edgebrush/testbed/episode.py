"""A simulator's episode for the testbed to live through: who asks for what and when, over which links.

And the way back: what the simulator makes of the decisions that were really taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgebrush.diffusion.onnx import load_model
from edgebrush.errors import UserError
from edgebrush.scenario.parameters import Params
from edgebrush.scenario.schema import Scenario
from edgebrush.sim.channel import capacity_bps
from edgebrush.sim.simulator import Simulator, records_needed

from .links import Rate

PATIENCE = 10_000  # decisions until which every UE has asked at least once


@dataclass(frozen=True)
class Arrival:
    """A task: the UE and its number there, both from 0, when it comes, its kind, content and picture."""

    ue: int
    number: int
    at_s: float
    request: int
    content: int
    prompt: str
    seed: int

    @property
    def key(self) -> str:
        return f"ue-{self.ue + 1}-task-{self.number + 1}"


@dataclass(frozen=True)
class Episode:
    """The first ``seconds`` of the simulator's episode of a seed."""

    scenario: Scenario
    seed: int
    seconds: float
    params: Params
    arrivals: tuple[Arrival, ...]  # in the order of their times
    battery_levels: tuple[float, ...]  # of each UE at the start, 0 to 1
    neighbours: tuple[tuple[int, ...], ...]  # of each UE: the BSs in its slots 1, 2, ...
    gains: np.ndarray  # (N, M) of the links, 0 where a UE does not consider a BS

    def uplink(self, bs: int) -> Rate:
        """Rates to a BS: a UE's whole power goes into its part of the band."""
        fixed, noise_w = self.params.bs[bs], self._noise_w(bs)
        return lambda ue, sharing: capacity_bps.py_func(
            fixed["bandwidth_hz"] / sharing, self.params.ue[ue]["radiated_w"], self.gains[ue, bs], noise_w / sharing
        )

    def downlink(self, bs: int) -> Rate:
        """Rates from a BS, which divides its power, too."""
        fixed, noise_w = self.params.bs[bs], self._noise_w(bs)
        if self.params.common[0]["downlink"] == 0:
            return lambda ue, sharing: np.inf
        return lambda ue, sharing: capacity_bps.py_func(
            fixed["bandwidth_hz"] / sharing, fixed["power_w"] / sharing, self.gains[ue, bs], noise_w / sharing
        )

    def _noise_w(self, bs: int) -> float:
        return float(self.params.common[0]["noise_w_per_hz"] * self.params.bs[bs]["bandwidth_hz"])


def draw_episode(scenario: Scenario, seed: int, seconds: float) -> Episode:
    """What the simulator draws for a seed. Raises ``UserError`` where no testbed can be such a world."""
    check(scenario)
    classes = load_model("light").classes
    simulator = Simulator(scenario, 1)
    episode, tasks = simulator.worlds.episode[0], simulator.worlds.task[0]
    simulator.reset(np.array([seed]), horizon_s=np.inf)
    batteries = simulator.worlds.ue[0]["battery_j"] / simulator.params.ue["battery_j"]
    arrivals: list[Arrival] = []
    asked: set[int] = set()
    while episode["time"][0] < seconds or (len(asked) < scenario.ue_count and episode["decisions"][0] < PATIENCE):
        task = tasks[episode["deciding"][0]]
        if task["arrival"] < seconds:
            arrivals.append(arrival_of(scenario, seed, task, classes))
        asked.add(int(task["ue"]))  # its links' gains are known from now on
        simulator.step(np.zeros(1, np.int64))
    if not arrivals:
        raise UserError(f"seconds = {seconds:g}: nobody asks for anything so soon; give more")
    neighbours = tuple(tuple(row) for row in simulator.worlds.neighbour[0].tolist())
    gains = simulator.worlds.link[0]["gain"].copy()
    return Episode(
        scenario, seed, seconds, simulator.params, tuple(arrivals), tuple(batteries.tolist()), neighbours, gains
    )


def arrival_of(scenario: Scenario, seed: int, task: np.void, classes: Sequence[str]) -> Arrival:
    """A task as it is asked for. Where all contents are alike, any of the model's classes will do."""
    ue, number, content = int(task["ue"]), int(task["number"]), int(task["content"])
    random = np.random.default_rng([seed, ue, number])
    several = len(scenario.contents) > 1
    prompt = scenario.contents[content].name if several else classes[int(random.integers(len(classes)))]
    picture = int(random.integers(2**31))
    return Arrival(ue, number, float(task["arrival"]), int(task["request"]), content, prompt, picture)


def simulate(episode: Episode, decisions: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """The simulator's ``tables.OUTCOME`` rows for (place, steps, class) of each arrival, in their order."""
    scenario = episode.scenario.model_copy(update={"horizon_s": episode.seconds})
    simulator = Simulator(scenario, 1, records=records_needed(scenario))
    grid = scenario.decision.step_grid
    simulator.reset(np.array([episode.seed]))
    for arrival, (place, steps, service_class) in zip(episode.arrivals, decisions, strict=True):
        slot = 0 if place == 0 else 1 + episode.neighbours[arrival.ue].index(place - 1)
        simulator.step(np.array([simulator.action_space.encode(slot, grid.index(steps), service_class)]))
    rows = simulator.outcomes()
    order = {(arrival.ue, arrival.number): n for n, arrival in enumerate(episode.arrivals)}
    return rows[np.argsort([order[row["ue"], row["number"]] for row in rows])]


def check(scenario: Scenario) -> None:
    """Raises ``UserError`` for a world that processes on one machine cannot be."""
    radio, known = scenario.radio, load_model("light").classes
    names = [content.name for content in scenario.contents]
    fixes = {
        "radio.fading: a link must keep its rate; set none": radio.fading != "none",
        "radio.shadowing_db: a link must keep its rate; set 0": radio.shadowing_db != 0,
        "radio.interference: links must not disturb each other; set false": radio.interference,
        "mobility.speed_mps: UEs must stay where they are; set 0": scenario.mobility.speed_mps > 0,
        "decision.interval_s: an agent decides at arrival; set 0": scenario.decision.interval_s > 0,
        f"contents: {', '.join(names)} are not all names of {', '.join(known)}": (
            len(names) > 1 and not set(names) <= set(known)
        ),
    }
    fixes |= {
        f"bss: {bs.name} has an endpoint; the testbed brings its own up, so leave it out": bs.endpoint is not None
        for bs in scenario.bss
    }
    for fix, wrong in fixes.items():
        if wrong:
            raise UserError(f"{scenario.name}: {fix}")
