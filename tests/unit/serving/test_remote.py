"""A model on another server: how it is named, what is handed on, and what its errors become here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from services.common.errors import IrisloopError, Transient
from services.serving.domain.work import PLAIN, Arrays, Asked, SequenceMark
from services.serving.errors import BadPackage, BadRequest, InferenceFailed, NotReady, Overloaded
from services.serving.outbound.backends.remote import Remote, RemoteBackend, Settings
from tests.contract.backend_houses import RemoteHouse, config_of

CODE = grpc.StatusCode


@pytest.fixture
def house(tmp_path: Path) -> Iterator[RemoteHouse]:
    """A server with the model `identity` of FP32."""
    found = RemoteHouse(tmp_path)
    found.service.configs["identity"] = config_of("identity", "FP32")
    yield found
    found.close()


def started(house: RemoteHouse, **parameters: str) -> RemoteBackend:
    remote = Remote.of("identity", {"address": house.address, **parameters})
    return remote.start(config_of("identity", "FP32"))


def run(backend: RemoteBackend, asked: Asked = PLAIN) -> Arrays:
    ((outputs, _),) = backend.run({"IN": np.array([[1, 2]], np.float32)}, asked)
    return outputs


def test_tensors_and_the_servers_name_come_from_the_remote(house: RemoteHouse) -> None:
    remote = Remote.of("here", {"address": house.address, "model_name": "identity"})
    inputs, outputs = remote.tensors()
    assert [(one.name, one.datatype, one.shape) for one in (*inputs, *outputs)] == [
        ("IN", "FP32", (-1, -1)),
        ("OUT", "FP32", (-1, -1)),
    ]
    assert remote.placement == f"toy 0.1 at {house.address}"


def test_a_request_goes_to_the_model_and_version_that_are_named_with_all_it_asks(house: RemoteHouse) -> None:
    backend = started(house, model_name="identity", model_version="3")
    asked = Asked(2, 500, SequenceMark("s", start=True), {"sequence_id": "s", "key": "v", "number": 4, "priority": 2})
    run(backend, asked)
    (request,) = house.service.requests
    parameters = {
        name: getattr(value, value.WhichOneof("parameter_choice") or "") for name, value in request.parameters.items()
    }
    assert (request.model_name, request.model_version) == ("identity", "3")
    assert parameters == {
        "sequence_id": "s",
        "sequence_start": True,
        "sequence_end": False,
        "priority": 2,
        "timeout": 500,
        "key": "v",
        "number": 4,
    }
    backend.close()


def test_typed_answers_are_read_too(house: RemoteHouse) -> None:
    house.service.typed = True
    backend = started(house)
    assert run(backend)["OUT"].tolist() == [[1, 2]]
    backend.close()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (CODE.UNAVAILABLE, Transient),
        (CODE.DEADLINE_EXCEEDED, Transient),
        (CODE.RESOURCE_EXHAUSTED, Overloaded),
        (CODE.INVALID_ARGUMENT, BadRequest),
        (CODE.NOT_FOUND, NotReady),
        (CODE.INTERNAL, InferenceFailed),
        (CODE.UNIMPLEMENTED, InferenceFailed),
        (CODE.PERMISSION_DENIED, InferenceFailed),
    ],
)
def test_each_status_of_the_remote_is_an_error_of_ours_that_names_it(
    house: RemoteHouse, code: grpc.StatusCode, expected: type[IrisloopError]
) -> None:
    backend = started(house)
    house.service.hook = lambda context: context.abort(code, "for this\nreason")
    with pytest.raises(IrisloopError) as caught:
        run(backend)
    assert type(caught.value) is expected
    assert str(caught.value) == f"The remote {house.address} says: for this reason"
    house.service.hook = lambda context: None
    assert run(backend)["OUT"].shape == (1, 2)
    backend.close()


def test_a_remote_that_does_not_answer_in_time_may_be_tried_again(house: RemoteHouse) -> None:
    backend = started(house, timeout_s="0.05")

    def stuck(context: grpc.ServicerContext) -> None:
        while context.is_active():
            pass

    house.service.hook = stuck
    with pytest.raises(Transient) as caught:
        run(backend)
    assert caught.value.reason == "REMOTE_DEADLINE_EXCEEDED"
    backend.close()


def test_a_remote_that_went_away_may_be_tried_again(house: RemoteHouse) -> None:
    backend = started(house)
    house.close()
    with pytest.raises(Transient) as caught:
        run(backend)
    assert caught.value.reason == "REMOTE_UNAVAILABLE"
    backend.close()


def test_loading_waits_for_a_remote_that_is_away_and_refuses_one_without_the_model(house: RemoteHouse) -> None:
    with pytest.raises(BadPackage, match="unknown model: 'nobody'"):
        Remote.of("nobody", {"address": house.address})
    house.close()
    with pytest.raises(Transient):
        Remote.of("identity", {"address": house.address})


def test_a_configuration_that_asks_for_more_than_the_remote_does_is_refused(house: RemoteHouse) -> None:
    remote = Remote.of("identity", {"address": house.address})
    with pytest.raises(BadPackage, match="max_batch_size of model 'identity' is 9, and the remote takes 8"):
        remote.start(replace(config_of("identity", "FP32"), max_batch_size=9))
    with pytest.raises(BadPackage, match="decoupled of model 'identity' is True, and that of the remote False"):
        remote.start(replace(config_of("identity", "FP32"), decoupled=True))


def test_an_output_that_the_remote_does_not_give_is_said(house: RemoteHouse) -> None:
    config = config_of("identity", "FP32")
    more = replace(config, outputs=(*config.outputs, replace(config.outputs[0], name="MORE")))
    backend = Remote.of("identity", {"address": house.address}).start(more)
    with pytest.raises(InferenceFailed, match="gave no output 'MORE'"):
        run(backend)
    backend.close()


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({}, "'address' must be host:port, got ''"),
        ({"address": "nowhere"}, "'address' must be host:port, got 'nowhere'"),
        ({"address": "a:1", "adress": "b:2"}, "'adress' is not known; address, model_name"),
        ({"address": "a:1", "timeout_s": "soon"}, "'timeout_s' must be seconds above 0, got 'soon'"),
        ({"address": "a:1", "timeout_s": "-1"}, "'timeout_s' must be seconds above 0"),
        ({"address": "a:1", "tls_private_key": "key.pem"}, "'tls_private_key' must be the absolute path of a PEM file"),
        (
            {"address": "a:1", "tls_root_certificates": "/no/ca.pem"},
            "'tls_root_certificates' must be the absolute path",
        ),
    ],
)
def test_parameters_that_cannot_be_meant_are_named(parameters: dict[str, str], sentence: str) -> None:
    with pytest.raises(BadPackage, match=sentence):
        Settings.of("m", parameters)


def test_certificates_switch_tls_on(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("")
    found = Settings.of("m", {"address": "a:1", "tls_root_certificates": str(ca)})
    assert (found.tls, found.root_certificates, found.model, found.timeout_s) == (True, str(ca), "m", 60.0)
    assert Settings.of("m", {"address": "a:1", "tls": "true"}).tls
    assert not Settings.of("m", {"address": "a:1"}).tls


def served_by_tls(tmp_path: Path) -> tuple[Any, str, str]:
    """A server with a certificate of its own: (server, address, certificate file)."""
    from tests.unit.serving.certificates import self_signed

    key, certificate = self_signed()
    path = tmp_path / "ca.pem"
    path.write_bytes(certificate)
    house = RemoteHouse(tmp_path, grpc.ssl_server_credentials([(key, certificate)]))
    return house, house.address, str(path)


def test_a_remote_behind_tls_is_reached_with_its_certificate_and_not_without(tmp_path: Path) -> None:
    house, address, certificate = served_by_tls(tmp_path)
    house.service.configs["identity"] = config_of("identity", "FP32")
    remote = Remote.of("identity", {"address": address, "tls_root_certificates": certificate})
    backend = remote.start(config_of("identity", "FP32"))
    assert run(backend)["OUT"].tolist() == [[1, 2]]
    backend.close()
    with pytest.raises(Transient):
        Remote.of("identity", {"address": address})
    house.close()
