"""Every command of the engineers' guide runs, from top to bottom, in real processes on tiny pipelines.

The test writes its own values into the page's block of settings, and edits the scenario where the page says so. It
changes nothing else.
"""

import base64
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from string import Template

import pytest
import yaml
from PIL import Image
from typer.main import get_command

from edgebrush.cli.main import app
from edgebrush.policies.load import load_policy
from edgebrush.scenario.load import load_scenario
from tests.support.processes import ENVIRONMENT, free_port

PAGE = (Path(__file__).parents[1] / "docs" / "engineers.md").read_text()
SETTINGS, *BLOCKS = re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
TINY = {
    "HEAVY": "heavy",
    "LIGHT": "light",
    "CLIP": "clip",
    "HEAVY_ON": "--device cpu",
    "LIGHT_ON": "--device cpu --dtype float32",
    "HEAVY_POWER": "--watts 65",
    "LIGHT_POWER": "--watts 5",
    "MEASURING": "--samples 20 --steps 1,2,4 --batches 1,4,16",
    "TRAINING": "--decisions 10000 --seeds 1 --episodes 2",
    "PROVING": "--seconds 5",
    "PROMPT": "a b c",
}


EDITS = (  # of what is assumed: short episodes, few requests, slow devices, so that the stations get work
    "s/^horizon_s: 300 /horizon_s: 20 /",
    "s/^  rate_hz: .*/  rate_hz: 1/",
    "s/profile: light.json}/profile: light.json, speed: 0.02}/",
)


def edgebrush_commands(script):
    """The arguments of every `edgebrush` in a script without variables."""
    for line in script.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["edgebrush"]:
            yield [word for word in words[1:] if word != "&"]


def test_every_verb_and_option_of_the_page_exists():
    settings = dict(word.partition("=")[::2] for word in shlex.split(SETTINGS, comments=True))
    script = Template("\n".join(BLOCKS)).safe_substitute(settings)
    verbs, found = get_command(app).commands, []
    for verb, *arguments in edgebrush_commands(script):
        command = verbs[verb]
        if isinstance(command, type(get_command(app))):
            command, arguments = command.commands[arguments[0]], arguments[1:]
        parser = command.make_parser(command.make_context(verb, [], resilient_parsing=True))
        parser.parse_args(arguments)  # raises NoSuchOption
        found.append(verb)
    assert len(found) >= 12
    assert {"profile", "serve", "init", "ue", "compare", "testbed", "journal", "fit-scenario"} <= set(found)


def script_of(blocks, settings):
    """A script that runs the blocks and stops at the first command that fails; it prints the seconds of each block."""
    lines = ["set -euo pipefail", *(f"{name}={shlex.quote(value)}" for name, value in settings.items())]
    for number, block in enumerate(blocks):
        lines += [f"echo '== block {number}'", "SECONDS=0", block, f'echo "== block {number}: $SECONDS s"']
        if "edgebrush init" in block:
            lines.append(f"sed -i '{'; '.join(EDITS)}' fleet.yaml")
    return "\n".join(lines)


def run_page(folder, blocks):
    """Run blocks of the page in a folder, and stop what they started; returns what they printed."""
    pytest.importorskip("torch")
    pytest.importorskip("torchmetrics")
    from tests.support.pipelines import save_clip, save_standard_size

    save_standard_size(folder, "heavy", 1)
    save_standard_size(folder, "light", 2)
    save_clip(folder / "clip")
    ports = {f"{name}_PORT": str(free_port()) for name in ("LARGE", "SMALL", "AGENT")}
    named = [word.partition("=")[0] for word in shlex.split(SETTINGS, comments=True)]
    assert named == [*TINY, *ports], "the page has other settings than the test"
    environment = ENVIRONMENT | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = ["bash", "-c", script_of(blocks, TINY | ports)]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        code = process.wait(1500)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        time.sleep(2)  # stations and agent end
    printed = (folder / "log").read_text()
    print(*re.findall(r"^== .* s$", printed, re.MULTILINE), sep="\n")
    assert code == 0, printed[-5000:]
    return printed


@pytest.mark.process
@pytest.mark.diffusers
@pytest.mark.slow
def test_the_whole_page(tmp_path):
    printed = run_page(tmp_path, BLOCKS)
    assert (tmp_path / "light.png").stat().st_size > 10_000
    assert re.search(r"^large +edgebrush +yes", printed, re.MULTILINE)
    assert "fleet.yaml: valid; 4 UEs, 2 BSs" in printed and "edgebrush_ue_decision_steps_count" in printed
    proof = json.loads((tmp_path / "runs" / "proof" / "results.json").read_text())
    assert {name: played["lost"] + played["twice"] for name, played in proof["testbed"]["rounds"].items()} == {
        "mappo": 0,
        "selfish-greedy": 0,
    }
    assert re.search(r"^kill-bs: .*journals and logs: runs/fault", printed, re.MULTILINE)
    (image,) = json.loads((tmp_path / "reply.json").read_text())["data"]
    assert Image.open(io.BytesIO(base64.b64decode(image["b64_json"]))).size == (256, 256)
    fitted = yaml.safe_load((tmp_path / "fitted.yaml").read_text())
    assert fitted["arrivals"]["rate_hz"] != 1  # the requests of the page, not the assumed ones
    results = json.loads((tmp_path / "runs" / "fitted" / "results.json").read_text())
    assert {"old", "mappo", "priced-greedy"} <= set(results["policies"])
    retrained = tmp_path / "runs" / "fitted" / "policies" / "mappo" / "seed-1"
    assert load_policy(retrained, load_scenario(str(tmp_path / "fitted.yaml"))).name == "mappo"
