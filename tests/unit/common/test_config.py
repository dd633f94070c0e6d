"""The configuration: precedence, validation, and messages that say where, which key and what was expected."""

import subprocess
import sys
from pathlib import Path

import pytest
from aktis._common.config import AktisConfig, ConfigError, load_config
from aktis._common.config.docs import describe_settings
from aktis._common.config.load import env_name, is_local, leaf_types
from pydantic import ValidationError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "aktis.toml"
    path.write_text(text)
    return path


def problems(file: Path | None = None, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(file, environ=environ or {})
    return caught.value.problems


def test_flags_win_over_environment_over_file(tmp_path: Path) -> None:
    raylet = "[raylet]\nnum_cpus = 1\nnum_gpus = 1\nmemory_bytes = 1\n"
    file = write(tmp_path, f'[logging]\nlevel = "error"\n{raylet}')
    environ = {"AKTIS_RAYLET_NUM_CPUS": "2", "AKTIS_RAYLET_NUM_GPUS": "2"}
    loaded = load_config(file, environ=environ, flags={"raylet.num_cpus": 3, "raylet.memory_bytes": None})
    offered = loaded.config.raylet
    assert (offered.num_cpus, offered.num_gpus, offered.memory_bytes) == (3, 2, 1)
    assert loaded.config.logging.level == "error"
    assert loaded.origins["raylet.num_cpus"] == "flag raylet.num_cpus"
    assert loaded.origins["raylet.num_gpus"] == "environment AKTIS_RAYLET_NUM_GPUS"
    assert loaded.origins["raylet.memory_bytes"] == f"{file}:6"
    assert "raylet.resources" not in loaded.origins


def test_every_problem_is_named_with_its_place(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        '# comment\n[gcs]\nheartbeat_period_ms = "often"\n\n[raylet.workers]\nprestrat = 3\n'
        '[nonsense]\nx = 1\n[gcs.storage]\nkind = "paper"\n',
    )
    found = problems(file)
    assert f"{file}:3: gcs.heartbeat_period_ms: expected a valid integer, got 'often'" in found
    (misspelt,) = [
        text for text in found if text.startswith(f"{file}:6: raylet.workers.prestrat: unknown key")
    ]
    assert "expected one of: " in misspelt
    assert "prestart" in misspelt
    unknown = f"{file}:7: nonsense: unknown key; expected one of: cluster, core, gcs"
    assert any(text.startswith(unknown) for text in found)
    assert f"{file}:10: gcs.storage.kind: expected 'memory', 'sqlite' or 'redis', got 'paper'" in found
    assert len(found) == 4


def test_dotted_keys_have_their_line(tmp_path: Path) -> None:
    file = write(tmp_path, "[raylet]\nworkers.limit = 0\n")
    assert problems(file) == [f"{file}:2: raylet.workers.limit: expected greater than 0, got 0"]


def test_a_section_that_is_no_table_is_named(tmp_path: Path) -> None:
    file = write(tmp_path, "gcs = 7\n")
    (problem,) = problems(file, {"AKTIS_GCS_HEARTBEAT_PERIOD_MS": "5"})
    assert problem.startswith(f"{file}:1: gcs: expected")


def test_syntax_errors_have_their_line(tmp_path: Path) -> None:
    file = write(tmp_path, "[gcs]\nx = = 1\n")
    (problem,) = problems(file)
    assert problem.startswith(f"{file}:2: not valid TOML: ")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path / "absent.toml")
    assert problem == f"{tmp_path}/absent.toml: cannot be read (No such file or directory): " + (
        "pass a readable TOML file to --config"
    )
    file = tmp_path / "binary.toml"
    file.write_bytes(b"\xff\xfe")
    assert "not UTF-8 text" in problems(file)[0]


def test_unknown_variables_of_a_section_are_refused_others_are_not_ours() -> None:
    assert problems(environ={"AKTIS_RAYLET_NUM_CPU": "1"}) == [
        "environment AKTIS_RAYLET_NUM_CPU: no setting has this name: see `aktis config docs`"
    ]
    load_config(environ={"AKTIS_ADDRESS": "auto", "AKTIS_SOMETHING": "1", "RAYLET_NUM_CPU": "1"})


def test_variables_hold_lists_and_tables() -> None:
    config = load_config(
        environ={
            "AKTIS_GCS_LISTEN_ADDRESSES": "127.0.0.1:1, unix:/x/gcs.sock",
            "AKTIS_RAYLET_RESOURCES": '{ special = 2, "with space" = 0.5 }',
            "AKTIS_PLASMA_ALLOWED_UIDS": "[1, 2]",
            "AKTIS_PLASMA_POPULATE": "true",
            "AKTIS_GCS_STORAGE_KIND": "memory",
        }
    ).config
    assert config.gcs.listen_addresses == ("127.0.0.1:1", "unix:/x/gcs.sock")
    assert config.raylet.resources == {"special": 2.0, "with space": 0.5}
    assert config.plasma.allowed_uids == (1, 2)
    assert config.plasma.populate is True
    assert config.gcs.storage.kind == "memory"
    assert "expected a valid dictionary" in problems(environ={"AKTIS_RAYLET_RESOURCES": "special"})[0]


@pytest.mark.parametrize(
    ("text", "size_bytes"), [("4096", 4096), ("2 GiB", 2**31), ("1.5MiB", 3 * 2**19), ("10 kib", 10_240)]
)
def test_sizes(text: str, size_bytes: int) -> None:
    config = load_config(environ={"AKTIS_PLASMA_CAPACITY_BYTES": text}).config
    assert config.plasma.capacity_bytes == size_bytes


@pytest.mark.parametrize("text", ["", "GiB", "2 GB", "-1", "1.2.3 MiB"])
def test_wrong_sizes(text: str) -> None:
    (problem,) = problems(environ={"AKTIS_PLASMA_CAPACITY_BYTES": text})
    assert problem.startswith("environment AKTIS_PLASMA_CAPACITY_BYTES: plasma.capacity_bytes: expected ")


@pytest.mark.parametrize("address", ["nowhere", "host:", ":80", "host:70000", "unix:relative", "unix:/"])
def test_wrong_addresses(address: str) -> None:
    (problem,) = problems(environ={"AKTIS_RAYLET_GRPC_ADDRESS": address})
    assert 'expected an address: "unix:/path/to/socket" or "host:port"' in problem


@pytest.mark.parametrize(
    "name",
    [
        "GCS_METRICS_ADDRESS",
        "GCS_LISTEN_ADDRESSES",
        "RAYLET_LISTEN_ADDRESS",
        "RAYLET_GRPC_ADDRESS",
        "RAYLET_METRICS_ADDRESS",
        "PLASMA_LISTEN_ADDRESS",
        "PLASMA_GRPC_ADDRESS",
        "PLASMA_METRICS_ADDRESS",
    ],
)
def test_addresses_that_others_can_reach_need_a_decision(name: str) -> None:
    variable = f"AKTIS_{name}"
    (problem,) = problems(environ={variable: "0.0.0.0:1"})
    assert problem.startswith(f"environment {variable}: ")
    assert "use a loopback address or set security.insecure = true" in problem
    load_config(environ={variable: "0.0.0.0:1", "AKTIS_SECURITY_INSECURE": "true"})


def test_every_address_of_the_schema_is_checked_for_exposure() -> None:
    """A new address that the exposure check forgets fails here."""
    names = {key for key in leaf_types() if key[-1].startswith(("listen_", "grpc_", "metrics_"))}
    for key in names:
        assert "use a loopback address" in problems(environ={env_name(key): "0.0.0.0:1"})[0]


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("", True),
        ("unix:/x", True),
        ("127.0.0.1:1", True),
        ("127.3.2.1:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("example.org:1", False),
    ],
)
def test_is_local(address: str, local: bool) -> None:
    assert is_local(address) is local


def test_deadlines_must_be_in_order() -> None:
    (problem,) = problems(environ={"AKTIS_GCS_DEAD_AFTER_MS": "10"})
    assert "heartbeat_period_ms < suspect_after_ms < dead_after_ms, got 1000, 5000, 10" in problem
    (problem,) = problems(environ={"AKTIS_PLASMA_SLAB_MIN_BYTES": "1 GiB"})
    assert "at most plasma.slab_max_bytes" in problem


def test_values_do_not_change_after_the_start() -> None:
    config = load_config(environ={}).config
    with pytest.raises(ValidationError, match="frozen"):
        config.gcs.heartbeat_period_ms = 1


def test_layout_and_addresses_follow_the_session(tmp_path: Path) -> None:
    config = load_config(environ={}, flags={"paths.session_dir": str(tmp_path)}).config
    assert config.layout().run_dir == tmp_path / "run"
    assert config.token_file == tmp_path / "token"
    assert config.gcs_address == f"unix:{tmp_path}/gcs.sock"
    assert config.gcs_listen_addresses == (config.gcs_address,)
    assert config.raylet_address == f"unix:{tmp_path}/raylet.sock"
    assert config.raylet_grpc_address == f"unix:{tmp_path}/raylet-grpc.sock"
    assert config.plasma_address == f"unix:{tmp_path}/plasma.sock"
    assert config.plasma_grpc_address == f"unix:{tmp_path}/plasma-grpc.sock"


def test_single_directories_can_leave_the_session(tmp_path: Path) -> None:
    flags = {"paths.session_dir": str(tmp_path), "paths.log_dir": "/elsewhere"}
    layout = load_config(environ={}, flags=flags).config.layout()
    assert layout.log_dir == Path("/elsewhere")
    assert layout.state_dir == tmp_path / "state"


def test_system_layout_without_a_session() -> None:
    layout = AktisConfig().layout()
    assert layout.gcs_socket == Path("/run/aktis/gcs.sock")
    assert layout.state_dir == Path("/var/lib/aktis")


def test_every_setting_is_documented_and_has_its_variable() -> None:
    settings = describe_settings()
    assert {setting.key for setting in settings} == {".".join(key) for key in leaf_types()}
    assert all(setting.description for setting in settings)
    by_key = {setting.key: setting for setting in settings}
    assert by_key["gcs.storage.kind"].type == '"memory" or "sqlite" or "redis"'
    assert by_key["gcs.storage.kind"].default == '"sqlite"'
    assert by_key["raylet.num_cpus"].default == "automatic"
    assert by_key["raylet.workers.idle_timeout_s"].variable == "AKTIS_RAYLET_WORKERS_IDLE_TIMEOUT_S"
    variables = [setting.variable for setting in settings]
    assert len(set(variables)) == len(variables)


def test_the_client_does_not_import_pydantic_or_grpc() -> None:
    heavy = "{'pydantic', 'grpc', 'rich'}"
    code = f"import sys, aktis, aktis._embedded, aktis._find; print(sys.modules.keys() & {heavy})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
