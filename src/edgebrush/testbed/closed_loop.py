"""The closed loop: the simulator's own decisions under the same policy on the same episode, beside the testbed's.

The replay (validation.py) gives both the same decisions, so it cannot see that the testbed's agents decide differently,
for example because they believe idle BSs to be busy. Here each decides for itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import t as student

from edgebrush.evaluation.statistics import CONFIDENCE
from edgebrush.files import write_csv, write_text
from edgebrush.plotting import BLUE, ORANGE, save_figure
from edgebrush.scenario.expand import bs_names
from edgebrush.scenario.schema import Scenario

from .validation import PALETTE

DIFFERENCES, TABLE, PICTURE = "closed-loop.json", "closed-loop.csv", "closed-loop.png"
BLOCK_S = 10.0  # of arrivals: the unit that intervals resample
SHARE_LIMIT = 0.05  # shares that part by no more are not warned about, however small their noise

Pair = tuple[np.ndarray, np.ndarray]  # testbed's and simulator's ``state.OUTCOME`` rows of the same tasks
Measure = Callable[[np.ndarray], float]


@dataclass(frozen=True)
class Difference:
    """A measure in the testbed and in the simulator. ``noise`` is half of the 95% interval of testbed − simulator.

    ``noise`` is None where the arrivals are shorter than two blocks.
    """

    testbed: float
    simulator: float
    noise: float | None

    @property
    def difference(self) -> float:
        return self.testbed - self.simulator

    @property
    def significant(self) -> bool:
        """Whether the difference is larger than its noise."""
        return self.noise is not None and abs(self.difference) > self.noise

    def entries(self) -> dict[str, float | None]:
        return {
            "testbed": self.testbed,
            "simulator": self.simulator,
            "difference": self.difference,
            "noise": self.noise,
        }


def completed(rows: np.ndarray) -> np.ndarray:
    """The rows of tasks that ended in an image."""
    return rows[(rows["lost"] == 0) & (rows["dropped"] == 0)]


def share_names(scenario: Scenario) -> list[str]:
    """The names of the shares among the measures: of the own device and of each BS."""
    return [f"share {name}" for name in ("own device", *bs_names(scenario))]


def measures(scenario: Scenario) -> dict[str, Measure]:
    """What is compared, by name. Shares, steps and delays are those of images; cost and energy those of all tasks."""
    found: dict[str, Measure] = {}
    for place, name in enumerate(share_names(scenario)):
        found[name] = lambda rows, place=place: _mean(completed(rows)["place"] == place)  # type: ignore[misc]
    found["steps"] = lambda rows: _mean(completed(rows)["steps"])
    found["cost"] = lambda rows: _mean(rows["cost"])
    found["mean delay s"] = lambda rows: _mean(completed(rows)["delay_s"])
    found["p95 delay s"] = lambda rows: float(np.quantile(delays, 0.95)) if len(delays := _delays(rows)) else 0.0
    found["phone J"] = lambda rows: _mean(rows["energy_ue_j"])
    found["BS J"] = lambda rows: _mean(rows["energy_bs_j"])
    return found


def _delays(rows: np.ndarray) -> np.ndarray:
    return completed(rows)["delay_s"]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0


def compare(testbed: np.ndarray, simulator: np.ndarray, measure: Measure) -> Difference:
    """A measure of both, with the noise of its difference: a jackknife over blocks of arrivals (Künsch 1989).

    Each block is left out of both once. The interval uses Student's t with one degree of freedom less than blocks.
    """
    block = testbed["arrival_s"] // BLOCK_S
    blocks = np.unique(block)
    noise = None
    if len(blocks) > 1:
        kept = (block != left_out for left_out in blocks)
        without = np.array([measure(testbed[rows]) - measure(simulator[rows]) for rows in kept])
        deviation = np.sqrt((len(blocks) - 1) / len(blocks) * ((without - without.mean()) ** 2).sum())
        noise = float(student.ppf(0.5 + 0.5 * CONFIDENCE, len(blocks) - 1) * deviation)
    return Difference(measure(testbed), measure(simulator), noise)


Found = dict[str, dict[str, Difference]]  # by policy, by measure


def compare_all(scenario: Scenario, pairs: Mapping[str, Pair]) -> Found:
    """All measures of each policy's pair. The rows of a pair are of the same tasks, in the same order."""
    return {
        policy: {name: compare(*pair, measure) for name, measure in measures(scenario).items()}
        for policy, pair in pairs.items()
    }


def warnings(scenario: Scenario, pairs: Mapping[str, Pair], found: Found) -> list[str]:
    """Sentences about shares that part by more than their noise and ``SHARE_LIMIT``, and about different winners."""
    sentences = []
    for policy, differences in found.items():
        for name in share_names(scenario):
            each = differences[name]
            if each.significant and abs(each.difference) > SHARE_LIMIT:
                assert each.noise is not None
                sentences.append(
                    f"{policy}: the {name.replace('share ', 'share of ')} is {each.testbed:.0%} in the testbed, but "
                    f"{each.simulator:.0%} in the simulator (difference {100 * each.difference:+.0f} points, "
                    f"noise ±{100 * each.noise:.0f})"
                )
    return sentences + _different_winners(pairs, found)


def _different_winners(pairs: Mapping[str, Pair], found: Found) -> list[str]:
    """Whether the cheapest policy differs, and by how much the two winners differ in the testbed."""
    ours, theirs = winner(found, "testbed"), winner(found, "simulator")
    if ours == theirs:
        return []
    gap = compare(pairs[theirs][0], pairs[ours][0], lambda rows: _mean(rows["cost"]))
    sentence = f"the cheapest policy is {ours} in the testbed, but {theirs} in the simulator"
    return [sentence if gap.significant else f"{sentence}; in the testbed their costs differ by less than the noise"]


def winner(found: Found, where: str) -> str:
    """The policy with the lowest cost in the ``testbed`` or in the ``simulator``."""
    return min(found, key=lambda policy: float(getattr(found[policy]["cost"], where)))


def write_closed_loop(scenario: Scenario, pairs: Mapping[str, Pair], folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Write the comparison as JSON, CSV and picture; returns what JSON holds, and the warnings."""
    found = compare_all(scenario, pairs)
    sentences = warnings(scenario, pairs, found)
    content = {
        "policies": {
            policy: {name: each.entries() for name, each in differences.items()}
            for policy, differences in found.items()
        },
        "winner": {where: winner(found, where) for where in ("testbed", "simulator")},
    }
    write_text(folder / DIFFERENCES, json.dumps(content, indent=2))
    write_csv(
        folder / TABLE,
        [
            {"policy": policy, "measure": name}
            | {key: "" if value is None else f"{value:.6g}" for key, value in each.entries().items()}
            for policy, differences in found.items()
            for name, each in differences.items()
        ],
    )
    save_figure(lambda: plot(scenario, found), folder / PICTURE)
    return content, sentences


def plot(scenario: Scenario, found: Found) -> Figure:
    """Shares by place of each policy in testbed and simulator, and both costs and mean delays."""
    figure = Figure(figsize=(11.0, 1.4 + 0.8 * len(found)), layout="constrained")
    shares, cost, delay = figure.subplots(1, 3, width_ratios=(2, 1, 1), sharey=True)
    _plot_shares(shares, scenario, found)
    _plot_means(cost, [differences["cost"] for differences in found.values()], "cost per task")
    _plot_means(delay, [differences["mean delay s"] for differences in found.values()], "mean delay, s")
    delay.legend(loc="lower right")
    return figure


def _plot_shares(axes: Axes, scenario: Scenario, found: Found) -> None:
    names = share_names(scenario)
    for row, differences in enumerate(found.values()):
        for where, offset in (("testbed", -0.2), ("simulator", 0.2)):
            left = 0.0
            for place, name in enumerate(names):
                width = float(getattr(differences[name], where))
                colour = PALETTE[min(place, len(PALETTE) - 1)]
                label = name.removeprefix("share ") if row == 0 and where == "testbed" else None
                axes.barh(row + offset, width, 0.36, left, color=colour, label=label)
                if width > 0.06:
                    axes.text(left + width / 2, row + offset, f"{width:.0%}", ha="center", va="center", fontsize=8)
                left += width
    axes.set(
        xlim=(0, 1), yticks=range(len(found)), yticklabels=list(found), title="shares: testbed above, simulator below"
    )
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=len(names))


def _plot_means(axes: Axes, differences: Sequence[Difference], title: str) -> None:
    """Bars of both; the bar over the testbed's is the noise of the difference."""
    rows = np.arange(len(differences))
    noise = [each.noise or 0.0 for each in differences]
    style: dict[str, Any] = {"error_kw": {"ecolor": "#555555", "capsize": 2}}
    axes.barh(
        rows - 0.2, [each.testbed for each in differences], 0.36, xerr=noise, color=BLUE, label="testbed", **style
    )
    axes.barh(rows + 0.2, [each.simulator for each in differences], 0.36, color=ORANGE, label="simulator")
    axes.set_title(title)
