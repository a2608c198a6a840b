"""`edgebrush testbed`: base stations and UEs as processes on this machine, with the arrivals of a simulated episode."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import OWN_CODE, OutOption, OverwriteOption, ScenarioArgument

if TYPE_CHECKING:
    from rich.console import Console

EPILOG = """\
edgebrush testbed --seconds 60                 two base stations, six phones, the tuned rule

edgebrush testbed --policies trained/seed-1,priced-greedy,selfish-greedy

edgebrush testbed --live-port 8200             watch it at http://127.0.0.1:8200

edgebrush testbed --against-sim                compare with the simulator, task by task

edgebrush testbed --fault kill-bs              does every task end exactly once when a base station dies?

docs/testbed.md describes the processes, the emulated links, the faults and the run folder.
"""


def testbed(
    scenario: ScenarioArgument = "testbed",
    policies: Annotated[
        str,
        typer.Option(metavar="A,B,...", help=f"Names of rules, folders of trained policies, run in turn; {OWN_CODE}"),
    ] = "priced-greedy",
    seconds: Annotated[float, typer.Option(min=1.0, max=3600.0, help="Duration of the arrivals, in real time.")] = 60.0,
    seed: Annotated[int, typer.Option(min=0, max=10**6, help="Number of the held-out episode, from 0.")] = 0,
    against_sim: Annotated[
        bool, typer.Option("--against-sim", help="Report the simulator's error, and what it decides itself.")
    ] = False,
    live_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Serve a live page at this port; 0 chooses a free one.")
    ] = None,
    fault: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Inject a fault while the first policy runs; docs/testbed.md lists them."),
    ] = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Run base stations and phones as processes: real images, emulated links. The report is that of `compare`."""
    from rich.console import Console

    from edgebrush.errors import UserError
    from edgebrush.scenario.load import load_scenario
    from edgebrush.sim.episode_seeds import HELD_OUT_SEEDS
    from edgebrush.testbed import closed_loop
    from edgebrush.testbed.experiment import run_experiment
    from edgebrush.testbed.gallery import GALLERY
    from edgebrush.testbed.live import LivePage
    from edgebrush.testbed.validation import PICTURE

    from .console import command_line, default_run_folder, print_summary, progress_bars

    loaded = load_scenario(scenario)
    folder, names = out or default_run_folder(loaded), [name.strip() for name in policies.split(",") if name.strip()]
    if not names:
        raise UserError(f"policies = {policies!r}: empty; give rules or folders of policies")
    if fault:
        inject_fault(fault, scenario, names[0], seconds, HELD_OUT_SEEDS + seed, folder, overwrite)
        return
    live = None if live_port is None else LivePage(live_port)
    console = Console(highlight=False, soft_wrap=True)
    if live:
        console.print(f"live: {live.url}")
    with progress_bars() as progress:
        run = run_experiment(
            scenario,
            names,
            folder,
            seconds=seconds,
            seed=HELD_OUT_SEEDS + seed,
            against_sim=against_sim,
            live=live,
            overwrite=overwrite,
            command=command_line(),
            progress=progress,
        )
    print_summary(run, folder)
    print_outcomes(run.results["testbed"], console)
    console.print(f"gallery: {folder / GALLERY}")
    if against_sim:
        console.print(f"pictures: {folder / PICTURE}, {folder / closed_loop.PICTURE}")


def print_outcomes(results: dict[str, Any], console: Console) -> None:
    """What became of the tasks under each policy, the comparison with the simulator if there is one, and warnings."""
    from rich.markup import escape

    for name, each in results["rounds"].items():
        counts = ", ".join(f"{each[count]} {count}" for count in ("images", "errors", "lost", "twice"))
        console.print(f"{name}: {each['asked']} requested, {counts}")
    for name, errors in results.get("against_sim", {}).items():
        delay = errors["delay_s"]
        console.print(
            f"{name}, measured against simulated, same decisions: mean delay {delay['mean']['measured']:.4f} s against "
            f"{delay['mean']['simulated']:.4f} s ({100 * delay['mean']['relative']:+.1f}%), "
            f"p95 {100 * delay['p95']['relative']:+.1f}%, cost {100 * errors['cost']['mean']['relative']:+.1f}%, "
            f"phone energy {100 * errors['energy_ue_j']['mean']['relative']:+.1f}%"
        )
    if "closed_loop" in results:
        print_closed_loop(results["closed_loop"], console)
    for warning in results["warnings"]:
        console.print(f"[yellow]warning:[/] {escape(warning)}")


def print_closed_loop(closed_loop: dict[str, Any], console: Console) -> None:
    """Where testbed and simulator, each deciding for itself, made the images, and at which cost."""
    from edgebrush.report.closed_loop import CAPTION, table

    rows = table(closed_loop)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    console.print(f"{CAPTION}:")
    for name, *cells in rows:
        padded = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        console.print("  ".join([name.ljust(widths[0]), *padded]), markup=False)


def inject_fault(name: str, scenario: str, policy: str, seconds: float, seed: int, out: Path, overwrite: bool) -> None:
    """Run one fault; exit with 1 where a task was lost or ended twice."""
    from edgebrush.evaluation.run_folder import new_folder
    from edgebrush.scenario.load import load_scenario
    from edgebrush.testbed.episode import draw_episode
    from edgebrush.testbed.faults import run_fault

    episode = draw_episode(load_scenario(scenario), seed, seconds)
    with new_folder(out, overwrite=overwrite) as folder:
        audit = run_fault(name, scenario, episode, policy, folder)
    typer.echo(f"{name}: {audit}; journals and logs: {out}")
    raise typer.Exit(int(audit.lost > 0 or audit.twice > 0))
