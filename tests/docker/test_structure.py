"""What the compose files promise: hospitals apart, images read-only, no secret in sight, nobody root."""

import re
from itertools import combinations
from pathlib import Path

import pytest

from tests.docker.compose_file import DOCKER, ROOT, Service, in_order, read_compose, read_image_environment

HOSPITALS = ("north", "east", "south")
SECURE, INSECURE = DOCKER / "compose.yaml", DOCKER / "compose.insecure.yaml"
PUBLIC = {"from-coordinator", "from-hospitals"}  # what the mail would carry: a certificate, public keys


@pytest.fixture(scope="module")
def services() -> dict[str, Service]:
    return read_compose(SECURE, {})


def of_hospital(services: dict[str, Service], hospital: str) -> list[Service]:
    return [one for name, one in services.items() if name.partition("-")[0] == hospital]


def test_no_hospital_reaches_another_or_shares_a_volume_with_it(services: dict[str, Service]) -> None:
    for one, other in combinations(HOSPITALS, 2):
        for mine in of_hospital(services, one):
            for theirs in of_hospital(services, other):
                assert not mine.networks & theirs.networks, (mine.name, theirs.name)
                shared = {mount.source for mount in mine.mounts} & {mount.source for mount in theirs.mounts}
                assert shared <= PUBLIC, (mine.name, theirs.name)


def test_a_hospital_reaches_the_superlink_only_and_its_executor_not_even_that(services: dict[str, Service]) -> None:
    for hospital in HOSPITALS:
        own = {one.name for one in of_hospital(services, hospital)}
        reached = {
            name: {other.name for other in services.values() if other.networks & services[name].networks} - own
            for name in own
        }
        assert reached == {hospital: {"superlink"}, f"{hospital}-init": set(), f"{hospital}-executor": set()}


def test_every_network_is_internal_and_no_port_is_published(services: dict[str, Service]) -> None:
    text = SECURE.read_text(encoding="utf-8")
    block = text.split("\nnetworks:\n")[1].split("\n\n")[0]
    declared = dict(re.findall(r"^  ([\w-]+): (.*)$", block, flags=re.MULTILINE))
    used = frozenset[str]().union(*(one.networks for one in services.values()))
    assert declared.keys() == used and set(declared.values()) == {"{internal: true}"}
    assert [name for name, one in services.items() if one.raw.keys() & {"ports", "links", "extra_hosts"}] == []


def test_images_are_mounted_where_training_happens_only_and_read_only(services: dict[str, Service]) -> None:
    readers = {name: mount for name, one in services.items() for mount in one.mounts if mount.target == "/data"}
    assert {name for name, mount in readers.items() if mount.is_read_only} == {f"{one}-executor" for one in HOSPITALS}
    assert {name for name, mount in readers.items() if not mount.is_read_only} == {f"{one}-init" for one in HOSPITALS}


def test_a_hospitals_own_folder_takes_the_place_of_the_digits_and_nothing_writes_to_it() -> None:
    services = read_compose(SECURE, {"NORTH_IMAGES": "/srv/images"})
    mounts = [(name, mount) for name, one in services.items() for mount in one.mounts if mount.source == "/srv/images"]
    assert [(name, mount.is_read_only) for name, mount in mounts] == [("north-executor", True)]


def test_code_from_the_server_never_sees_a_key(services: dict[str, Service]) -> None:
    holders = {name for name, one in services.items() if any(mount.target == "/secrets" for mount in one.mounts)}
    assert holders == {"init", "superlink", *HOSPITALS, *(f"{one}-init" for one in HOSPITALS)}
    signers = [name for name, one in services.items() if any(mount.source == "authority" for mount in one.mounts)]
    assert signers == ["init"]


@pytest.mark.parametrize("path", [SECURE, INSECURE], ids=lambda path: path.name)
def test_no_environment_holds_a_secret(path: Path) -> None:
    for name, service in read_compose(path, {}).items():
        assert not {"env_file", "secrets", "configs"} & service.raw.keys(), name
        assert service.environment.keys() <= {"FL_APP_HEALTH", "OMP_NUM_THREADS"}, name


@pytest.mark.parametrize("path", [SECURE, INSECURE], ids=lambda path: path.name)
def test_every_service_has_a_health_check_or_is_a_job(path: Path) -> None:
    for name, service in read_compose(path, {}).items():
        assert service.is_job == (not service.health), name
        assert service.is_job or "FL_APP_HEALTH" in service.environment, name
        assert service.is_job or service.raw["restart"] == "unless-stopped", name


@pytest.mark.parametrize("path", [SECURE, INSECURE], ids=lambda path: path.name)
def test_nobody_is_root_gains_rights_or_writes_to_the_image(path: Path) -> None:
    for name, service in read_compose(path, {}).items():
        assert not {"user", "privileged", "cap_add", "devices", "pid"} & service.raw.keys(), name
        assert service.raw["cap_drop"] == ["ALL"] and service.raw["read_only"] is True, name
        assert service.raw["security_opt"] == ["no-new-privileges:true"], name


@pytest.mark.parametrize("path", [SECURE, INSECURE], ids=lambda path: path.name)
def test_what_a_service_waits_for_exists_and_can_happen(path: Path) -> None:
    services = read_compose(path, {})
    assert len(list(in_order(services))) == len(services)
    for name, service in services.items():
        for other, condition in service.waits_for.items():
            expected = "service_completed_successfully" if services[other].is_job else "service_healthy"
            assert condition == expected, (name, other)


@pytest.mark.parametrize("path", [SECURE, INSECURE], ids=lambda path: path.name)
def test_one_image_serves_all_and_one_service_builds_it(path: Path) -> None:
    services = read_compose(path, {})
    assert {service.raw["image"] for service in services.values()} == {"fl-app"}
    assert len([name for name, service in services.items() if "build" in service.raw]) == 1


@pytest.mark.parametrize("path", [SECURE, INSECURE], ids=lambda path: path.name)
def test_every_file_of_the_checkout_that_a_service_names_exists(path: Path) -> None:
    for name, service in read_compose(path, {}).items():
        for word in (*service.command, *service.health):
            if word.startswith("/app/"):
                assert (ROOT / word.removeprefix("/app/")).is_file(), (name, word)


def test_a_service_or_its_executor_has_every_folder_that_it_names(services: dict[str, Service]) -> None:
    for name, service in services.items():
        words = " ".join((*service.command, *service.environment.values()))
        named = {f"/{part}" for part in re.findall(r"(?<![\w.:/-])/([\w-]+)", words)} - {"/app"}
        pair = (service, services.get(f"{name}-executor", service))
        assert named <= {mount.target for one in pair for mount in one.mounts}, name


def test_only_the_file_that_says_so_turns_security_off() -> None:
    secure = read_compose(SECURE, {})
    insecure = [name for name, service in secure.items() if "--insecure" in service.command]
    assert insecure == [f"{one}-executor" for one in HOSPITALS]  # in a network of two, their own
    assert "--enable-supernode-auth" in secure["superlink"].command
    for hospital in HOSPITALS:
        assert "--auth-supernode-private-key" in secure[hospital].command
        assert "--superexec-auth-secret-file" in secure[hospital].command
    assert INSECURE.read_text(encoding="utf-8").startswith("# INSECURE")


def test_the_image_runs_as_a_user_and_installs_nothing_at_run_time() -> None:
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^USER (.*)$", text, flags=re.MULTILINE) == ["${UID}:${GID}"]
    assert re.search(r"^ARG UID=[1-9]", text, flags=re.MULTILINE)
    environment = read_image_environment(DOCKER / "Dockerfile")
    assert environment["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0" and environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"


def test_the_image_is_pinned_and_every_mount_point_has_an_owner(services: dict[str, Service]) -> None:
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    installs = [
        line for line in text.replace("\\\n", " ").splitlines() if line.startswith("RUN") and "pip install" in line
    ]
    assert installs and all("constraints.txt" in line or "--no-deps" in line for line in installs)
    owned = {path for line in re.findall(r"install -d .*", text) for path in re.findall(r" (/[\w-]+)", line)}
    assert {mount.target for service in services.values() for mount in service.mounts} == owned
