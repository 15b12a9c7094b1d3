"""irisloop models rollout: begin, change, show and end a version's way to champion, in stages, or an experiment."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from services.local.cli.session import ask_registry, console, show_json
from services.local.errors import LocalError

STAGES = ("shadow", "canary")


def rollout(
    model: Annotated[str, typer.Argument(help="The model's name.")],
    version: Annotated[str, typer.Argument(help="A version (3) or an alias; none with --arm or --end.")] = "",
    stage: Annotated[str, typer.Option(help="shadow (answers nobody) or canary (answers for --share).")] = "",
    share: Annotated[float, typer.Option(help="A canary's share of the keys, above 0 and at most 1.")] = 0.0,
    arm: Annotated[
        list[str] | None, typer.Option("--arm", help="name=version:share, an experiment; repeat it.")
    ] = None,
    automatic: Annotated[bool, typer.Option("--automatic", help="Goes on by the policy's stages.")] = False,
    end: Annotated[bool, typer.Option("--end", help="The champion answers for every key again.")] = False,
    reason: Annotated[str, typer.Option(help="Why; kept in the history.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Begin, change, show or end the rollout of a model."""
    from irisloop.registry.v1 import registry_pb2 as pb

    wanted = _wanted(version, stage, share, arm or [], automatic=automatic)
    if end and wanted:
        raise LocalError("--end ends what is under way, it takes no version, --stage, --share, --arm or --automatic.")
    if end:
        answer = ask_registry(lambda stub: stub.EndRollout, pb.EndRolloutRequest(model=model, reason=reason)).model
    elif wanted:
        request = pb.PutRolloutRequest(model=model, reason=reason, **wanted)
        answer = pb.Model(name=model, rollout=ask_registry(lambda stub: stub.PutRollout, request).rollout)
    else:
        answer = ask_registry(lambda stub: stub.GetModel, pb.GetModelRequest(model=model)).model
    _show(answer, as_json=as_json)


def words(model: Any) -> str:
    """The rollout of a model in a few words: `2 canary 0.1`; "" when there is none."""
    if not model.HasField("rollout"):
        return ""
    from irisloop.registry.v1 import registry_pb2

    one = model.rollout
    stage = registry_pb2.Stage.Name(one.stage).removeprefix("STAGE_").lower()
    arms = " ".join(f"{arm.name}={arm.version}:{arm.share:.4g}" for arm in one.arms)
    if not one.challenger:
        return f"{stage} {arms}"
    return " ".join([one.challenger, stage, *(f"{arm.share:.4g}" for arm in one.arms)])


def _wanted(version: str, stage: str, share: float, arms: list[str], *, automatic: bool) -> dict[str, Any]:
    """The fields of the request, or none when nothing is asked for."""
    from irisloop.registry.v1 import registry_pb2

    if not (version or stage or share or arms or automatic):
        return {}
    if arms and (version or stage or share or automatic):
        raise LocalError("--arm makes an experiment, which takes no version, --stage, --share or --automatic.")
    if arms:
        return {"stage": registry_pb2.STAGE_EXPERIMENT, "arms": [_arm(text) for text in arms]}
    if not version or stage not in STAGES:
        raise LocalError(
            "Say which version and which stage, shadow or canary: irisloop models rollout MODEL VERSION --stage shadow."
        )
    number = registry_pb2.Stage.Value(f"STAGE_{stage.upper()}")
    return {"challenger": version, "stage": number, "share": share, "automatic": automatic}


def _arm(text: str) -> Any:
    from irisloop.registry.v1 import registry_pb2

    name, _, rest = text.partition("=")
    version, _, share = rest.rpartition(":")
    try:
        number = float(share)
    except ValueError:
        number = 0.0
    if not (name and version and number):
        raise LocalError(f"The arm {text!r} is not name=version:share.")
    return registry_pb2.Arm(name=name, version=version, share=number)


def _show(model: Any, *, as_json: bool) -> None:
    from google.protobuf.json_format import MessageToDict

    under_way = model.HasField("rollout")
    if as_json:
        show_json(MessageToDict(model.rollout, preserving_proto_field_name=True) if under_way else {})
        return
    if not under_way:
        console().print(f"{model.name}: no rollout is under way.")
        return
    one = model.rollout
    how = "goes on by itself" if one.automatic else "people decide"
    since = one.stage_since.ToDatetime().isoformat(" ", "seconds")
    console().print(f"{model.name}: {words(model)}, beside version {one.champion}; {how}.")
    console().print(f"Since {since} UTC, begun by {one.started_by}: {one.reason}")
