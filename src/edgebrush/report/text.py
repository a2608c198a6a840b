"""What a run says, in plain words: every sentence is computed from its numbers, and says so when there is no
gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edgebrush.evaluation.run_folder import Run
from edgebrush.evaluation.statistics import COST_TERMS, LOAD_WINDOW_S, METRICS, PER, Bootstrap, Interval
from edgebrush.learning.registry import ALGORITHMS
from edgebrush.plotting import percent
from edgebrush.policies.rules import KINDS
from edgebrush.scenario.schema import BurstyArrivals, Scenario, TraceArrivals

from .figures import TERM_NAMES, place_names, place_shares

MOMENT = "load of the moment"


class Group(NamedTuple):
    """The subject against its rival on a part of the tasks."""

    dimension: str
    name: str
    share: float  # of all tasks
    cost: float
    rival_cost: float
    gap: Interval  # relative
    worth: float  # what the gap adds to the mean cost over all tasks
    local: float
    steps: float
    delay_s: float


def title_of(name: str) -> str:
    """A policy's name in a sentence."""
    return ALGORITHMS[name].title if name in ALGORITHMS else name


def minus(value: float) -> str:
    """A signed cost with a real minus sign."""
    return f"{value:+.4f}".replace("-", "−")


def verdict(gap: dict) -> str:
    """ "better", "worse" or "level", by whether the interval leaves 0 out."""
    return "better" if gap["ci_high"] < 0 else "worse" if gap["ci_low"] > 0 else "level"


def size(gap: dict) -> str:
    """How large a relative gap is: ``1.3%``."""
    return f"{100 * abs(gap['mean']):.{_digits(gap)}f}%"


def interval(gap: dict) -> str:
    """Its interval, seen from its sign: ``95% interval 1.1 to 1.5%``."""
    sign = 1 if gap["mean"] >= 0 else -1
    low, high = sorted((sign * 100 * gap["ci_low"], sign * 100 * gap["ci_high"]))
    return f"95% interval {low:.{_digits(gap)}f} to {high:.{_digits(gap)}f}%"


def _digits(gap: dict) -> int:
    return 1 if abs(gap["mean"]) >= 0.005 else 2


def headline(run: Run) -> str:
    """Who is cheapest, and by how much."""
    subject, rival = title_of(run.subject), run.rival
    if rival is None:
        return f"{subject} was played alone: its tasks cost {_cost(run, run.subject):.4f} on average."
    gap = run.results["policies"][run.subject]["less_than"][rival]["relative"]
    best = "the best rule" if run.subject == "mappo" and rival in KINDS else "the next best"
    match verdict(gap):
        case "better":
            return f"{subject} costs {size(gap)} less per task than {rival}, {best} ({interval(gap)})."
        case "worse":
            return (
                f"{subject} does not win here: it costs {size(gap)} more per task than {rival}, {best} "
                f"({interval(gap)})."
            )
    return (
        f"{subject} and {rival}, {best}, cannot be told apart here: {percent(gap['mean'], 2)} in cost, with "
        f"a 95% interval from {percent(gap['ci_low'], 2)} to {percent(gap['ci_high'], 2)}."
    )


def _cost(run: Run, name: str) -> float:
    return run.results["policies"][name]["cost"]["mean"]


def beaten(run: Run) -> str:
    """How many of the rivals are beaten, and by how much the field trails."""
    rivals = run.results["policies"][run.subject]["less_than"]
    won = [name for name, gap in rivals.items() if verdict(gap["relative"]) == "better"]
    if not won:
        return ""
    whole = "All" if len(won) == len(rivals) else f"{len(won)} of"
    text = f"{whole} {len(rivals)} rivals cost more, by 95% intervals that leave zero out."
    if "selfish-greedy" in won:
        gap = rivals["selfish-greedy"]["relative"]
        text += f" Against phones that mind only their own cost (selfish-greedy) it saves {size(gap)}"
        text += f" ({interval(gap)})."
    return text


def terms(run: Run) -> str:
    """Which terms of the cost the difference is made of."""
    if run.rival is None:
        return ""
    ours, theirs = (run.results["policies"][name] for name in (run.subject, run.rival))
    gaps = {term: ours[term]["mean"] - theirs[term]["mean"] for term in COST_TERMS}
    total = ours["cost"]["mean"] - theirs["cost"]["mean"]
    parts = [f"{TERM_NAMES[term]} {minus(gap)}" for term, gap in sorted(gaps.items(), key=lambda item: item[1]) if gap]
    return f"The difference of {minus(total)} per task is made of {listed(parts)}."


def decided(run: Run) -> list[str]:
    """Where the subject's tasks went, and with how many steps, by who asked and for what."""
    counts = run.digests[run.subject].choices
    subject = title_of(run.subject)
    names, _ = place_names(run)
    shares = place_shares(run, counts.sum((0, 1, 3, 4)))
    order = [place for place in np.argsort(-shares[1:]) + 1 if shares[place] >= 0.005]
    sent = [f"{shares[place]:.0%} to {names[place]}" for place in order[:6]]
    sentences = [
        f"{subject} left {shares[0]:.0%} of the tasks on the phone that asked" + _and(sent, " and sent ") + "."
    ]
    grid = np.array(run.scenario.decision.step_grid)
    kinds = run.scenario.requests
    if len(kinds) > 1:
        for number, kind in enumerate(kinds):
            local = place_shares(run, counts[number].sum((0, 2, 3)))[0]
            given = _steps(grid, counts[number].sum((0, 1, 3)))
            sentences.append(f"Of the “{kind.name}” requests {local:.0%} stayed on the phone; they got {given}.")
    if len(run.scenario.contents) > 1 and len(grid) > 1:
        parts = [
            f"{_mean(grid, counts[:, number].sum((0, 1, 3))):.1f} for “{content.name}”"
            for number, content in enumerate(run.scenario.contents)
        ]
        sentences.append(f"Harder pictures can ask for more steps; it gave on average {listed(parts)}.")
    if run.scenario.decision.classes > 1:
        first = counts[..., 0].sum((1, 2, 3)) / np.maximum(counts.sum((1, 2, 3, 4)), 1)
        parts = [f"{share:.0%} of “{kind.name}”" for share, kind in zip(first, kinds, strict=True)]
        sentences.append(f"The service class that is served first was asked for by {listed(parts)} tasks.")
    return sentences


def _and(parts: Sequence[str], lead: str) -> str:
    return lead + listed(parts) if parts else ""


def _steps(grid: np.ndarray, counts: np.ndarray) -> str:
    """The range of nine tenths of the step counts, and the most frequent."""
    share = np.cumsum(counts) / max(counts.sum(), 1)
    low, high = (grid[min(np.searchsorted(share, level), len(grid) - 1)] for level in (0.05, 0.95))  # type: ignore[call-overload]
    usual = grid[np.argmax(counts)]
    return f"{usual} steps" if low == high else f"{low} to {high} steps, most often {usual}"


def _mean(grid: np.ndarray, counts: np.ndarray) -> float:
    return float((grid * counts).sum() / max(counts.sum(), 1))


def groups(run: Run) -> list[Group]:
    """The subject against its rival by kind of request, content, class of phone and load of the moment."""
    if run.rival is None:
        return []
    ours, theirs = run.digests[run.subject], run.digests[run.rival]
    bootstrap = Bootstrap(ours.episodes)
    scenario = run.scenario
    fifths = ["calmest fifth", "second fifth", "middle fifth", "fourth fifth", "busiest fifth"]
    dimensions = {
        "kind of request": ("by_request", [kind.name for kind in scenario.requests]),
        "content": ("by_content", [content.name for content in scenario.contents]),
        "class of phone": ("by_ue_class", [ue.name for ue in scenario.ues]),
        MOMENT: ("by_load", fifths),
    }
    rows = []
    for dimension, (field, names) in dimensions.items():
        ours_by, theirs_by = getattr(ours, field), getattr(theirs, field)
        total = ours_by[:, :, METRICS.index("tasks")].sum()
        for number, name in enumerate(names):
            mine, other = ours_by[:, number], theirs_by[:, number]
            share = mine[:, METRICS.index("tasks")].sum() / total
            if share == 0.0 or len(names) == 1:
                continue
            cost, rival_cost = _of(mine, "cost"), _of(other, "cost")
            gap = bootstrap.difference(mine, other, relative=True)
            figures = (_of(mine, metric) for metric in ("local", "steps", "delay_s"))
            rows.append(Group(dimension, name, share, cost, rival_cost, gap, share * (cost - rival_cost), *figures))
    return rows


def _of(sums: np.ndarray, metric: str) -> float:
    below = sums[:, METRICS.index(PER.get(metric, "tasks"))].sum()
    return float(sums[:, METRICS.index(metric)].sum() / below) if below else 0.0


def where(run: Run, parts: list[Group]) -> list[str]:
    """In which moments and for whom the difference arises, and who pays for it."""
    if run.rival is None:
        return []
    subject = title_of(run.subject)
    sentences = []
    moments = [part for part in parts if part.dimension == MOMENT]
    if len(moments) > 1:
        calm, busy = moments[0], moments[-1]
        sentences.append(
            f"By load (a moment's load is what arrived in the {LOAD_WINDOW_S:g} s before): in the calmest "
            f"fifth {subject} costs {_signed(calm.gap)} against {run.rival}, in the busiest fifth "
            f"{_signed(busy.gap)}. From calm to busy its own-device share goes from {calm.local:.0%} to "
            f"{busy.local:.0%} and its mean steps from {calm.steps:.1f} to {busy.steps:.1f}."
        )
    ours, theirs = (run.results["policies"][name] for name in (run.subject, run.rival))
    sentences.append(
        f"Against {run.rival} it keeps {ours['local']['mean']:.0%} of the tasks on the phone instead of "
        f"{theirs['local']['mean']:.0%}, takes {ours['steps']['mean']:.1f} steps instead of "
        f"{theirs['steps']['mean']:.1f}, and is done in {ours['delay_s']['mean']:.2f} s instead of "
        f"{theirs['delay_s']['mean']:.2f} s, on average."
    )
    gap = ours["less_than"][run.rival]["cost"]
    if verdict(gap) != "level":
        largest = []
        for dimension in dict.fromkeys(part.dimension for part in parts if part.dimension != MOMENT):
            here = [part for part in parts if part.dimension == dimension]
            most = max(here, key=lambda part: part.worth / gap["mean"])
            largest.append(f"{dimension} “{most.name}” ({most.share:.0%} of the tasks)")
        if largest:
            change = "saving" if gap["mean"] < 0 else "loss"
            sentences.append(f"The largest part of the {change} arises with {listed(largest)}.")
    losers = [part for part in parts if part.gap.ci_low > 0 and part.dimension != MOMENT]
    if losers:
        names = listed([f"“{part.name}” ({_signed(part.gap)})" for part in losers])
        sentences.append(f"Who pays more than under {run.rival}: {names}.")
    else:
        sentences.append(
            "No kind of request, content or class of phone pays more than under {run.rival}, beyond chance."
        )
    return sentences


def _signed(gap: Interval) -> str:
    return f"{percent(gap.mean)} [{percent(gap.ci_low)}, {percent(gap.ci_high)}]"


def costs_whom(run: Run) -> str:
    """Evenness over users, failures, and the energy of the BSs, which the cost may not count."""
    ours = run.results["policies"][run.subject]
    subject = title_of(run.subject)
    failures = [f"{ours[name]['mean']:.2%} {name}" for name in ("refused", "missed", "lost") if ours[name]["mean"] > 0]
    text = f"Among UEs Jain's index of the mean cost is {ours['fairness']:.3f} (1 = all pay the same)"
    text += f", {run.results['policies'][run.rival]['fairness']:.3f} under {run.rival}. " if run.rival else ". "
    text += f"Of {subject}'s tasks {listed(failures)}. " if failures else f"None of {subject}'s tasks failed. "
    if run.rival and run.scenario.cost.bs_energy_weight < 1.0:
        theirs = run.results["policies"][run.rival]
        text += (
            f"A task takes {ours['energy_bs_j']['mean']:.0f} J at the base stations "
            f"({theirs['energy_bs_j']['mean']:.0f} J under {run.rival}), of which this scenario's cost "
            f"counts {run.scenario.cost.bs_energy_weight:.0%}; counted in full, the same decisions would "
            f"cost {ours['cost_with_bs_energy']['mean']:.2f} against "
            f"{theirs['cost_with_bs_energy']['mean']:.2f}."
        )
    return text


def world(scenario: Scenario, load: float) -> list[str]:
    """The scenario: who asks, who serves, what arrives, what it costs."""
    phones = [f"{ue.count} “{ue.name}” ({ue.profile})" for ue in scenario.ues]
    servers = [f"{bs.count} × “{bs.name}”" if bs.count > 1 else f"“{bs.name}”" for bs in scenario.bss]
    batches = listed([str(bs.batch_limit) for bs in scenario.bss])
    kinds = [
        f"“{kind.name}” ({kind.share:.0%}; weights {kind.delay_weight:g} for delay, {kind.energy_weight:g} "
        f"for energy, {kind.quality_weight:g} for quality"
        + (f"; within {kind.deadline_s:g} s)" if kind.deadline_s else ")")
        for kind in scenario.requests
    ]
    arrivals = scenario.arrivals
    how = "as a Poisson process"
    if isinstance(arrivals, BurstyArrivals):
        how = f"in bursts ({arrivals.calm:g} to {arrivals.burst:g} times the usual rate)"
    elif isinstance(arrivals, TraceArrivals):
        how = f"as in the request trace {arrivals.file.name}, its times scaled"
    decision = scenario.decision
    grid = ", ".join(str(k) for k in decision.step_grid)
    stay = "stay on its phone or " if decision.local else ""
    heard = min(decision.neighbours, scenario.bs_count)
    interval_s = scenario.broadcast_interval_s
    known = f"what they broadcast every {interval_s:g} s" if interval_s else "their present load"
    known = known if interval_s < float("inf") else "nothing"
    return [
        f"{scenario.ue_count:,} UEs with a light model of their own: {listed(phones)}. "
        f"{scenario.bs_count:,} base stations with a heavy one: {listed(servers)}, whose servers batch at "
        f"most {batches} tasks.",
        f"{scenario.task_rate_hz:.3g} tasks per second arrive {how}: {load:.2f} times what the base "
        f"stations can do at 15 steps with full batches. Requests are {listed(kinds)}.",
        f"A task may {stay}go to one of the {heard} base stations that its UE hears best, take one of "
        f"{grid} steps, and ask for one of {decision.classes} service classes. A UE knows of the base "
        f"stations {known}.",
        f"A task's cost is delay / {scenario.cost.delay_ref_s:g} s, energy / {scenario.cost.energy_ref_j:g} "
        "J and lost quality (1 − Q), each times the request's weight; a missed deadline adds "
        f"{scenario.cost.missed:g}, a lost task {scenario.cost.lost:g}.",
    ]


def measured(run: Run) -> str:
    """How the numbers came about."""
    results = run.results
    text = (
        _lived_through(results)
        if "testbed" in results
        else (
            f"All policies decided on the same {results['tasks_per_policy']:,} tasks in {results['episodes']:,} "
            f"episodes of {results['horizon_s']:g} s with the same arrivals, tasks and channels, on seeds that "
            "neither training nor tuning has seen. Intervals are 95% bootstraps over episodes, paired where "
            "policies are compared. "
        )
    )
    seeds = results["policies"].get("mappo", {}).get("training_seeds")
    if seeds:
        costs = listed([f"{cost:.4f}" for cost in seeds["cost"]])
        text += (
            f"MAPPO's figures are the mean over {len(seeds['cost'])} trainings with different seeds, which "
            f"cost {costs}; the intervals hold for these trainings. "
        )
    seconds = [f"{value:.0f} s of {phase}" for phase, value in results["timings_s"].items() if value >= 1]
    if seconds:
        machine = results["machine"]
        text += f"It took {listed(seconds)} on {machine['cores']} cores ({machine['processor']})."
    return text


def _lived_through(results: dict) -> str:
    """How the testbed's numbers came about."""
    testbed = results["testbed"]
    asked, images, errors, lost = (
        sum(each[name] for each in testbed["rounds"].values()) for name in ("asked", "images", "errors", "lost")
    )
    text = (
        "These are measurements, not simulations: servers and phones ran as processes on one machine, as slow as the "
        "scenario's hardware, and sent real images over links shaped to the scenario's rates. One policy after the "
        f"other met the same {results['tasks_per_policy']:,} tasks, {testbed['seconds']:g} s of arrivals on a seed "
        "that neither training nor tuning has seen. Delay is measured; energy and quality are what the models' "
        f"profiles say of what was really computed. Of {asked:,} tasks {images:,} ended in an image, {errors:,} in an "
        f"error; {lost:,} were lost. Intervals are 95% bootstraps over blocks of {results['horizon_s']:g} s of "
        "arrivals, paired where policies are compared. "
    )
    against = testbed.get("against_sim", {})
    if against:
        apart = [f"{name} {percent(each['delay_s']['mean']['relative'])}" for name, each in against.items()]
        text += f"Mean delay, measured against simulated with the same arrivals and decisions: {listed(apart)}. "
    return text


def listed(parts: Sequence[str]) -> str:
    """``a, b and c``."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1] if parts else ""
