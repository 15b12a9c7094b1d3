"""irisloop models: what is live, for which cameras, who decided it, and the way back."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from services.common.errors import NotFound, Unavailable
from services.local.cli import models_rollout
from services.local.cli.session import (
    Session,
    ask_registry,
    complain,
    console,
    open_session,
    show_json,
    show_table,
    wait_for,
)
from services.local.errors import LocalError

app = typer.Typer(help="Models: list, bind, roll out, promote, roll back, approve, history.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="The model's name.")]
Version = Annotated[str, typer.Argument(help="A version (3) or an alias (challenger).")]
Reason = Annotated[str, typer.Option(help="Why; kept in the history.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List models, their versions and aliases, and the cameras they are bound to."""
    models = wait_for(_list(open_session()))
    if as_json:
        show_json(models)
        return
    rows = [
        (
            m["model"],
            m["dataset"],
            " ".join(f"{a}={v}" for a, v in m["aliases"].items()),
            m["rollout"],
            m["versions"],
            m["bound"],
        )
        for m in models
    ]
    show_table(("model", "dataset", "aliases", "rollout", "versions", "bound to"), rows, "No model is registered yet.")


@app.command("bind")
def bind(
    model: Name,
    camera: Annotated[list[str] | None, typer.Option("--camera", help="Camera ids with * and ?; repeat it.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="name=value that a camera must have.")] = None,
    role: Annotated[str, typer.Option(help="The alias that predicts: champion, shadow, ...")] = "champion",
    remove: Annotated[bool, typer.Option("--remove", help="Take the binding away.")] = False,
) -> None:
    """Have a model predict every frame of matching cameras."""
    wait_for(_bind(open_session(), model, role, camera or [], _pairs(tag or []), remove=remove))
    console().print(f"{model} ({role}) is {'no longer bound' if remove else 'bound'}.")
    if not remove and not wait_for(_has_alias(open_session(), model, role)):
        complain(f"model {model} has no {role} yet: nothing is predicted until it has; see `irisloop models list`")


@app.command("promote")
def promote(
    model: Name,
    version: Version,
    reason: Reason = "promoted from the command line",
    force: Annotated[bool, typer.Option("--force", help="Although the gates refused it; recorded as such.")] = False,
) -> None:
    """Make a version the champion."""
    from irisloop.registry.v1 import registry_pb2

    request = registry_pb2.PromoteRequest(model=model, version=version, reason=reason, force=force)
    _show_aliases(ask_registry(lambda stub: stub.Promote, request).model)


@app.command("rollback")
def rollback(model: Name, reason: Reason = "rolled back from the command line") -> None:
    """Make the previous champion the champion again."""
    from irisloop.registry.v1 import registry_pb2

    _show_aliases(
        ask_registry(lambda stub: stub.Rollback, registry_pb2.RollbackRequest(model=model, reason=reason)).model
    )


app.command("rollout")(models_rollout.rollout)


@app.command("approve")
def approve(
    model: Name,
    version: Version,
    reason: Reason = "",
    refuse: Annotated[bool, typer.Option("--refuse", help="Say no instead.")] = False,
) -> None:
    """Approve a version that awaits it."""
    from irisloop.registry.v1 import registry_pb2

    request = registry_pb2.ApproveRequest(model=model, version=version, approve=not refuse, reason=reason)
    answer = ask_registry(lambda stub: stub.Approve, request).version
    console().print(f"{model} version {answer.version} is {_state(answer.state)}.")


@app.command("history")
def history(
    model: Name,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many of the newest moves.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show who moved which alias, when and why."""
    from google.protobuf.json_format import MessageToDict
    from irisloop.registry.v1 import registry_pb2

    request = registry_pb2.ListHistoryRequest(model=model, limit=limit)
    moves = ask_registry(lambda stub: stub.ListHistory, request).moves
    if as_json:
        show_json([MessageToDict(move, preserving_proto_field_name=True) for move in moves])
        return
    rows = [
        (
            move.moved_at.ToDatetime().isoformat(" ", "seconds"),
            move.alias,
            f"{move.from_version or '-'} -> {move.to_version or '-'}",
            move.moved_by,
            move.reason,
        )
        for move in moves
    ]
    show_table(("when (UTC)", "alias", "version", "by", "why"), rows, f"No alias of {model} was ever moved.")


async def _list(session: Session) -> list[dict[str, Any]]:
    from irisloop.registry.v1 import registry_pb2, registry_pb2_grpc
    from irisloop.serving.v1 import serving_pb2, serving_pb2_grpc

    async with session.stub("serving", serving_pb2_grpc.ServingServiceStub) as serving:
        bindings = await session.call("serving", serving.ListBindings, serving_pb2.ListBindingsRequest())
    async with session.stub("registry", registry_pb2_grpc.RegistryServiceStub) as registry:
        answer = await session.call("registry", registry.ListModels, registry_pb2.ListModelsRequest())
        models = []
        for model in answer.models:
            request = registry_pb2.ListVersionsRequest(model=model.name)
            versions = (await session.call("registry", registry.ListVersions, request)).versions
            models.append(
                {
                    "model": model.name,
                    "dataset": model.dataset,
                    "aliases": {alias.name: alias.version for alias in model.aliases},
                    "rollout": models_rollout.words(model),
                    "versions": ", ".join(f"{one.version} {_state(one.state)}" for one in versions),
                    "bound": "; ".join(_words(one) for one in bindings.bindings if one.model == model.name),
                }
            )
    return models


async def _bind(
    session: Session, model: str, role: str, cameras: list[str], tags: dict[str, str], *, remove: bool
) -> None:
    from irisloop.serving.v1 import serving_pb2, serving_pb2_grpc

    async with session.stub("serving", serving_pb2_grpc.ServingServiceStub) as stub:
        if remove:
            request = serving_pb2.DeleteBindingRequest(model=model, role=role)
            await session.call("serving", stub.DeleteBinding, request)
            return
        if not cameras and not tags:
            raise LocalError("Say which cameras: --camera 'gate-*' or --tag site=north; --camera '*' means all.")
        binding = serving_pb2.Binding(model=model, role=role, cameras=cameras, tags=tags)
        await session.call("serving", stub.PutBinding, serving_pb2.PutBindingRequest(binding=binding))


async def _has_alias(session: Session, model: str, name: str) -> bool:
    """Whether the alias points at a version; taken to be so while registry does not answer, as the binding holds."""
    from irisloop.registry.v1 import registry_pb2, registry_pb2_grpc

    async with session.stub("registry", registry_pb2_grpc.RegistryServiceStub) as stub:
        try:
            request = registry_pb2.GetModelRequest(model=model)
            found = (await session.call("registry", stub.GetModel, request)).model
        except NotFound:
            return False
        except Unavailable:
            return True
    return any(alias.name == name and alias.version for alias in found.aliases)


def _show_aliases(model: Any) -> None:
    aliases = ", ".join(f"{alias.name} is version {alias.version}" for alias in model.aliases if alias.version)
    console().print(f"{model.name}: {aliases or 'no alias is set'}.")


def _state(state: int) -> str:
    from irisloop.registry.v1 import registry_pb2

    name: str = registry_pb2.VersionState.Name(state)  # type: ignore[arg-type]
    return name.removeprefix("VERSION_STATE_").lower().replace("_", " ")


def _words(binding: Any) -> str:
    tags = [f"{name}={value}" for name, value in binding.tags.items()]
    return f"{binding.role}: {' '.join([*binding.cameras, *tags])}"


def _pairs(texts: list[str]) -> dict[str, str]:
    for text in texts:
        if "=" not in text[1:]:
            raise LocalError(f"The tag {text!r} is not name=value.")
    return dict(text.split("=", 1) for text in texts)
