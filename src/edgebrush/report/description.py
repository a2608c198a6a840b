"""The report's sentences about the scenario and about how the results were measured."""

from __future__ import annotations

from edgebrush.evaluation.run_folder import Run
from edgebrush.plotting import percent
from edgebrush.scenario.schema import BurstyArrivals, Scenario, TraceArrivals

from .text import enumerate_parts


def scenario_summary(scenario: Scenario, load: float) -> list[str]:
    """The UEs and BSs, the arrivals at an offered load, the decisions and the cost."""
    cost = scenario.cost
    return [
        _hardware(scenario),
        _arrivals(scenario, load),
        _decisions(scenario),
        f"A task's cost is delay / {cost.delay_ref_s:g} s, energy / {cost.energy_ref_j:g} J and lost quality (1 − Q), "
        f"each multiplied by the request's weight; a missed deadline adds {cost.missed:g}, a lost task {cost.lost:g}.",
    ]


def _hardware(scenario: Scenario) -> str:
    ues = [f"{ue.count} “{ue.name}” ({ue.profile})" for ue in scenario.ues]
    bss = [f"{bs.count} × “{bs.name}”" if bs.count > 1 else f"“{bs.name}”" for bs in scenario.bss]
    limits = enumerate_parts([str(bs.batch_limit) for bs in scenario.bss])
    return (
        f"{scenario.ue_count:,} UEs with a light model each: {enumerate_parts(ues)}. {scenario.bs_count:,} base "
        f"stations with a heavy model each: {enumerate_parts(bss)}, with batches of at most {limits} tasks."
    )


def _arrivals(scenario: Scenario, load: float) -> str:
    arrivals = scenario.arrivals
    process = "as a Poisson process"
    if isinstance(arrivals, BurstyArrivals):
        process = f"in bursts ({arrivals.calm:g} to {arrivals.burst:g} times the mean rate)"
    elif isinstance(arrivals, TraceArrivals):
        process = f"as in the request trace {arrivals.file.name}, with scaled times"
    kinds = [
        f"“{kind.name}” ({kind.share:.0%}; weights {kind.delay_weight:g} for delay, {kind.energy_weight:g} "
        f"for energy, {kind.quality_weight:g} for quality"
        + (f"; deadline {kind.deadline_s:g} s)" if kind.deadline_s else ")")
        for kind in scenario.requests
    ]
    return (
        f"{scenario.task_rate_hz:.3g} tasks per second arrive {process}: {load:.2f} times what the base stations can "
        f"process at 15 steps with full batches. Kinds of request: {enumerate_parts(kinds)}."
    )


def _decisions(scenario: Scenario) -> str:
    decision, interval_s = scenario.decision, scenario.broadcast_interval_s
    grid = ", ".join(str(steps) for steps in decision.step_grid)
    stay = "stay on its phone or " if decision.local else ""
    neighbours = min(decision.neighbours, scenario.bs_count)
    known = f"from their broadcasts every {interval_s:g} s" if interval_s else "at any time"
    load = f"A UE knows the base stations' load {known}."
    if interval_s == float("inf"):
        load = "A UE does not know the base stations' load."
    return (
        f"A task may {stay}go to one of the {neighbours} base stations with the best channel to its UE, use one of "
        f"{grid} steps, and request one of {decision.classes} service classes. {load}"
    )


def method(run: Run) -> str:
    """How the results were measured: episodes, intervals, training seeds, time and machine."""
    results = run.results
    text = _testbed_method(results) if "testbed" in results else _simulation_method(results)
    seeds = results["policies"].get("mappo", {}).get("training_seeds")
    if seeds:
        costs = enumerate_parts([f"{cost:.4f}" for cost in seeds["cost"]])
        text += (
            f"MAPPO's numbers are means over {len(seeds['cost'])} trainings with different seeds, which cost {costs}; "
            "the intervals refer to these trainings. "
        )
    seconds = [f"{value:.0f} s for {phase}" for phase, value in results["timings_s"].items() if value >= 1]
    if seconds:
        machine = results["machine"]
        text += f"The run took {enumerate_parts(seconds)} on {machine['cores']} cores ({machine['processor']})."
    return text


def _simulation_method(results: dict) -> str:
    return (
        f"All policies played the same {results['tasks_per_policy']:,} tasks in {results['episodes']:,} episodes of "
        f"{results['horizon_s']:g} s, with the same arrivals and channels, on seeds that neither training nor tuning "
        "used. Intervals are 95% bootstraps over episodes, paired where policies are compared. "
    )


def _testbed_method(results: dict) -> str:
    testbed = results["testbed"]
    requested, images, errors, lost = (
        sum(each[name] for each in testbed["rounds"].values()) for name in ("asked", "images", "errors", "lost")
    )
    text = (
        "These are measurements, not simulations: base stations and phones ran as processes on one machine, as slow "
        "as the scenario's hardware, and sent real images over links shaped to the scenario's rates. The policies met "
        f"the same {results['tasks_per_policy']:,} tasks one after the other: {testbed['seconds']:g} s of arrivals on "
        "a seed that neither training nor tuning used. Delay is measured; energy and quality follow from the work "
        f"that was done and the models' profiles. Of {requested:,} tasks {images:,} ended with an image, {errors:,} "
        f"with an error, and {lost:,} were lost. Intervals are 95% bootstraps over blocks of "
        f"{results['horizon_s']:g} s of arrivals, paired where policies are compared. "
    )
    errors_by_policy = testbed.get("against_sim", {})
    if errors_by_policy:
        gaps = [f"{name} {percent(each['delay_s']['mean']['relative'])}" for name, each in errors_by_policy.items()]
        text += f"Measured mean delay relative to a simulation of the same decisions: {enumerate_parts(gaps)}. "
    return text
