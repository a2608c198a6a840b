"""`edgebrush ue`: the agent of a UE (a phone), which decides where each image is generated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgebrush.errors import UserError
from edgebrush.journal import KEEP_DAYS, KEEP_TASKS

from .completion import complete_policy
from .models import DeviceOption, DtypeOption, GuidanceOption, PipelineOption, open_model, open_pipeline
from .options import (
    OWN_CODE,
    AllowHostOption,
    AllowOriginOption,
    LogFormatOption,
    LogLevelOption,
    ScenarioArgument,
    TracesOption,
)
from .ue_check import check_stations

if TYPE_CHECKING:
    from edgebrush.diffusion.backend import Backend

GRACE_S = 10.0  # for open requests to finish after SIGTERM; the rest stays in the journal
EPILOG = """\
edgebrush serve --name large --port 8001 & edgebrush serve --name small --port 8002 &    two base stations

edgebrush ue testbed --station large=http://127.0.0.1:8001 --station small=http://127.0.0.1:8002

curl -s localhost:8100/v1/images/generations -H 'content-type: application/json' -d '{"prompt": "sneaker"}'

TOKEN=... edgebrush ue testbed --station large=https://10.0.0.5:8000 --station-token-env TOKEN --ca-file ca.pem

edgebrush ue --check mine.yaml    what each station takes and ignores, and what a request costs; code 1 if one fails

edgebrush ue testbed --ue 3 --policy runs/mine/policies/mappo/seed-1 --paced --tasks tasks.csv

The agent's address in a browser shows its places and last decisions; /metrics is for Prometheus.

docs/agent.md describes the API, the journal, what happens when a base station fails, and how to use other servers.
"""


def ue(
    scenario: ScenarioArgument,
    number: Annotated[int, typer.Option("--ue", min=1, help="Number of the UE in the scenario, from 1.")] = 1,
    policy: Annotated[
        str,
        typer.Option(help=f"Name of a rule, folder of a trained policy; {OWN_CODE}", autocompletion=complete_policy),
    ] = "priced-greedy",
    station: Annotated[
        list[str],
        typer.Option(metavar="NAME=URL", help="Address of a base station of the scenario; repeatable."),
    ] = [],  # noqa: B006
    station_token_env: Annotated[
        str | None,
        typer.Option(
            metavar="VAR", help="Send the bearer token in this environment variable to the stations of --station."
        ),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also trust the CA certificates in this PEM file (https:// stations)."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port for tasks; 0 chooses a free one.")] = 8100,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    allow_host: AllowHostOption = [],  # noqa: B006
    allow_origin: AllowOriginOption = [],  # noqa: B006
    journal: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for the record of every task; a restart finishes the open ones.",
            show_default="ue-N",
        ),
    ] = None,
    keep_tasks: Annotated[
        int, typer.Option(min=1, help="Ended tasks that the journal keeps, with their images.")
    ] = KEEP_TASKS,
    keep_days: Annotated[
        float, typer.Option(min=0.0, max=36_500.0, help="Days that the journal keeps an ended task.")
    ] = KEEP_DAYS,
    tasks: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Run the tasks in a CSV (at_s, prompt, request, seed) instead of listening."),
    ] = None,
    model: Annotated[
        str, typer.Option(help="Model on the UE's own device: light, heavy, or the folder of a model.")
    ] = "light",
    pipeline: PipelineOption = None,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = None,
    guidance: GuidanceOption = None,
    paced: Annotated[
        bool, typer.Option("--paced", help="Slow the own device down to its speed in the scenario.")
    ] = False,
    battery: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Battery level at the start.", show_default="the scenario's mean"),
    ] = None,
    log_format: LogFormatOption = "text",
    log_level: LogLevelOption = "warning",
    traces: TracesOption = False,
    check: Annotated[
        bool, typer.Option("--check", help="Ask every station for its load and three images, print a table, and exit.")
    ] = False,
    check_prompt: Annotated[
        str, typer.Option(metavar="TEXT", help="Prompt of the images of --check; for some models, a class.")
    ] = "sneaker",
    check_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the table of --check to a .csv or .json file.")
    ] = None,
) -> None:
    """Run the agent of a UE: the policy decides for each image whether the UE or a base station generates it."""
    import asyncio

    from edgebrush.agent.app import create_app
    from edgebrush.agent.build import build_agent
    from edgebrush.agent.task_file import read_task_file, run_task_file
    from edgebrush.api.server import Address, Server, run
    from edgebrush.logs import configure_logging
    from edgebrush.scenario.load import load_scenario
    from edgebrush.traces import start_traces

    configure_logging(log_format, log_level)
    if traces:
        start_traces("edgebrush-agent", f"ue-{number}")
    if check_file is not None and not check:
        raise UserError("check-file is given without --check; add it")
    urls = dict(each.partition("=")[::2] for each in station)
    loaded = load_scenario(scenario)
    if check:
        raise typer.Exit(0 if check_stations(loaded, urls, check_prompt, ca_file, station_token_env, check_file) else 1)
    backend: Backend
    if pipeline is None:
        backend = open_model(model, device, dtype, threads=1, guidance=guidance)
    else:
        backend = open_pipeline(pipeline, device, dtype, threads=1, guidance=guidance)
        typer.echo(f"own device: {backend.name} on {backend.device}: guidance {backend.guidance:g}", err=True)
    agent = build_agent(
        loaded,
        number,
        policy,
        urls,
        journal or Path(f"ue-{number}"),
        ca_file=ca_file,
        token_env=station_token_env,
        backend=backend,
        paced=paced,
        battery_level=battery,
        keep_tasks=keep_tasks,
        keep_days=keep_days,
    )

    if tasks is not None:
        ended = asyncio.run(run_task_file(agent, read_task_file(tasks, loaded)))
        images = sum(each.image is not None for each in ended)
        typer.echo(f"{images} images, {len(ended) - images} errors: {agent.journal.folder}")
        return

    def ready() -> None:
        typer.echo(f"ue {number} of {loaded.name} accepts tasks at {server.url}, journal {agent.journal.folder}")

    address = Address(host, port, allowed_hosts=tuple(allow_host), allowed_origins=tuple(allow_origin))
    server = Server(create_app(agent), address, GRACE_S, ready, lambda: None)
    run(server)
