"""What travels with a job to another machine, and what comes back."""

import pickle

import pytest

from edgebrush.jobs import keys
from edgebrush.jobs.transfer import Parcel, read_contents, write_contents
from edgebrush.profiles.catalogue import CATALOGUE
from edgebrush.study.jobs import PlayJob, TuningJob
from edgebrush.tuning.cmaes import Budget
from tests.support.study import tiny_training


@pytest.fixture
def own(tiny, tmp_path):
    """A scenario with a profile and a trace of its own, in folders below its file's."""
    home = tmp_path / "home"
    (home / "profiles").mkdir(parents=True)
    profile = tiny.bss[0].profile
    (home / "profiles" / "own.json").write_bytes((CATALOGUE / f"{profile}.json").read_bytes())
    rows = [f"2024-11-15 16:{m:02d}:{s:02d},user-{(m * 7 + s) % 9},1" for m in range(40) for s in (3, 17, 41)]
    (home / "trace.csv").write_text("\n".join(["gmt_create,groupId,num_images_per_prompt", *rows]))
    fields = tiny.model_dump() | {
        "bss": [bs.model_dump() | {"profile": "profiles/own.json"} for bs in tiny.bss],
        "arrivals": {"kind": "trace", "file": "trace.csv", "rate_hz": 0.1},
    }
    return type(tiny).model_validate(fields | {"directory": home})


def test_a_parcel_holds_all_that_its_job_reads(own, tmp_path):
    training = tiny_training(own, tmp_path / "cache")
    write_contents(training.policy, {"policy.json": b"{}", "actor.safetensors": b"weights"})
    play = PlayJob(own, "mappo", training, 4, tmp_path / "cache")
    parcel = pickle.loads(pickle.dumps(Parcel.of(play)))
    (tmp_path / "home").rename(tmp_path / "elsewhere")
    (tmp_path / "cache").rename(tmp_path / "not-here")
    there = parcel.unpack(tmp_path / "worker")
    assert there.path == tmp_path / "worker" / "cache" / "plays" / play.path.name
    assert (there.source.policy / "actor.safetensors").read_bytes() == b"weights"
    scenario = there.scenario
    assert scenario.directory == tmp_path / "worker" / "scenario"
    assert sorted(read_contents(scenario.directory)) == ["profiles/own.json", "trace.csv"]
    assert keys.contents_key(scenario) == keys.contents_key(there.source.scenario)


def test_an_unfinished_training_travels_with_its_checkpoint(tiny, tmp_path):
    training = tiny_training(tiny, tmp_path / "cache")
    write_contents(training.path, {"checkpoint/seed-1.npz": b"half"})
    there = Parcel.of(training).unpack(tmp_path / "worker")
    assert read_contents(there.path) == {"checkpoint/seed-1.npz": b"half"}
    finished = {"curve.csv": b"a,b", "seed-1/policy.json": b"{}"}
    write_contents(training.path, finished)
    assert read_contents(training.path) == finished and training.done  # nothing of the checkpoint is left
    assert [path.name for path in training.path.parent.iterdir()] == [training.path.name]


def test_a_machine_on_which_the_job_is_another_one_refuses_it(tiny, tmp_path, monkeypatch):
    parcel = Parcel.of(TuningJob(tiny, "priced-greedy", Budget(16, 2), tmp_path))
    monkeypatch.setattr(keys, "FORMAT", keys.FORMAT + 1)
    parcel = pickle.loads(pickle.dumps(parcel))
    with pytest.raises(RuntimeError, match="another version of edgebrush"):
        parcel.unpack(tmp_path / "worker")


def test_a_file_is_written_as_it_was_read(tmp_path):
    (tmp_path / "a.json").write_text("1")
    write_contents(tmp_path / "deep" / "b.json", read_contents(tmp_path / "a.json"))
    assert (tmp_path / "deep" / "b.json").read_text() == "1"
    assert read_contents(tmp_path / "missing") == {}
    write_contents(tmp_path / "nothing", {})
    assert not (tmp_path / "nothing").exists()
