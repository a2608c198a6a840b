"""The study's tables, as Markdown and as one HTML page with the figures."""

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
    """A table as text."""

    title: str
    note: str
    headers: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def tables(findings: Findings) -> list[Table]:
    """The tables for which the study has results; first the failed jobs, where there are any."""
    built = [_failures(findings)] if findings.failures else []
    if not findings.comparable:
        return built
    built += _comparisons(findings)
    built.append(_trainings(findings))
    if findings.complete_points:
        built.append(_all_points(findings))
    if findings.ablations:
        built.append(_ablations(findings))
    return built


def write_tables(tables: list[Table], findings: Findings, figures: Sequence[str], folder: Path) -> None:
    """Write ``study.md``, and ``study.html`` with these figures of the folder. Raises ``UserError``."""
    images = {
        FIGURES[name].title: (name, base64.b64encode((folder / "figures" / f"{name}.png").read_bytes()).decode("ascii"))
        for name in figures
    }
    title = f"The study on {findings.scenario.name}"
    write_text(folder / "study.md", f"# {title}\n\n" + "\n".join(_markdown(table) for table in tables))
    command = findings.results["command"]
    page = fill(TEMPLATES / "study.html", title=title, command=command, tables=tables, figures=images)
    write_text(folder / "study.html", page)


def _markdown(table: Table) -> str:
    lines = [f"## {table.title}", table.note, "", f"| {' | '.join(table.headers)} |", "|---" * len(table.headers) + "|"]
    rows = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in table.rows]
    return "\n".join([*lines, *(f"| {row} |" for row in rows)]) + "\n"


def _between(interval: dict, digits: int = 4) -> str:
    return f"{interval['mean']:.{digits}f} [{interval['ci_low']:.{digits}f}, {interval['ci_high']:.{digits}f}]"


def _relative(interval: dict) -> str:
    return f"{percent(interval['mean'])} [{percent(interval['ci_low'])}, {percent(interval['ci_high'])}]"


def _failures(findings: Findings) -> Table:
    note = (
        "This study is incomplete: the jobs below failed, and what depends on them is missing (training seeds, "
        "policies, points, figures). The same command runs them again, and nothing else; study.json has their errors "
        "in full."
    )
    return Table("Failed jobs", note, ("job", "error"), [(each.job, each.error) for each in findings.failures])


def _comparisons(findings: Findings) -> list[Table]:
    """All learners and rules in one table; or rivals as published in one and rivals with all of ours in another."""
    name, learners = findings.scenario.name, findings.learners
    published = [learner for learner in learners if is_published(learner)]
    if not published:
        return [_comparison(findings, f"On {name}", learners)]
    tables = [_comparison(findings, f"Rivals as published, on {name}", [SUBJECT, *published])]
    like_for_like = [learner for learner in learners if learner not in published]
    if len(like_for_like) > 1:
        tables.append(_comparison(findings, f"Rivals with all of ours, on {name}", like_for_like))
    return tables


def is_published(learner: str) -> bool:
    """Whether a learner is one as its authors published it: it uses nothing of ours."""
    return learner in ALGORITHMS and not ALGORITHMS[learner].uses


def _comparison(findings: Findings, title: str, learners: Sequence[str]) -> Table:
    policies, aggregates = findings.results["policies"], findings.results["aggregates"]
    rules = [name for name in findings.policies if name in KINDS]
    names = sorted((*learners, *rules), key=lambda name: policies[name]["cost"]["mean"])
    rows = []
    for name in names:
        metrics, over_seeds = policies[name], aggregates[name]
        uses = ALGORITHMS[name].uses if name in ALGORITHMS else ()
        gap = policies[SUBJECT]["less_than"].get(name)
        rows.append(
            (
                name,
                str(over_seeds["seeds"] or ""),
                _between(metrics["cost"]),
                _between(over_seeds["interquartile_mean"]) if over_seeds["seeds"] else "",
                _relative(gap["relative"]) if gap else "",
                _between(over_seeds["mappo_is_cheaper"], 2) if gap else "",
                f"{metrics['delay_s']['mean']:.2f}",
                f"{metrics['energy_ue_j']['mean']:.2f}",
                f"{metrics['quality']['mean']:.3f}",
                *("yes" if ingredient in uses else "" for ingredient in (COST_TABLE, PRICES, COPIES)),
            )
        )
    headers = (
        "policy",
        "seeds",
        "cost [95%, episodes]",
        "interquartile mean [95%, seeds]",
        "MAPPO relative to it [95%, paired]",
        "P(MAPPO cheaper)",
        "delay s",
        "phone J",
        "quality",
        COST_TABLE,
        PRICES,
        COPIES,
    )
    note = (
        f"All policies play the same {findings.results['episodes']} held-out episodes. Intervals over episodes are "
        "paired bootstraps; intervals over seeds are stratified bootstraps over trainings. The last columns show what "
        "a learner uses."
    )
    return Table(title, note, headers, rows)


def _trainings(findings: Findings) -> Table:
    """The policy that is saved is the best that was validated; the last one shows whether a training is stable."""
    rows = []
    for name in findings.learners:
        validated = [[row for row in curve if "validation_cost" in row] for curve in findings.curves[name]]
        best = [min(rows, key=lambda row: row["validation_cost"]) for rows in validated]
        last = [rows[-1] for rows in validated]
        cells = [f"{np.mean([row['validation_cost'] for row in rows]):.4f}" for rows in (best, last)]
        share = np.mean([one["decisions"] / end["decisions"] for one, end in zip(best, last, strict=True)])
        rows.append((name, str(len(validated)), f"{last[0]['decisions']:,.0f}", *cells, f"{share:.0%}"))
    note = (
        "Costs on the validation episodes, means over the trainings. The policy that is saved and played is the best "
        "of the 20 that are validated in a training."
    )
    headers = ("learner", "seeds", "decisions", "best validation", "last validation", "share of the training at best")
    return Table(f"Trainings on {findings.scenario.name}", note, headers, rows)


def _all_points(findings: Findings) -> Table:
    runs = findings.relative_runs()
    rows = [
        (name, f"{len(costs)} × {costs.shape[1]}", _statistic(interquartile_mean, costs), _statistic(mean, costs))
        for name, costs in sorted(runs.items(), key=lambda item: float(interquartile_mean(item[1])))
    ]
    note = (
        f"Costs as multiples of {BEST_RULE}'s at the same point. Each learner was trained, and each rule tuned, anew "
        "at every point. Intervals are stratified bootstraps over trainings; with one run per point there is none."
    )
    headers = ("policy", "seeds × points", "interquartile mean [95%]", "mean [95%]")
    return Table("Over all points", note, headers, rows)


def _statistic(statistic: Callable[[np.ndarray], np.ndarray], costs: np.ndarray) -> str:
    """A statistic of ``costs (S, P)``, with its interval where there are several seeds."""
    return f"{statistic(costs):.3f}" if len(costs) == 1 else _between(aggregate(statistic, costs)._asdict(), 3)


def _ablations(findings: Findings) -> Table:
    policies, aggregates = findings.results["policies"], findings.results["aggregates"]
    rows = [(SUBJECT, "nothing", _between(aggregates[SUBJECT]["mean"]), "", "")]
    for ablation in findings.ablations:
        over_seeds = aggregates[ablation.name]
        more = policies[ablation.name]["less_than"][SUBJECT]["relative"]
        chance = _between(over_seeds["mappo_is_cheaper"], 2)
        rows.append((ablation.name, ablation.title, _between(over_seeds["mean"]), _relative(more), chance))
    headers = (
        "trained",
        "what was removed",
        "cost [95%, seeds]",
        "additional cost [95%, paired over episodes]",
        "P(MAPPO cheaper)",
    )
    note = (
        "MAPPO trained again with one ingredient removed, with as many seeds and decisions, on the same held-out "
        "episodes. The one step count is the one with which the tuned priced-greedy rule is cheapest on validation "
        "episodes."
    )
    return Table("The value of each ingredient", note, headers, rows)
