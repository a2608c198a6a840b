"""deploy/ against the program: command lines, ports, probes, names and secrets of compose, systemd and Kubernetes."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from urllib.parse import urlsplit

import pytest

from tests.support.agents import PreferSlots, make_agent
from tests.support.deployment import DEPLOY, panels, parse_command, read_yaml
from tests.support.serving import make_station

ROOT = DEPLOY.parent
(COMPOSE,) = read_yaml("compose.yaml")
OURS = {name: each for name, each in COMPOSE["services"].items() if each["image"] == "edgebrush"}
STATEFUL_SETS = {
    each["metadata"]["name"]: each
    for name in ("stations.yaml", "agent.yaml")
    for each in read_yaml(f"kubernetes/{name}")
    if each["kind"] == "StatefulSet"
}
UNITS = {name: (DEPLOY / "systemd" / f"edgebrush-{name}.service").read_text() for name in ("serve", "ue")}
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def container(stateful_set):
    (only,) = stateful_set["spec"]["template"]["spec"]["containers"]
    return only


def routes(verb, tmp_path):
    """The paths that a station or an agent serves."""
    if verb == "serve":
        from edgebrush.serving.app import create_app

        return {route.path for route in create_app(make_station()).routes}
    from edgebrush.agent.app import create_app

    agent = make_agent(tmp_path, PreferSlots(0), {})
    try:
        return {route.path for route in create_app(agent).routes}
    finally:
        agent.device.close()
        agent.journal.close()


# -- compose


@pytest.mark.parametrize("name", OURS)
def test_compose_commands_are_valid_and_answer_to_their_services_names(name):
    options = parse_command(OURS[name]["command"])
    assert options["host"] == "0.0.0.0" and name in options["allow_host"]
    assert options["log_format"] == "json"
    token = options.get("token_env") or options["station_token_env"]
    assert COMPOSE["services"][name]["environment"][token].startswith(f"${{{token}:?"), "a missing token is an error"


def test_compose_stations_are_those_of_the_agents_scenario():
    for station in parse_command(OURS["agent"]["command"])["station"]:
        name, _, url = station.partition("=")
        options = parse_command(OURS[name]["command"])
        assert (options["name"], urlsplit(url).hostname, urlsplit(url).port) == (name, name, options["port"])


@pytest.mark.parametrize("name", OURS)
def test_compose_healthchecks_ask_a_route_that_exists(name, tmp_path):
    code = OURS[name]["healthcheck"]["test"][-1]
    ast.parse(code)
    url = urlsplit(re.search(r"'(http[^']+)'", code)[1])
    verb = OURS[name]["command"][0]
    assert url.path in routes(verb, tmp_path) and url.port == parse_command(OURS[name]["command"])["port"]


def test_compose_publishes_loopback_ports_alone():
    published = {name: each.get("ports", []) for name, each in COMPOSE["services"].items()}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert not published["large"] and not published["small"]


def test_compose_mounts_what_exists_and_keeps_what_is_written():
    volumes = set(COMPOSE["volumes"])
    for service in COMPOSE["services"].values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert source in volumes or (source.startswith("./") and (DEPLOY / source).exists()), mount
    journal = parse_command(OURS["agent"]["command"])["journal"]
    assert any(str(journal).startswith(mount.split(":")[1]) for mount in OURS["agent"]["volumes"])


def test_the_example_environment_names_every_secret():
    needed = set(re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yaml").read_text()))
    example = (DEPLOY / "env.example").read_text()
    assert needed == set(re.findall(r"^(\w+)=$", example, re.MULTILINE))


def test_prometheus_reaches_the_targets_under_their_names():
    (config,) = read_yaml("prometheus/prometheus.yml")
    for job in config["scrape_configs"]:
        for target in (target for each in job["static_configs"] for target in each["targets"]):
            name, _, port = target.partition(":")
            options = parse_command(OURS[name]["command"])
            assert name in options["allow_host"] and int(port) == options["port"]
            assert (job["job_name"] == "edgebrush-stations") == (OURS[name]["command"][0] == "serve")
    assert config["rule_files"] == ["recording.yml", "alerts.yml"]


def test_grafana_finds_its_data_source_and_its_dashboard():
    (source,), (provider,) = read_yaml("grafana/datasource.yaml"), read_yaml("grafana/provider.yaml")
    (prometheus,) = source["datasources"]
    assert urlsplit(prometheus["url"]).hostname in COMPOSE["services"]
    folder = provider["providers"][0]["options"]["path"]
    assert any(f":{folder}/edgebrush.json:" in mount for mount in COMPOSE["services"]["grafana"]["volumes"])
    uses = {panel["datasource"]["uid"] for panel in panels()} | {
        target["datasource"]["uid"] for panel in panels() for target in panel["targets"]
    }
    assert uses == {"${datasource}"} and prometheus["uid"] == "prometheus"


def test_the_image_has_the_targets_and_extras_that_are_used():
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    targets = set(re.findall(r"^FROM \S+ AS ([\w-]+)$", dockerfile, re.MULTILINE))
    assert {"cpu", "cuda", *(each["build"]["target"] for each in OURS.values())} <= targets
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r'"\.\[(\w+)\]"', dockerfile)) == {"otel", "diffusers"} <= set(extras)
    ignored = (ROOT / ".dockerignore").read_text().split()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
    assert all((ROOT / name).exists() and f"!{name}" in ignored for line in copied for name in line.split())


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*")), ids=lambda path: str(path.relative_to(DEPLOY)))
def test_images_are_named_without_a_registry(path):
    if path.is_file():
        text = path.read_text()
        for image in re.findall(r"^\s*(?:- )?(?:image:|FROM) *(\S+)", text, re.MULTILINE):
            assert "." not in image.split("/")[0] or "/" not in image, image


# -- Kubernetes


@pytest.mark.parametrize("name", STATEFUL_SETS)
def test_kubernetes_commands_ports_and_probes_are_those_of_the_program(name, tmp_path):
    each = container(STATEFUL_SETS[name])
    options = parse_command(each["args"])
    (port,) = each["ports"]
    assert options["host"] == "0.0.0.0" and port["containerPort"] == options["port"]
    paths = routes(each["args"][0], tmp_path)
    for probe in PROBES:
        get = each[probe]["httpGet"]
        assert get["port"] == port["name"] and get["path"] in paths
    assert each["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert each["readinessProbe"]["httpGet"]["path"] == "/readyz"
    token = options.get("token_env") or options["station_token_env"]
    (variable,) = [variable for variable in each["env"] if variable["name"] == token]
    assert "secretKeyRef" in variable["valueFrom"]


@pytest.mark.parametrize("name", STATEFUL_SETS)
def test_kubernetes_pods_are_locked_down(name):
    pod, each = STATEFUL_SETS[name]["spec"]["template"]["spec"], container(STATEFUL_SETS[name])
    assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
    locked = each["securityContext"]
    assert locked["readOnlyRootFilesystem"] and not locked["allowPrivilegeEscalation"]
    assert locked["capabilities"] == {"drop": ["ALL"]} and each["resources"]["limits"]["memory"]


@pytest.mark.parametrize("file", ["stations.yaml", "agent.yaml"])
def test_kubernetes_selectors_and_services_find_the_pods(file):
    documents = read_yaml(f"kubernetes/{file}")
    by_kind = {each["kind"]: each for each in documents}
    stateful_set, service = by_kind["StatefulSet"], by_kind["Service"]
    labels = stateful_set["spec"]["template"]["metadata"]["labels"]
    assert stateful_set["spec"]["selector"]["matchLabels"] == labels == service["spec"]["selector"]
    assert stateful_set["spec"]["serviceName"] == service["metadata"]["name"]
    (port,) = service["spec"]["ports"]
    assert port["targetPort"] == port["name"] == container(stateful_set)["ports"][0]["name"]
    assert port["port"] == container(stateful_set)["ports"][0]["containerPort"]
    (monitor,) = read_yaml("kubernetes/monitoring.yaml")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == port["name"]
    (config,) = read_yaml("prometheus/prometheus.yml")
    assert service["metadata"]["name"] in {job["job_name"] for job in config["scrape_configs"]}, "the operator's job"


def test_the_kubernetes_agents_stations_exist_and_answer_to_their_names():
    stations = STATEFUL_SETS["station"]
    service = stations["spec"]["serviceName"]
    allowed = parse_command(container(stations)["args"])["allow_host"]
    pods = [f"station-{number}" for number in range(stations["spec"]["replicas"])]
    urls = [each.partition("=")[2] for each in parse_command(container(STATEFUL_SETS["agent"])["args"])["station"]]
    assert [urlsplit(url).hostname for url in urls] == [f"{pod}.{service}" for pod in pods]
    assert allowed == [f"$(POD_NAME).{service}"]
    agent = container(STATEFUL_SETS["agent"])
    journal = str(parse_command(agent["args"])["journal"])
    assert any(journal.startswith(mount["mountPath"]) for mount in agent["volumeMounts"])


# -- systemd


def command_of(verb):
    """The arguments in a unit, with the options of the example environment."""
    line = re.search(r"^ExecStart=(.+)$", UNITS[verb], re.MULTILINE)[1]
    environment = dict(re.findall(r"^(\w+)=(.*)$", (DEPLOY / "systemd" / f"{verb}.env").read_text(), re.MULTILINE))
    for name, value in environment.items():
        line = line.replace(f"${name}", value)
    assert "$" not in line
    return shlex.split(line)[1:]


@pytest.mark.parametrize("verb", UNITS)
def test_the_units_commands_are_valid(verb):
    arguments = command_of(verb)
    options = parse_command(arguments)
    assert arguments[0] == verb and options["host"] == "127.0.0.1"
    token = options.get("token_env") or options["station_token_env"]
    assert f"\n{token}=\n" in (DEPLOY / "systemd" / f"{verb}.env").read_text()
    assert f"EnvironmentFile=/etc/edgebrush/{verb}.env\n" in UNITS[verb]


def test_the_unit_of_an_agent_keeps_its_journal_in_its_state_directory():
    assert "\nStateDirectory=edgebrush-ue\n" in UNITS["ue"]
    assert str(parse_command(command_of("ue"))["journal"]) == "%S/edgebrush-ue"


@pytest.mark.parametrize("verb", UNITS)
def test_the_units_are_hardened(verb):
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "DynamicUser=yes", "CapabilityBoundingSet="):
        assert f"\n{line}\n" in UNITS[verb]


@pytest.mark.process
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("verb", UNITS)
def test_systemd_accepts_the_units(verb, tmp_path):
    unit = tmp_path / f"edgebrush-{verb}.service"
    unit.write_text(UNITS[verb].replace("/opt/edgebrush/bin/edgebrush", shutil.which("true")))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True)
    assert done.returncode == 0 and unit.name not in done.stderr, done.stderr
    secure = ["systemd-analyze", "security", "--offline=yes", "--threshold=25", str(unit)]  # of 100; 0 is best
    done = subprocess.run(secure, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def compose_command():
    """Docker compose, as a plugin or as a program of its own; None where there is neither."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    plugin = ["docker", "compose"]
    found = shutil.which("docker") and not subprocess.run([*plugin, "version"], capture_output=True).returncode
    return plugin if found else None


@pytest.mark.process
def test_docker_compose_accepts_the_file_and_misses_each_secret():
    compose = compose_command()
    if compose is None:
        pytest.skip("needs docker compose")
    secrets = {"EDGEBRUSH_TOKEN": "t", "GRAFANA_PASSWORD": "p"}
    for missing in ("", *secrets):
        environment = {name: value for name, value in {**os.environ, **secrets}.items() if name != missing}
        command = [*compose, "-f", str(DEPLOY / "compose.yaml"), "config", "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert bool(done.stderr) == bool(missing) and missing in done.stderr, done.stderr
