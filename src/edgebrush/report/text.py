"""The report's sentences about the results. Each is computed from the run's numbers, whether they are good or bad."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgebrush.evaluation.run_folder import Run
from edgebrush.evaluation.statistics import COST_TERMS, LOAD_WINDOW_S, MIN_EPISODES, verdict
from edgebrush.learning.registry import ALGORITHMS
from edgebrush.plotting import percent
from edgebrush.policies.rules import KINDS

from .caution import count_episodes
from .figures import TERM_NAMES, place_names, place_shares
from .groups import LOAD, Group

FAILURES = {"refused": "were refused by a base station", "missed": "missed their deadline", "lost": "were lost"}


def title_of(name: str) -> str:
    """A policy's name in a sentence."""
    return ALGORITHMS[name].title if name in ALGORITHMS else name


def enumerate_parts(parts: Sequence[str]) -> str:
    """``a, b and c``."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1] if parts else ""


def headline(run: Run) -> str:
    """The subject's cost relative to its rival's."""
    subject, rival = title_of(run.subject), run.rival
    if rival is None:
        cost = run.results["policies"][run.subject]["cost"]["mean"]
        return f"{subject} was played alone: its tasks cost {cost:.4f} on average."
    gap = _gap_to(run, rival)
    best = "the best rule" if run.subject == "mappo" and rival in KINDS else "the next best"
    if run.results["episodes"] < MIN_EPISODES:
        return (
            f"{subject} and {rival}, {best}, cannot be told apart by {count_episodes(run)}: the difference in cost is "
            f"{percent(gap['mean'])}."
        )
    match verdict(gap, run.results["episodes"]):
        case "better":
            return f"{subject} costs {_size(gap)} less per task than {rival}, {best} ({_interval(gap)})."
        case "worse":
            return (
                f"{subject} does not win here: it costs {_size(gap)} more per task than {rival}, {best} "
                f"({_interval(gap)})."
            )
    return (
        f"{subject} and {rival}, {best}, do not differ significantly here: {percent(gap['mean'], 2)} in cost, "
        f"95% interval from {percent(gap['ci_low'], 2)} to {percent(gap['ci_high'], 2)}."
    )


def wins(run: Run) -> str:
    """How many of the other policies cost more, and the saving relative to selfish phones."""
    gaps = run.results["policies"][run.subject]["less_than"]
    won = [name for name, gap in gaps.items() if verdict(gap["relative"], run.results["episodes"]) == "better"]
    if not won:
        return ""
    if len(won) == len(gaps):
        which = {1: "The other policy costs", 2: "Both other policies cost"}.get(
            len(gaps), f"All {len(gaps)} other policies cost"
        )
    else:
        which = f"{len(won)} of {len(gaps)} other policies cost{'s' if len(won) == 1 else ''}"
    text = f"{which} significantly more (95% intervals)."
    if "selfish-greedy" in won:
        gap = gaps["selfish-greedy"]["relative"]
        text += f" Compared with phones that minimise only their own cost (selfish-greedy), it saves {_size(gap)}"
        text += f" ({_interval(gap)})."
    return text


def cost_terms(run: Run) -> str:
    """The terms of the cost that make up the difference to the rival."""
    if run.rival is None:
        return ""
    ours, theirs = (run.results["policies"][name] for name in (run.subject, run.rival))
    gaps = {term: ours[term]["mean"] - theirs[term]["mean"] for term in COST_TERMS}
    total = ours["cost"]["mean"] - theirs["cost"]["mean"]
    parts = [
        f"{TERM_NAMES[term]} {_signed(gap)}" for term, gap in sorted(gaps.items(), key=lambda item: item[1]) if gap
    ]
    return f"The difference of {_signed(total)} per task is the sum of {enumerate_parts(parts)}."


def decisions(run: Run) -> list[str]:
    """Where the subject's tasks were generated, with how many steps and in which class."""
    counts = run.digests[run.subject].choices
    subject, kinds = title_of(run.subject), run.scenario.requests
    grid = np.array(run.scenario.decision.step_grid)
    sentences = [_places(run, counts)]
    if len(kinds) > 1:
        for number, kind in enumerate(kinds):
            local = place_shares(run, counts[number].sum((0, 2, 3)))[0]
            steps = _step_range(grid, counts[number].sum((0, 1, 3)))
            sentences.append(f"“{kind.name}” requests: {local:.0%} on the phone; {steps}.")
    if len(run.scenario.contents) > 1 and len(grid) > 1:
        parts = [
            f"{_mean_steps(grid, counts[:, number].sum((0, 1, 3))):.1f} for “{content.name}”"
            for number, content in enumerate(run.scenario.contents)
        ]
        sentences.append(f"Mean steps by content: {enumerate_parts(parts)}.")
    if run.scenario.decision.classes > 1:
        first = counts[..., 0].sum((1, 2, 3)) / np.maximum(counts.sum((1, 2, 3, 4)), 1)
        parts = [f"{share:.0%} of “{kind.name}”" for share, kind in zip(first, kinds, strict=True)]
        sentences.append(f"{subject} chose the class that is served first for {enumerate_parts(parts)} tasks.")
    return sentences


def _places(run: Run, counts: np.ndarray) -> str:
    """Where the tasks of ``counts (R, C, 1+M, K, P)`` were generated: on the phone, and at the largest BSs."""
    names, _ = place_names(run)
    shares = place_shares(run, counts.sum((0, 1, 3, 4)))
    order = [place for place in np.argsort(-shares[1:]) + 1 if shares[place] >= 0.005]
    sent = [f"{shares[place]:.0%} to {names[place]}" for place in order[:6]]
    text = f"{title_of(run.subject)} kept {shares[0]:.0%} of the tasks on the phone that requested them"
    return text + (f" and sent {enumerate_parts(sent)}." if sent else ".")


def _step_range(grid: np.ndarray, counts: np.ndarray) -> str:
    """The range of nine tenths of the step counts, and the most frequent one."""
    share = np.cumsum(counts) / max(counts.sum(), 1)
    low, high = (grid[min(int(np.searchsorted(share, level)), len(grid) - 1)] for level in (0.05, 0.95))
    usual = grid[np.argmax(counts)]
    return f"{usual} steps" if low == high else f"{low} to {high} steps, most often {usual}"


def _mean_steps(grid: np.ndarray, counts: np.ndarray) -> float:
    return float((grid * counts).sum() / max(counts.sum(), 1))


def differences(run: Run, groups: list[Group]) -> list[str]:
    """On which groups of tasks the difference to the rival arises, and on which the subject costs more."""
    if run.rival is None:
        return []
    by_load = [group for group in groups if group.dimension == LOAD]
    others = [group for group in groups if group.dimension != LOAD]
    return [
        *([_by_load(run, by_load[0], by_load[-1])] if len(by_load) > 1 else []),
        _behaviour(run),
        *_largest_contributions(run, others),
        _losers(run, others),
    ]


def _by_load(run: Run, low: Group, high: Group) -> str:
    return (
        f"Load is the number of arrivals in the {LOAD_WINDOW_S:g} s before a task. In the fifth of the tasks with the "
        f"lowest load {title_of(run.subject)}'s cost relative to {run.rival} is {_with_interval(low)}, in the "
        f"fifth with the highest load {_with_interval(high)}. From the lowest to the highest fifth its own-device "
        f"share changes from {low.local:.0%} to {high.local:.0%} and its mean steps from {low.steps:.1f} to "
        f"{high.steps:.1f}."
    )


def _behaviour(run: Run) -> str:
    ours, theirs = (run.results["policies"][name] for name in (run.subject, run.rival or ""))
    return (
        f"Compared with {run.rival}, it keeps {ours['local']['mean']:.0%} of the tasks on the phone instead of "
        f"{theirs['local']['mean']:.0%}, uses {ours['steps']['mean']:.1f} steps instead of "
        f"{theirs['steps']['mean']:.1f}, and takes {ours['delay_s']['mean']:.2f} s instead of "
        f"{theirs['delay_s']['mean']:.2f} s, on average."
    )


def _largest_contributions(run: Run, groups: list[Group]) -> list[str]:
    """The group of each dimension that contributes most, where the difference is significant."""
    gap = run.results["policies"][run.subject]["less_than"][run.rival]["cost"]
    if verdict(gap, run.results["episodes"]) == "level" or not groups:
        return []
    largest = []
    for dimension in dict.fromkeys(group.dimension for group in groups):
        here = [group for group in groups if group.dimension == dimension]
        most = max(here, key=lambda group: group.contribution / gap["mean"])
        largest.append(f"{dimension} “{most.name}” ({most.share:.0%} of the tasks)")
    change = "saving" if gap["mean"] < 0 else "loss"
    return [f"The groups that contribute most to the {change}: {enumerate_parts(largest)}."]


def _losers(run: Run, groups: list[Group]) -> str:
    significant = [group for group in groups if verdict(group.gap._asdict(), group.episodes) == "worse"]
    worse = [f"“{group.name}” ({_with_interval(group)})" for group in significant]
    if worse:
        return f"Groups that cost more than under {run.rival}: {enumerate_parts(worse)}."
    return f"No kind of request, content or class of phone costs significantly more than under {run.rival}."


def side_effects(run: Run) -> str:
    """Fairness among UEs, failed tasks, and the BSs' energy, which the cost may not count."""
    ours = run.results["policies"][run.subject]
    theirs = run.results["policies"][run.rival] if run.rival else None
    text = f"Jain's index of the UEs' mean costs is {ours['fairness']:.3f} (1 = all equal)"
    text += f", {theirs['fairness']:.3f} under {run.rival}. " if theirs else ". "
    failed = [f"{ours[name]['mean']:.2%} {verb}" for name, verb in FAILURES.items() if ours[name]["mean"] > 0]
    subject = title_of(run.subject)
    text += f"Of {subject}'s tasks {enumerate_parts(failed)}. " if failed else f"None of {subject}'s tasks failed. "
    counted = run.scenario.cost.bs_energy_weight
    if theirs and counted < 1.0:
        text += (
            f"A task uses {ours['energy_bs_j']['mean']:.0f} J at the base stations "
            f"({theirs['energy_bs_j']['mean']:.0f} J under {run.rival}). This scenario's cost counts {counted:.0%} of "
            f"that energy. If it counted in full, the same decisions would cost "
            f"{ours['cost_with_bs_energy']['mean']:.2f} ({theirs['cost_with_bs_energy']['mean']:.2f} under "
            f"{run.rival})."
        )
    return text


def _gap_to(run: Run, rival: str) -> dict:
    return run.results["policies"][run.subject]["less_than"][rival]["relative"]


def _size(gap: dict) -> str:
    """The size of a relative gap: ``1.3%``."""
    return f"{100 * abs(gap['mean']):.{_digits(gap)}f}%"


def _interval(gap: dict) -> str:
    """The interval of a gap's size: ``95% interval 1.1 to 1.5%``."""
    sign = 1 if gap["mean"] >= 0 else -1
    low, high = sorted((sign * 100 * gap["ci_low"], sign * 100 * gap["ci_high"]))
    return f"95% interval {low:.{_digits(gap)}f} to {high:.{_digits(gap)}f}%"


def _digits(gap: dict) -> int:
    return 1 if abs(gap["mean"]) >= 0.005 else 2


def _signed(value: float) -> str:
    """A signed cost with a real minus sign."""
    return f"{value:+.4f}".replace("-", "−")


def _with_interval(group: Group) -> str:
    return f"{percent(group.gap.mean)} [{group_interval(group, ', ')}]"


def group_interval(group: Group, between: str = " to ") -> str:
    """A group's interval; a group that occurs in one episode has none."""
    if group.episodes < 2:
        return "in one block"
    return f"{percent(group.gap.ci_low)}{between}{percent(group.gap.ci_high)}"
