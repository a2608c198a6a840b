"""Time of a decision on a UE, and memory and start-up time of the agent's process.

    python benchmarks/decision.py                    testbed and campus, half a minute
    python benchmarks/decision.py --quick            the same in seconds, to see that it runs
    python benchmarks/decision.py --policy DIR --scenario testbed     a trained policy's own weights

A decision covers everything between a task's arrival and its dispatch: read the own queue and the last load reports,
build the observation (decision/observation.py as plain Python), call the policy, and build the journal's reason. Every
decision has another random state. The actor's weights are random unless --policy is given: its time does not depend on
them. Wall-clock time includes waiting for a busy core; the thread's processor time does not. Both are shown. Memory and
start-up time are of fresh processes. Tables are printed, and written to --out together with the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command line has it

import numpy as np

from edgebrush.agent.agent import Agent
from edgebrush.agent.build import build_agent
from edgebrush.decision.action_space import ActionSpace
from edgebrush.decision.observation import LoadReport
from edgebrush.files import check_writable, write_csv, write_text
from edgebrush.machine import processor_name
from edgebrush.policies.actor import Actor, input_size, output_size
from edgebrush.policies.load import load_policy
from edgebrush.policies.protocol import Policy
from edgebrush.scenario.expand import bs_names
from edgebrush.scenario.load import load_scenario

HIDDEN = 64  # of MAPPO's actor
RULES = ("selfish-greedy", "priced-greedy")
WARM_UP = 50

AGENT_CODE = """
import time; start = time.perf_counter()
import sys, tempfile
from pathlib import Path
from edgebrush.agent import app
from edgebrush.api import server
from edgebrush.agent.build import build_agent
from edgebrush.agent.observer import Observer, OwnQueue
from edgebrush.policies.load import load_policy
from edgebrush.scenario.load import load_scenario
imported_s = time.perf_counter() - start
import numpy as np
scenario = load_scenario("{scenario}")
if {with_model}:
    agent = build_agent(scenario, 1, "priced-greedy", {{}}, Path(tempfile.mkdtemp()))
    agent.decide(agent.observer.task_context(scenario.requests[0].name, "", 0.0))
else:
    observer = Observer(scenario, 0, 1.0)
    policy = load_policy("priced-greedy", scenario)
    classes = observer.layout.action_space.classes
    context = observer.task_context(scenario.requests[0].name, "", 0.0)
    policy.choose(observer.observe(context, OwnQueue(0.0, 0, [0.0] * classes), [], 0.0)[None], np.array([0.5]))
ready_s = time.perf_counter() - start
print(imported_s, ready_s)
sys.stdout.flush()
sys.stdin.read()
"""


@dataclass(frozen=True)
class DecisionTime:
    """Percentiles of a decision in ms, of wall-clock time and of the thread's processor time (cpu)."""

    scenario: str
    choices: int
    policy: str
    decisions: int
    p50_ms: float
    p99_ms: float
    cpu_p50_ms: float
    cpu_p99_ms: float


@dataclass(frozen=True)
class Footprint:
    """Resident memory of an agent's process after its first decision, and the seconds from its start until then."""

    scenario: str
    process: str
    memory_mb: float
    import_s: float
    ready_s: float


def random_actor(space: ActionSpace, bs_count: int) -> Actor:
    """An actor of MAPPO's size with random weights."""
    rng = np.random.default_rng(1)
    inputs, outputs = input_size(space), output_size(space)

    def matrix(rows: int, columns: int) -> np.ndarray:
        return (rng.standard_normal((rows, columns)) / rows**0.5).astype(np.float32)

    weights = {
        "w_in": matrix(inputs, HIDDEN),
        "w_embed": matrix(HIDDEN, HIDDEN),
        "w_self": matrix(HIDDEN, HIDDEN),
        "w_mean": matrix(HIDDEN, HIDDEN),
        "w_out": matrix(HIDDEN, outputs),
        "scale": np.ones(inputs, np.float32),
        "b_out": np.zeros(outputs, np.float32),
        "prices": np.full(bs_count, 0.3, np.float32),
        "growth": np.full(bs_count, 0.05, np.float32),
    }
    weights |= {name: np.zeros(HIDDEN, np.float32) for name in ("b_in", "b_embed", "b_mix")}
    names = ("price_own", "growth_own", "in_flight", "wait_factor", "log_kappa", "log_urgency", "class_slope")
    weights |= {name: np.array(1.0, np.float32) for name in names}
    return Actor("actor", weights, space)


def randomize(agent: Agent, rng: np.random.Generator) -> None:
    """Set a random state: the BSs' last load reports, their age, and the links' rates."""
    for station in agent.stations:
        classes, view = station.classes, station.view
        waiting = rng.integers(0, 4, classes).tolist()
        running = int(rng.integers(0, station.server.batch_limit + 1))
        steps = [10 * each for each in waiting]
        view.load = LoadReport(
            agent.clock() - rng.random(), running, 8 * running, running + sum(waiting), waiting, steps
        )
        view.up_bps, view.down_bps = 1e6 * rng.random(2) + 1e5


def time_decisions(agent: Agent, policy: Policy, decisions: int) -> DecisionTime:
    """Time complete decisions of one policy, each in another random state."""
    rng = np.random.default_rng(2)
    agent.policy, requests = policy, agent.observer.scenario.requests
    wall, cpu = np.zeros(decisions), np.zeros(decisions)
    for n in range(-WARM_UP, decisions):
        randomize(agent, rng)
        context = agent.observer.task_context(requests[rng.integers(len(requests))].name, "", agent.clock())
        wall_start, cpu_start = time.perf_counter(), time.thread_time()
        agent.decide(context)
        if n >= 0:
            cpu[n], wall[n] = time.thread_time() - cpu_start, time.perf_counter() - wall_start
    percentiles = [float(1000 * np.percentile(each, q)) for each in (wall, cpu) for q in (50, 99)]
    choices = agent.observer.layout.action_space.count
    return DecisionTime(agent.observer.scenario.name, choices, policy.name, decisions, *percentiles)


def footprint(scenario: str, with_model: bool) -> Footprint:
    """Measure a fresh process, by /proc."""
    code = AGENT_CODE.format(scenario=scenario, with_model=with_model)
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        import_s, ready_s = map(float, process.stdout.readline().split())
        status = Path(f"/proc/{process.pid}/status").read_text()
        resident_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        process.communicate()
    name = "agent and its model" if with_model else "agent without its model"
    return Footprint(scenario, name, resident_kb * 1024 / 1e6, import_s, ready_s)


def table(rows: list) -> str:
    """Rows of one dataclass as a Markdown table."""
    names = list(asdict(rows[0]))
    lines = [names, ["---"] * len(names)]
    for row in rows:
        lines.append([f"{each:.3f}" if isinstance(each, float) else str(each) for each in asdict(row).values()])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", action="append", help="a preset or a .yaml file; may be repeated")
    parser.add_argument("--policy", action="append", default=[], help="a trained policy's folder")
    parser.add_argument("--decisions", type=int, default=10_000, help="per scenario and policy")
    parser.add_argument("--quick", action="store_true", help="few decisions")
    parser.add_argument("--out", type=Path, default=Path("docs/results/decision"))
    options = parser.parse_args()
    decisions = 200 if options.quick else options.decisions
    times, footprints = [], []
    for name in options.scenario or ("testbed", "campus"):
        scenario = load_scenario(name)
        urls = {bs: "http://127.0.0.1:9" for bs in bs_names(scenario)[: scenario.decision.neighbours]}
        with tempfile.TemporaryDirectory() as journal:
            agent = build_agent(scenario, 1, "selfish-greedy", urls, Path(journal))
            policies = [load_policy(each, scenario) for each in (*RULES, *options.policy)]
            if not options.policy:
                policies.append(random_actor(agent.observer.layout.action_space, scenario.bs_count))
            times += [time_decisions(agent, policy, decisions) for policy in policies]
            agent.device.close()
        footprints += [footprint(name, with_model) for with_model in (False, True)]
    load = os.getloadavg()[0]
    print(f"{processor_name()}, {os.cpu_count()} cores, Python {platform.python_version()}, load average {load:.1f}\n")
    print(table(times))
    print(table(footprints))
    check_writable(options.out)
    write_csv(options.out / "decisions.csv", [asdict(row) for row in times])
    write_csv(options.out / "footprint.csv", [asdict(row) for row in footprints])
    about = {
        "command": " ".join(["python", "benchmarks/decision.py", *sys.argv[1:]]),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "load_average": load,
    }
    write_text(options.out / "machine.json", json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    main()
