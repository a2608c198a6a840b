"""`edgebrush testbed`: the whole system on this machine, on the arrivals of a simulated episode."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import OutOption, OverwriteOption, ScenarioArgument

EPILOG = """\
edgebrush testbed testbed --seconds 60                         two base stations, six phones, the tuned rule

edgebrush testbed testbed --policies runs/mine/policies/mappo/seed-1,priced-greedy,selfish-greedy,local-only

edgebrush testbed testbed --live-port 8200                     watch it at http://127.0.0.1:8200

edgebrush testbed testbed --against-sim                        how far off is the simulator?

edgebrush testbed testbed --fault kill-bs                      does every task end, once?

docs/testbed.md says what runs, how links are shaped and what the run folder holds.
"""


def testbed(
    scenario: ScenarioArgument = "testbed",
    policies: Annotated[
        str, typer.Option(metavar="A,B,...", help="Rules by name and trained policies by folder, one after the other.")
    ] = "priced-greedy",
    seconds: Annotated[float, typer.Option(min=1.0, max=3600.0, help="Of arrivals, in real time.")] = 60.0,
    seed: Annotated[int, typer.Option(min=0, max=10**6, help="Which of the simulator's held-out episodes.")] = 0,
    against_sim: Annotated[
        bool, typer.Option("--against-sim", help="Replay what was decided in the simulator; report its error.")
    ] = False,
    live_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Show the work as it goes on at this port; 0 finds a free one.")
    ] = None,
    fault: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Let something fail, under the first policy; docs/testbed.md says what."),
    ] = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Run base stations and phones as processes, with real images over shaped links; report as `compare` does."""
    from rich.console import Console

    from edgebrush.errors import UserError
    from edgebrush.scenario.load import load_scenario
    from edgebrush.sim.episode_seeds import HELD_OUT_SEEDS
    from edgebrush.testbed.experiment import run_trial
    from edgebrush.testbed.gallery import GALLERY
    from edgebrush.testbed.live import Live
    from edgebrush.testbed.validation import PICTURE

    from .progress import bars, command_line, default_folder, show

    loaded = load_scenario(scenario)
    folder, names = out or default_folder(loaded), [name.strip() for name in policies.split(",") if name.strip()]
    if not names:
        raise UserError(f"policies = {policies!r}: names none; give rules or folders of policies")
    if fault:
        fail(fault, scenario, names[0], seconds, HELD_OUT_SEEDS + seed, folder, overwrite)
        return
    live = None if live_port is None else Live(live_port)
    console = Console(highlight=False, soft_wrap=True)
    if live:
        console.print(f"live: {live.url}")
    with bars() as progress:
        run = run_trial(
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
    show(run, folder)
    console.print(f"gallery: {folder / GALLERY}")
    found = run.results["testbed"]
    for name, each in found["rounds"].items():
        counts = ("asked", "images", "errors", "lost", "twice")
        console.print(f"{name}: " + ", ".join(f"{each[count]} {count}" for count in counts))
    for name, errors in found.get("against_sim", {}).items():
        delay = errors["delay_s"]
        console.print(
            f"{name}, measured against simulated: mean delay {delay['mean']['measured']:.4f} s against "
            f"{delay['mean']['simulated']:.4f} s ({100 * delay['mean']['relative']:+.1f}%), "
            f"p95 {100 * delay['p95']['relative']:+.1f}%, cost {100 * errors['cost']['mean']['relative']:+.1f}%, "
            f"phone energy {100 * errors['energy_ue_j']['mean']['relative']:+.1f}%"
        )
    if against_sim:
        console.print(f"picture: {folder / PICTURE}")


def fail(name: str, scenario: str, policy: str, seconds: float, seed: int, out: Path, overwrite: bool) -> None:
    """Live through a fault, and end with 1 where a task was lost or ended twice."""
    from edgebrush.evaluation.run_folder import new_folder
    from edgebrush.scenario.load import load_scenario
    from edgebrush.testbed.episode import draw_episode
    from edgebrush.testbed.faults import run_fault

    episode = draw_episode(load_scenario(scenario), seed, seconds)
    with new_folder(out, overwrite=overwrite) as folder:
        found = run_fault(name, scenario, episode, policy, folder)
    typer.echo(f"{name}: {found}; journals and logs: {out}")
    raise typer.Exit(int(found.lost > 0 or found.twice > 0))
