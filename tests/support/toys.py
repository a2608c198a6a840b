"""Toy worlds whose best policy can be computed. Each replaces a learner's ``Simulator`` in a whole training.

``choices`` are the steps of the own device, the only candidate. The task's delay weight is all that a decision maker
observes of the situation. ``monkeypatch.setattr(rollout, "Simulator", MatrixGame)`` puts a learner into one.
"""

import numpy as np

from edgebrush.decision.action_space import ActionSpace
from edgebrush.decision.observation import DELAY_WEIGHT, PRESENT, ObservationLayout

HORIZON = 40  # decisions of a finite episode
FAR_S = 1e6  # a gap after which nothing counts


class Toy:
    """Many episodes side by side; see ``edgebrush.sim.simulator.Simulator`` for what the attributes mean."""

    situations: int  # how many a decision maker can distinguish
    actions: int
    state_size: int

    def __init__(self, scenario, episodes, **_):
        self.episodes = episodes
        self.action_space = ActionSpace(1, tuple(range(1, self.actions + 1)), 1)
        self.layout = ObservationLayout(self.action_space)
        self.states = np.zeros((episodes, self.state_size), np.float32)
        self.rewards, self.gaps_s = np.zeros(episodes), np.zeros(episodes)
        self.seeds, self.time, self.last = (np.zeros(episodes, np.int64) for _ in range(3))
        self.alive = np.ones(episodes, bool)
        self.noise = np.zeros((episodes, 997))

    def reset(self, seeds, *, horizon_s=0.0, which=None):
        which = np.ones(self.episodes, bool) if which is None else which
        self.last[which] = HORIZON if np.isfinite(horizon_s) else np.iinfo(np.int64).max
        self.time[which], self.alive[which] = 0, True
        for e in np.flatnonzero(which):  # copies of a group have one seed, and so common noise
            self.noise[e] = np.random.default_rng(seeds[e]).random(self.noise.shape[1])
        self.begin(which)
        self.update_observations()

    def step(self, choices):
        self.rewards[:], self.gaps_s[:] = self.play(np.asarray(choices))
        self.time += 1
        self.rewards[~self.alive] = 0.0
        self.alive[:] = self.time < self.last
        self.update_observations()

    def draws(self):
        return self.noise[np.arange(self.episodes), self.time % self.noise.shape[1]]

    def update_observations(self):
        self.observations = self.observe(self.situation())

    def observe(self, situation):
        """Observations ``(n, layout.size)`` of situations ``(n,)``."""
        observations = np.zeros((len(situation), self.layout.size), np.float32)
        task, candidates, _ = self.layout.split(observations)
        task[:, DELAY_WEIGHT], candidates[:, 0, PRESENT] = 1.0 + situation, 1.0
        return observations

    def strategies(self, actor):
        """An actor's probabilities ``(situations, actions)``, the mean over its draws."""
        draws = np.tile((np.arange(64, dtype=np.float32) + 0.5) / 64, self.situations)
        logits = np.asarray(actor(self.observe(np.repeat(np.arange(self.situations), 64)), draws), float)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (weights / weights.sum(axis=1, keepdims=True)).reshape(self.situations, 64, -1).mean(1)


class MatrixGame(Toy):
    """Two players in turn share one pay-off; the second does not see the first's choice. Then a new game begins.

    There are three equilibria. The best one, (0, 0), is also the best reply to random players.
    """

    PAYOFF = np.array([[8.0, 1.0, 1.0], [1.0, 5.0, 2.0], [0.0, 2.0, 4.0]])
    situations, actions, state_size = 2, 3, 4

    def begin(self, which):
        self.first = getattr(self, "first", np.zeros(self.episodes, np.int64))

    def situation(self):
        turn = self.time % 2
        self.states[:] = 0.0
        self.states[:, 0] = turn
        self.states[np.arange(self.episodes), 1 + self.first] = turn  # the global state shows the first choice
        return turn

    def play(self, choices):
        second = self.time % 2 == 1
        rewards = np.where(second, self.PAYOFF[self.first, choices], 0.0)
        self.first = np.where(second, self.first, choices)
        return rewards, np.where(second, FAR_S, 0.0)

    def optimum(self):
        """The best choice of each player, by enumeration."""
        return np.array(np.unravel_index(self.PAYOFF.argmax(), self.PAYOFF.shape))


class TwoStates(Toy):
    """A poor and a rich state. In each, the choice with the higher reward now leads to the poor state."""

    REWARD = np.array([[1.0, 0.0], [3.0, 2.0]])  # (state, choice: take, invest)
    TO_RICH = np.array([[0.05, 0.8], [0.1, 0.9]])
    GAP_S, DISCOUNT_PER_S = 1.0, 0.05
    situations, actions, state_size = 2, 2, 2

    def begin(self, which):
        self.rich = getattr(self, "rich", np.zeros(self.episodes, np.int64))
        self.rich[which] = 0

    def situation(self):
        self.states[:] = np.eye(2)[self.rich]
        return self.rich

    def play(self, choices):
        rewards = self.REWARD[self.rich, choices]
        self.rich = (self.draws() < self.TO_RICH[self.rich, choices]).astype(np.int64)
        return rewards, np.full(self.episodes, self.GAP_S)

    def optimum(self):
        """The best choice in each state, by value iteration; a myopic player would take in both."""
        value = np.zeros(2)
        for _ in range(2000):
            q = self.REWARD + np.exp(-self.DISCOUNT_PER_S * self.GAP_S) * (
                self.TO_RICH * value[1] + (1.0 - self.TO_RICH) * value[0]
            )
            value = q.max(axis=1)
        return q.argmax(axis=1)
