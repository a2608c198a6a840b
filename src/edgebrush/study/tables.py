"""The study's tables, as Markdown and as one HTML page with the figures in it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgebrush.evaluation.aggregates import aggregate, interquartile_mean, mean
from edgebrush.files import write_text
from edgebrush.learning.registry import ALGORITHMS, COPIES, COST_TABLE, PRICES
from edgebrush.plotting import percent
from edgebrush.policies.rules import KINDS
from edgebrush.report.pages import TEMPLATES, fill

from .figures import FIGURES
from .findings import BEST_RULE, SUBJECT, Findings


class Table(NamedTuple):
    title: str
    note: str
    headers: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def tables(found: Findings) -> list[Table]:
    """The tables that this study has something to show for."""
    made = [_comparison(found)]
    if found.points:
        made.append(_everywhere(found))
    if found.removed:
        made.append(_ablations(found))
    return made


def write_tables(made: list[Table], found: Findings, figures: Sequence[str], folder: Path) -> None:
    """Write ``study.md``, and ``study.html`` with these figures, which lie in the folder. Raises ``UserError``."""
    shown = {
        FIGURES[name].title: (name, base64.b64encode((folder / "figures" / f"{name}.png").read_bytes()).decode("ascii"))
        for name in figures
    }
    title = f"The study on {found.scenario.name}"
    write_text(folder / "study.md", f"# {title}\n\n" + "\n".join(_markdown(table) for table in made))
    page = fill(TEMPLATES / "study.html", title=title, command=found.results["command"], tables=made, figures=shown)
    write_text(folder / "study.html", page)


def _markdown(table: Table) -> str:
    lines = [f"## {table.title}", table.note, "", f"| {' | '.join(table.headers)} |", "|---" * len(table.headers) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in table.rows)]) + "\n"


def _between(interval: dict, digits: int = 4) -> str:
    return f"{interval['mean']:.{digits}f} [{interval['ci_low']:.{digits}f}, {interval['ci_high']:.{digits}f}]"


def _relative(interval: dict) -> str:
    return f"{percent(interval['mean'])} [{percent(interval['ci_low'])}, {percent(interval['ci_high'])}]"


def _comparison(found: Findings) -> Table:
    policies, summed = found.results["policies"], found.results["aggregates"]
    names = sorted((*found.learners, *KINDS), key=lambda name: policies[name]["cost"]["mean"])
    rows = []
    for name in names:
        figures, each = policies[name], summed[name]
        given = ALGORITHMS[name].given if name in ALGORITHMS else ()
        gap = policies[SUBJECT]["less_than"].get(name)
        rows.append(
            (
                name,
                str(each["seeds"] or ""),
                _between(figures["cost"]),
                _between(each["interquartile_mean"]) if each["seeds"] else "",
                _relative(gap["relative"]) if gap else "",
                _between(each["mappo_is_cheaper"], 2) if gap else "",
                f"{figures['delay_s']['mean']:.2f}",
                f"{figures['energy_ue_j']['mean']:.2f}",
                f"{figures['quality']['mean']:.3f}",
                *("yes" if what in given else "" for what in (COST_TABLE, PRICES, COPIES)),
            )
        )
    headers = (
        "policy",
        "seeds",
        "cost [95%, episodes]",
        "interquartile mean [95%, seeds]",
        "MAPPO against it [95%, paired]",
        "P(MAPPO cheaper)",
        "delay s",
        "phone J",
        "quality",
        COST_TABLE,
        PRICES,
        COPIES,
    )
    note = (
        f"{found.results['episodes']} held-out episodes, common to all. Intervals over episodes are paired bootstraps; "
        "those over seeds are stratified bootstraps over trainings. The last columns say what a learner is given."
    )
    return Table(f"On {found.scenario.name}", note, headers, rows)


def _everywhere(found: Findings) -> Table:
    runs = found.relative_runs()
    rows = [
        (name, f"{len(each)} × {each.shape[1]}", _over_points(interquartile_mean, each), _over_points(mean, each))
        for name, each in sorted(runs.items(), key=lambda item: float(interquartile_mean(item[1])))
    ]
    note = (
        f"Costs as multiples of {BEST_RULE}'s at the same point. Each learner was trained, and each rule tuned, anew "
        "at every point. Intervals are stratified bootstraps over trainings; one run a point has none."
    )
    headers = ("policy", "seeds × points", "interquartile mean [95%]", "mean [95%]")
    return Table("Over all points", note, headers, rows)


def _over_points(statistic: Callable[[np.ndarray], np.ndarray], runs: np.ndarray) -> str:
    """Its value, with an interval where more than one training is at a point."""
    return f"{statistic(runs):.3f}" if len(runs) == 1 else _between(aggregate(statistic, runs)._asdict(), 3)


def _ablations(found: Findings) -> Table:
    policies, summed = found.results["policies"], found.results["aggregates"]
    rows = [(SUBJECT, "nothing", _between(summed[SUBJECT]["mean"]), "", "")]
    for removed in found.removed:
        each = summed[removed.name]
        more = policies[removed.name]["less_than"][SUBJECT]["relative"]
        chance = _between(each["mappo_is_cheaper"], 2)
        rows.append((removed.name, removed.title, _between(each["mean"]), _relative(more), chance))
    headers = ("trained", "what was taken", "cost [95%, seeds]", "more [95%, paired over episodes]", "P(MAPPO cheaper)")
    note = (
        "MAPPO trained anew with one thing taken away, as many seeds and decisions, played on the same held-out "
        "episodes. The step count is the one at which the tuned priced-greedy rule is cheapest on validation episodes."
    )
    return Table("What each thing is worth", note, headers, rows)
