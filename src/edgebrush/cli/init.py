"""`edgebrush init`: ask image servers, measure them and their links, and write a scenario."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from edgebrush.fitting.fleet import Fleet

EPILOG = """\
edgebrush init http://127.0.0.1:8001 http://127.0.0.1:8002    two servers: asked, measured, written to fleet.yaml

edgebrush init large=http://10.0.0.5:8000 small=http://10.0.0.6:8000 --ues 20 --device sd15-snapdragon-8-gen-3

edgebrush init large=https://10.0.0.5:8000 --profile large=heavy.json --station-token-env TOKEN --ca-file ca.pem

Then `edgebrush compare fleet.yaml` trains a policy, and `edgebrush ue fleet.yaml --policy ...` uses it.

docs/fitting.md states what is measured, how, and what is assumed.
"""


def init(
    url: Annotated[
        list[str], typer.Argument(metavar="[NAME=]URL", help="Address of an image server: http://HOST:PORT.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="File for the scenario (.yaml).")] = Path("fleet.yaml"),
    name: Annotated[str | None, typer.Option(help="Name of the scenario.", show_default="that of the file")] = None,
    profile: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=PROFILE",
            help="Profile of a station, repeatable: a name or a .json file of `edgebrush profile`. "
            "Default: the nearest of the catalogue.",
        ),
    ] = [],  # noqa: B006
    device: Annotated[
        str | None,
        typer.Option(
            metavar="PROFILE",
            help="Profile of the UEs' own model: a name or a .json file.",
            show_default="a light one of the stations' image size",
        ),
    ] = None,
    ues: Annotated[int, typer.Option(min=1, max=20_000, help="Number of UEs.")] = 4,
    steps: Annotated[
        str, typer.Option(metavar="FEW,MORE", help="The two step counts whose service time is measured.")
    ] = "4,12",
    prompt: Annotated[str, typer.Option(help="Prompt of the measured images.")] = "sneaker",
    size: Annotated[
        int | None,
        typer.Option(min=1, max=8192, help="Side of the images in pixels.", show_default="the given profile's, or 512"),
    ] = None,
    station_token_env: Annotated[
        str | None, typer.Option(metavar="VAR", help="Send the bearer token in this environment variable.")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also trust the CA certificates in this PEM file.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a scenario from servers that run: ask them, measure their links and service times.

    Each server gets some requests without a prompt (1.2 MB at most), which it refuses, and makes three images. What
    cannot be measured is assumed, marked in the file, and printed.
    """
    import asyncio

    from rich.console import Console

    from edgebrush.api.schema import MAX_STEPS
    from edgebrush.errors import UserError
    from edgebrush.files import write_text
    from edgebrush.fitting.fleet import describe_fleet
    from edgebrush.fitting.servers import Measurement, measure_servers, named_urls
    from edgebrush.fitting.stations import check_profiles, image_sizes_px
    from edgebrush.scenario.load import load_scenario

    from .options import check_new_file, parse_list, scenario_name

    check_new_file(out, (".yaml", ".yml"), overwrite)
    title = scenario_name(name, out)
    urls = named_urls(url)
    profiles = dict(each.partition("=")[::2] for each in profile)
    check_profiles(urls, profiles, device)
    counts = parse_list("steps", steps)
    if len(counts) != 2 or not 1 <= counts[0] < counts[1] <= MAX_STEPS:
        raise UserError(f"steps = {steps!r}: give two step counts from 1 to {MAX_STEPS}, for example 4,12")
    console = Console(stderr=True, highlight=False)

    def on_server(name: str, url: str) -> None:
        console.print(f"measuring {name}: {url}", markup=False, soft_wrap=True)

    measurement = Measurement(prompt, (counts[0], counts[1]), station_token_env, ca_file, on_server=on_server)
    servers = asyncio.run(measure_servers(urls, image_sizes_px(urls, profiles, size), measurement))
    fleet = describe_fleet(servers, title, out.parent, profiles, device, ues)
    write_text(out, fleet.text)
    load_scenario(out)

    output = Console(highlight=False, markup=False)  # names of models come from the servers
    output.print(station_table(fleet))
    output.print("\nAssumed, not measured (edit the file):")
    for line in fleet.assumptions:
        output.print(f"- {line}")
    output.print(f"\n{out}: try `edgebrush scenarios check {out}`, then `edgebrush compare {out}`", soft_wrap=True)


def station_table(fleet: Fleet) -> Table:
    """One row per station: what it is, its link, its service times, and the profile that describes it."""
    from rich.table import Table

    steps = list(fleet.stations[0].server.service_s)
    table = Table(title="Measured", title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("station", style="cyan", overflow="fold")
    for header in ("kind", "model"):
        table.add_column(header, overflow="fold")
    for header in ("px", "round trip s", "up Mb/s", "down Mb/s", *(f"{each} steps s" for each in steps), "speed"):
        table.add_column(header, justify="right", overflow="fold")
    table.add_column("profile", overflow="fold")
    for station in fleet.stations:
        server, link = station.server, station.server.link
        down = f"{link.down_bps / 1e6:.3g}" if link.down_measured else ""
        seconds = [f"{server.service_s[each]:.3g}" for each in steps]
        link_cells = [f"{link.round_trip_s:.2g}", f"{link.up_bps / 1e6:.3g}", down]
        cells = [server.name, server.endpoint.kind, server.model, str(server.image_px), *link_cells, *seconds]
        table.add_row(*cells, f"{station.speed:.3g}", station.reference)
    return table
