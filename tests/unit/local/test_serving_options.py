"""`irisloop serve`: Triton's options become serving's settings; what has no effect, or cannot be honoured, is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from services.local.cli.app import app, run
from services.local.cli.serving import _with_free_ports
from services.local.cli.triton import NO_EFFECT, OFF_ONLY, settings_of, unknown_options
from services.local.errors import LocalError
from services.serving.settings import ServingSettings

FOLDER = {"model_repository": ["/models"]}


def settings(**options: Any) -> dict[str, Any]:
    return settings_of({**FOLDER, **options})


def test_a_folder_alone_leaves_the_rest_to_the_environment() -> None:
    assert settings() == {
        "model_repository": "/models",
        "standalone": True,
        "direct_events": False,
    }


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"model_control_mode": "poll", "repository_poll_secs": 5}, {"model_control": "poll", "poll_s": 5}),
        (
            {"model_control_mode": "explicit", "load_model": ["a", "b"]},
            {"model_control": "explicit", "load_models": ("a", "b")},
        ),
        ({"model_config_name": "large"}, {"model_config_name": "large"}),
        ({"strict_readiness": "true"}, {"strict_readiness": True}),
        ({"strict_readiness": "0"}, {"strict_readiness": False}),
        ({"exit_on_error": "False"}, {"exit_on_error": False}),
        ({"strict_model_config": "on"}, {"strict_config": True}),
        ({"strict_model_config": "off"}, {"strict_config": False}),
        ({"disable_auto_complete_config": True}, {"strict_config": True}),
        ({"backend_config": ["default-max-batch-size=16"]}, {"default_max_batch": 16}),
        ({"backend_config": ["onnxruntime,default-max-batch-size=2", "x,y=z"]}, {"default_max_batch": 2}),
        ({"http_port": 1, "grpc_port": 2, "metrics_port": 3}, {"http_port": 1, "grpc_port": 2, "metrics_port": 3}),
        ({"http_address": "::", "grpc_address": "::"}, {"host": "::"}),
        ({"allow_metrics": "false", "metrics_port": 3}, {"metrics_port": None}),
        ({"allow_client_shm": "false"}, {"shared_memory": False}),
        ({"http_max_input_size": 1024}, {"max_request_mb": 1}),
        ({"http_max_input_size": (5 << 20) + 1}, {"max_request_mb": 6}),
        ({"http_max_input_size": 1 << 40}, {"max_request_mb": 2047}),
        ({"log_verbose": 1}, {"common": {"log_level": "DEBUG"}}),
        ({"transport": "pygrpc", "events": True}, {"transport": "pygrpc", "direct_events": True, "standalone": False}),
        (
            {"grpc_restricted_protocol": ["health,metadata:key=secret"]},
            {"grpc_restricted": ("health,metadata:key=secret",)},
        ),
        ({"http_restricted_api": ["inference:key=a=b"]}, {"http_restricted": ("inference:key=a=b",)}),
    ],
)
def test_an_option_becomes_its_setting(options: dict[str, Any], expected: dict[str, Any]) -> None:
    found = settings(**options)
    assert {name: found[name] for name in expected} == expected
    taken = ServingSettings(**found)
    assert set(found) <= set(ServingSettings.model_fields)
    assert {name: getattr(taken, name) for name in expected if name != "common"} == {
        name: value for name, value in expected.items() if name != "common"
    }


def test_what_is_not_given_is_not_set() -> None:
    given = settings(log_verbose=0, http_port=None, backend_config=["tensorflow,version=2"], allow_metrics="true")
    assert set(given) == set(settings())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"model_repository": []}, "Say which models: --model-repository DIR"),
        ({"model_repository": ["a", "b"]}, "given twice"),
        ({"model_control_mode": "auto"}, "one of none, poll, explicit"),
        ({"load_model": ["a"]}, "--load-model needs --model-control-mode explicit"),
        ({"repository_poll_secs": 0}, "--repository-poll-secs is 0"),
        ({"strict_readiness": "yes"}, "--strict-readiness is 'yes'; true or false is needed"),
        ({"backend_config": ["default-max-batch-size=many"]}, "is 'many'; a whole number is needed"),
        ({"http_address": "0.0.0.0", "grpc_address": "127.0.0.1"}, "0.0.0.0 and 127.0.0.1 differ"),
        ({"allow_http": "false"}, "--allow-http false cannot be honoured"),
        ({"allow_grpc": "0"}, "--allow-grpc false cannot be honoured"),
        ({"transport": "http3"}, "one of grpcio, pygrpc"),
        ({"grpc_restricted_protocol": ["health"]}, r"'health' is not API\[,API...\]:KEY=VALUE"),
        ({"grpc_restricted_protocol": [":key=value"]}, "is not API"),
        ({"grpc_use_ssl": "true"}, "TLS needs --grpc-server-cert"),
        ({"grpc_server_cert": "c"}, "Certificates are given, but not --grpc-use-ssl true"),
    ],
)
def test_what_cannot_be_honoured_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(LocalError, match=sentence):
        settings_of({**FOLDER, **options})


def pems(folder: Path) -> dict[str, str]:
    names = ("grpc_server_cert", "grpc_server_key", "grpc_root_cert")
    for name in names:
        (folder / name).write_text("pem")
    return {name: str(folder / name) for name in names}


def test_tls_is_set_from_files_that_are_there(tmp_path: Path) -> None:
    files = pems(tmp_path)
    mutual = settings(grpc_use_ssl_mutual="true", **files)
    assert mutual["tls_certificate"] == tmp_path / "grpc_server_cert"
    assert mutual["tls_client_ca"] == tmp_path / "grpc_root_cert"
    assert "tls_client_ca" not in settings(grpc_use_ssl="true", **files)
    with pytest.raises(LocalError, match="--grpc-use-ssl-mutual needs --grpc-root-cert"):
        settings(grpc_use_ssl_mutual="true", **{**files, "grpc_root_cert": None})
    with pytest.raises(LocalError, match="pygrpc has no TLS"):
        settings(grpc_use_ssl="true", transport="pygrpc", **files)
    (tmp_path / "grpc_server_key").unlink()
    with pytest.raises(LocalError, match="grpc_server_key is no file"):
        settings(grpc_use_ssl="true", **files)


@pytest.mark.parametrize("name", [*NO_EFFECT, *OFF_ONLY])
def test_each_of_tritons_other_options_has_a_sentence(name: str) -> None:
    if name in OFF_ONLY:
        assert unknown_options([f"--{name}=false"]) == []
        with pytest.raises(LocalError, match=f"--{name} cannot be honoured"):
            unknown_options([f"--{name}", "true"])
    else:
        assert unknown_options([f"--{name}", "1"]) == unknown_options([f"--{name}=1"])
        assert unknown_options([f"--{name}", "1"])[0].startswith(f"--{name} has no effect: ")


@pytest.mark.parametrize("words", [["--bogus=1"], ["stray"], ["--cache-config", "local,size=1", "stray"]])
def test_what_is_no_option_at_all_is_refused(words: list[str]) -> None:
    with pytest.raises(LocalError, match=r"irisloop serve"):
        unknown_options(words)


def test_a_port_in_use_is_changed_for_a_free_one() -> None:
    import socket

    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        chosen = _with_free_ports({"http_port": port, "grpc_port": port, "metrics_port": None})
    assert port not in (chosen["http_port"], chosen["grpc_port"])
    assert chosen["http_port"] != chosen["grpc_port"]
    assert chosen["metrics_port"] is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["serve"], "Say which models: --model-repository DIR"),
        (["serve", "--model-store", "/m", "--bogus"], "--bogus is not an option of `irisloop serve`"),
        (["serve", "--model-repository=/m", "--strict-readiness=maybe"], "--strict-readiness is 'maybe'"),
        (["serve", "--model-repository", "/m", "--allow-vertex-ai", "true"], "there is no Vertex AI endpoint"),
    ],
)
def test_the_command_says_what_was_asked_wrongly(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_the_command_reads_options_as_triton_does() -> None:
    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    words = ["--model-store=/m", "--model-control-mode=explicit", "--load-model=a", "--load-model", "b"]
    context = command.make_context("serve", [*words, "--cache-config", "local,size=1", "--grpc-port", "9001"])
    assert settings_of(context.params) == {
        "model_repository": "/m",
        "model_control": "explicit",
        "load_models": ("a", "b"),
        "grpc_port": 9001,
        "standalone": True,
        "direct_events": False,
    }
    assert len(unknown_options(context.args)) == 1
