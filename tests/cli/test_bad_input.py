"""User errors: exit code 2, one line that names file, field, value and fix, no partial files."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import edgebrush
from edgebrush.cli.main import run
from edgebrush.profiles.catalogue import CATALOGUE

REQUEST = dict(
    name="any", share=1.0, delay_weight=1.0, energy_weight=0.5, quality_weight=1.0, bits_in=1e4, bits_out=1e6
)
SOUND = dict(
    name="mine",
    title="my world",
    horizon_s=100,
    decision=dict(step_grid=[4, 8, 15]),
    arrivals=dict(kind="poisson", rate_hz=0.1),
    requests=[REQUEST],
    contents=[dict(name="usual", share=1.0, difficulty=1.0)],
    ues=[dict(name="phone", count=2, profile="sd15-snapdragon-8-elite")],
    bss=[dict(name="library", count=2, profile="sdxl-a100")],
)
BURSTY = dict(kind="bursty", rate_hz=0.1)
TRACE = dict(kind="trace", file="trace.csv", rate_hz=0.1)
HEADER = "gmt_create,groupId,num_images_per_prompt\n"
LONG_ENOUGH = HEADER + "2024-11-15 16:00:00,G1,16\n2024-11-15 17:00:00,G2,8\n"

# The path of a field, its bad value (REMOVED: the field is deleted), and what the message must contain.
REMOVED = object()
FIELDS = {
    "unknown key": ("bss.0.bandwith_hz", 1e6, "bss.0.bandwith_hz: no such field"),
    "unknown key at the top": ("stepgrid", [1, 2], "stepgrid: no such field"),
    "missing field": ("requests.0.delay_weight", REMOVED, "requests.0.delay_weight: this field is missing"),
    "no arrivals": ("arrivals", REMOVED, "arrivals: this field is missing"),
    "negative bandwidth": ("bss.0.bandwidth_hz", -1, "bss.0.bandwidth_hz = -1: must be greater than 0"),
    "NaN": ("bss.0.power_w", float("nan"), "bss.0.power_w = nan: must be a finite number"),
    "infinite horizon": ("horizon_s", float("inf"), "horizon_s = inf: must be a finite number"),
    "infinite noise": (
        "radio",
        dict(noise_dbm_per_hz=float("inf")),
        "radio.noise_dbm_per_hz = inf: must be at most 300",
    ),
    "text for a number": ("horizon_s", "long", "horizon_s = 'long': must be a number"),
    "list for a number": ("horizon_s", [1], "horizon_s = [1]: must be a number"),
    "number for text": ("title", 5, "title = 5: must be text"),
    "half a UE": ("ues.0.count", 1.5, "ues.0.count = 1.5: must be a whole number"),
    "no UE": ("ues.0.count", 0, "ues.0.count = 0: must be at least 1"),
    "text for truth": ("decision.local", "perhaps", "decision.local = 'perhaps': must be true or false"),
    "number for a mapping": ("decision", 3, "decision = 3: must be a mapping of fields"),
    "mapping for a list": ("ues", dict(name="phone"), "ues: must be a list"),
    "step grid out of order": ("decision.step_grid", [8, 4], "step_grid [8, 4] must rise strictly; sort it"),
    "step grid with a repeat": ("decision.step_grid", [4, 4], "step_grid [4, 4] must rise strictly"),
    "empty step grid": ("decision.step_grid", [], "step_grid needs 1 to 32 entries"),
    "no steps": ("decision.step_grid", [0, 4], "decision.step_grid.0 = 0: must be at least 1"),
    "too many classes": ("decision.classes", 9, "decision.classes = 9: must be at most 4"),
    "nowhere to go": ("decision", dict(local=False, neighbours=0), "there is no place for a task"),
    "tiny slots": ("decision.interval_s", 1e-9, "interval_s = 1e-09 is too short; give 0 or at least 0.001"),
    "tiny broadcasts": ("broadcast_interval_s", 1e-9, "broadcast_interval_s = 1e-09 is too short"),
    "tiny coherence": ("radio", dict(coherence_s=1e-9), "radio.coherence_s = 1e-09: must be at least 0.001"),
    "shares below 1": ("requests.0.share", 0.5, "requests: the shares sum to 0.5; they must sum to 1"),
    "image shares": ("images_per_request", {1: 0.5, 2: 0.4}, "images_per_request: the shares sum to 0.9"),
    "no images": ("images_per_request", {0: 1.0}, "images_per_request.0"),
    "duplicate names": (
        "requests",
        [dict(REQUEST, share=0.5)] * 2,
        "requests repeats a name in ['any', 'any']",
    ),
    "no BS": ("bss", [], "bss is empty; give at least one entry"),
    "batch limit 0": ("bss.0.batch_limit", 0, "bss.0.batch_limit = 0: must be at least 1"),
    "few connections": ("bss.0.connection_limit", 2, "connection_limit 2 is below batch_limit 4"),
    "positions miscounted": ("bss.0.positions", [[1, 1]], "positions lists 1 places for count = 2"),
    "position of three": (
        "bss.0.positions",
        [[1, 1, 1], [2, 2]],
        "bss.0.positions.0 = [1, 1, 1]: must have at most 2",
    ),
    "battery reversed": (
        "ues.0.battery_level",
        [0.9, 0.1],
        "battery_level [0.9, 0.1] must be [lowest, highest]",
    ),
    "overfull battery": ("ues.0.battery_level", [0.1, 90], "ues.0.battery_level.1 = 90: must be at most 1"),
    "unknown arrivals": (
        "arrivals.kind",
        "weekly",
        "arrivals: kind must be one of 'poisson', 'bursty', 'trace'",
    ),
    "arrivals of no kind": ("arrivals", dict(rate_hz=1), "arrivals: kind is missing"),
    "calmer bursts": ("arrivals", dict(BURSTY, calm=2, burst=1), "calm = 2 is above burst = 1; swap them"),
    "unknown path loss": (
        "radio",
        dict(path_loss="free"),
        "path_loss = 'free': must be 'umi-street-canyon' or",
    ),
    "too many UEs": ("ues.0.count", 10**9, "ues.0.count = 1000000000: must be at most 20000"),
    "too many BSs": ("bss.0.count", 10**5, "bss.0.count = 100000: must be at most 1000"),
    "too many tasks": (
        "arrivals.rate_hz",
        1e9,
        "at most 10,000,000 are possible; lower rate_hz or horizon_s",
    ),
    "name with blanks": (
        "name",
        "My World",
        "name = 'My World': must be lower-case letters, digits and hyphens",
    ),
    "profile not there": ("ues.0.profile", "sd99", "ues.0.profile: profile 'sd99' not found"),
    "profile file not there": ("bss.0.profile", "my.json", "bss.0.profile: profile 'my.json' not found"),
    "light profile at a BS": ("bss.0.profile", "sd15-snapdragon-8-elite", "give a heavy model's profile"),
    "heavy profile on a phone": (
        "ues.0.profile",
        "sdxl-a100",
        "ues.0.profile = 'sdxl-a100': is a heavy model's",
    ),
    "trace not there": ("arrivals", TRACE, "trace.csv: trace cannot be read: No such file"),
}

# Files that are not scenarios.
FILES = {
    "broken YAML": (b"name: [mine", "not valid YAML"),
    "a tab": (b"name:\n\tmine", "not valid YAML"),
    "a list": (b"- name: mine", "a scenario must be a mapping of fields"),
    "empty": (b"", "a scenario must be a mapping of fields"),
    "not UTF-8": (b"name: caf\xe9", "not UTF-8 text"),
    "a program": (b"name: !!python/object/apply:os.system ['touch pwned']", "not valid YAML"),
    "a field twice": (b"name: mine\ntitle: mine\nname: yours", "field 'name' is given twice"),
    "a list called a mapping": (b"name: !!map [1, 2]", "not valid YAML"),
    "a list for a name": (b"? [1, 2]\n: mine", "not valid YAML"),
    "too many digits": (b"horizon_s: " + b"9" * 5000, "not valid YAML"),
    "too deep": (b"name: " + b"[" * 5000, "not valid YAML"),
    "no such day": (b"name: mine\ntitle: 2024-13-45", "not valid YAML: month must be in 1..12"),
    "a folder of its own": (
        b"name: mine\ndirectory: /tmp",
        "directory: no such field; file names are relative",
    ),
}

TRACES = {
    "empty trace": ("", "column 'gmt_create' is missing; a trace needs gmt_create, groupId"),
    "header alone": (HEADER, "holds 0 requests; a trace needs at least 2"),
    "missing column": (
        "gmt_create,groupId\n2024-11-15 16:00:00,G1\n",
        "column 'num_images_per_prompt' is missing",
    ),
    "bad time": (
        LONG_ENOUGH + "yesterday,G1,1\n",
        "line 4: gmt_create = 'yesterday' is not a time; write 2024-",
    ),
    "0 images": (
        LONG_ENOUGH + "2024-11-15 17:30:00,G1,0\n",
        "line 4: num_images_per_prompt = '0' must be a whole",
    ),
    "half an image": (LONG_ENOUGH + "2024-11-15 17:30:00,G1,0.5\n", "must be a whole number from 1 to 16"),
    "one moment": (HEADER + "2024-11-15 16:00:00,G1,1\n" * 3, "all requests have the same gmt_create"),
    "too short": (
        HEADER + "2024-11-15 16:00:00,G1,1\n2024-11-15 17:00:00,G2,1\n",
        "less than horizon_s = 100",
    ),
    "a short row": (
        HEADER + "2024-11-15 16:00:00\n2024-11-15 17:00:00,G2,1\n",
        "line 2: groupId is missing; a row needs gmt_create, groupId,",
    ),
}

PROFILES = {
    "without quality": (("quality", REMOVED), "quality: this field is missing; add it"),
    "negative seconds": (
        ("compute.round_slope_s", -0.1),
        "compute.round_slope_s = -0.1: must be greater than 0",
    ),
    "without a source": (("energy.source", ""), "energy.source = '': must not be empty"),
    "two points": (("quality.points", [dict(steps=4, quality=0.6)] * 2), "must have at least 3 entries"),
    "untrue error": (
        ("quality.error", 0.2),
        "quality: error = 0.2, but the curve misses its points by 0.0296",
    ),
    "unknown role": (("role", "medium"), "role = 'medium': must be 'light' or 'heavy'"),
}


def changed(content: dict, path: str, value) -> dict:
    """A deep copy in which the field at the dotted path is set, or removed."""
    content = copy.deepcopy(content)
    *way, last = (int(part) if part.isdigit() else part for part in path.split("."))
    place = content
    for part in way:
        place = place[part]
    if value is REMOVED:
        del place[last]
    else:
        place[last] = value
    return content


def refused(capsys, *arguments, says: str) -> str:
    """Asserts that the command exits with 2 and prints one line on stderr that contains ``says``; returns the line."""
    capsys.readouterr()
    code = run([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert code == 2, (code, out, err)
    assert out == ""
    assert err.startswith("error: ") and err.endswith("\n") and err.count("\n") == 1, err
    assert says in err
    assert "Traceback" not in err and "pydantic" not in err
    return err


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, content: dict | bytes) -> Path:
    path = folder / "mine.yaml"
    path.write_bytes(content if isinstance(content, bytes) else yaml.safe_dump(content, sort_keys=False).encode())
    return path


def check_refused(capsys, folder: Path, content: dict | bytes, says: str) -> None:
    """Asserts that a scenario file is refused, that the message names it, and that nothing is written beside it."""
    path = write(folder, content)
    before = sorted(folder.iterdir())
    assert str(folder) in refused(capsys, "scenarios", "check", path, says=says)
    assert sorted(folder.iterdir()) == before


def test_the_valid_scenario_is_accepted(folder, capsys):
    """Otherwise the refusals below would prove nothing."""
    (folder / "trace.csv").write_text(LONG_ENOUGH)
    for content in (SOUND, changed(SOUND, "arrivals", BURSTY), changed(SOUND, "arrivals", TRACE)):
        assert run(["scenarios", "check", str(write(folder, content))]) == 0
        out, err = capsys.readouterr()
        assert "2 UEs, 2 BSs, offered load" in out and err == ""


@pytest.mark.parametrize("case", FIELDS)
def test_bad_field(case, folder, capsys):
    path, value, says = FIELDS[case]
    check_refused(capsys, folder, changed(SOUND, path, value), says)


@pytest.mark.parametrize("case", FILES)
def test_bad_file(case, folder, capsys):
    content, says = FILES[case]
    check_refused(capsys, folder, content, says)
    assert not Path("pwned").exists()


@pytest.mark.parametrize("case", TRACES)
def test_bad_trace(case, folder, capsys):
    text, says = TRACES[case]
    (folder / "trace.csv").write_text(text)
    check_refused(capsys, folder, changed(SOUND, "arrivals", TRACE), says)


def test_trace_that_is_no_text(folder, capsys):
    (folder / "trace.csv").write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff")
    check_refused(capsys, folder, changed(SOUND, "arrivals", TRACE), "trace.csv: not a CSV file in UTF-8")


@pytest.mark.parametrize("case", PROFILES)
def test_bad_profile(case, folder, capsys):
    change, says = PROFILES[case]
    profile = json.loads((CATALOGUE / "sdxl-a100.json").read_text())
    (folder / "my.json").write_text(json.dumps(changed(profile, *change)))
    check_refused(capsys, folder, changed(SOUND, "bss.0.profile", "my.json"), says)
    refused(capsys, "profiles", "show", "my.json", says=says)


def test_profile_of_broken_json(folder, capsys):
    (folder / "my.json").write_text('{"name": "my"')
    check_refused(capsys, folder, changed(SOUND, "bss.0.profile", "my.json"), "'my.json': not valid JSON")


def test_light_profile_that_batches(folder, capsys):
    profile = json.loads((CATALOGUE / "sd15-snapdragon-8-elite.json").read_text())
    (folder / "my.json").write_text(json.dumps(changed(profile, "compute.round_intercept_s", 0.1)))
    check_refused(capsys, folder, changed(SOUND, "ues.0.profile", "my.json"), "a light model runs one task at a time")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["scenarios", "check", "nowhere"],
            "scenario 'nowhere' does not exist; give a .yaml file or one of: campus",
        ),
        (["scenarios", "check", "nowhere.yaml"], "scenario 'nowhere.yaml' does not exist"),
        (["scenarios", "show", "nowhere"], "scenario 'nowhere' does not exist"),
        (["scenarios", "check", "."], "scenario '.' does not exist"),
        (["scenarios", "check", "folder.yaml"], "scenario 'folder.yaml' is a folder; give a .yaml file"),
        (["scenarios", "check"], "Missing argument 'SCENARIO'; see `edgebrush scenarios check --help`"),
        (["scenarios", "check", "campus", "more"], "see `edgebrush scenarios check --help`"),
        (["profiles", "show", "nothing"], "profile 'nothing' not found; give a .json file or one of: "),
        (["profiles", "show", "folder.json"], "profile 'folder.json' cannot be read: Is a directory"),
        (["profiles", "--plot", "picture.doc"], "plot = 'picture.doc': must end in .png, .pdf, .svg"),
        (
            ["profiles", "--plot", "nowhere/picture.png"],
            "nowhere/picture.png: cannot be written: No such file",
        ),
        (["profiles", "--plot", "file/picture.png"], "file/picture.png: cannot be written: Not a directory"),
        (["profiles", "--plot", "folder.png"], "folder.png: cannot be written: "),
        # Here belong compare, train, evaluate, report, tune: a policy for other shapes, a locked folder.
        (["--verbose"], "No such option: --verbose"),
        (["paint"], "No such command 'paint'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_arguments(arguments, says, folder, capsys):
    for name in ("folder.yaml", "folder.json", "folder.png"):
        (folder / name).mkdir()
    (folder / "file").touch()
    before = sorted(folder.rglob("*"))
    refused(capsys, *arguments, says=says)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_is_not_writable(folder, capsys):
    (folder / "locked").mkdir(mode=0o500)
    refused(capsys, "profiles", "--plot", "locked/picture.png", says="cannot be written: Permission denied")


@pytest.mark.process
def test_the_command_as_a_process(folder):
    """The real process: exit code and one line, in a narrow terminal too."""
    path = write(folder, changed(SOUND, "bss.0.bandwidth_hz", -1))
    done = subprocess.run(
        [sys.executable, "-m", "edgebrush.cli.main", "scenarios", "check", path],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "COLUMNS": "40", "PYTHONPATH": str(Path(edgebrush.__file__).parents[1])},
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"error: {path}: bss.0.bandwidth_hz = -1: must be greater than 0\n"
