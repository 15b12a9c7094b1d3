"""`irisloop.serving.v1.ServingService`: bindings, deployments, rollouts."""

from __future__ import annotations

from typing import Any

import grpc
from irisloop.serving.v1 import serving_pb2 as pb
from irisloop.serving.v1 import serving_pb2_grpc

from services.serving.codec import deployment_message, rollout_message
from services.serving.domain.bindings import Binding
from services.serving.handlers.bindings import Bindings
from services.serving.handlers.models import Models
from services.serving.handlers.rollouts import Rollouts

Context = grpc.aio.ServicerContext[Any, Any]


class ServingServicer(serving_pb2_grpc.ServingServiceServicer):
    """Decodes, calls a handler, encodes; errors are mapped by the kit's interceptor."""

    def __init__(self, bindings: Bindings, models: Models, rollouts: Rollouts, replica: str) -> None:
        self._rollouts = rollouts
        self._bindings = bindings
        self._models = models
        self._replica = replica

    async def PutBinding(self, request: pb.PutBindingRequest, context: Context) -> pb.PutBindingResponse:
        """Set the binding of its model and role."""
        asked = request.binding
        binding = Binding(asked.model, asked.role or "champion", tuple(asked.cameras), dict(asked.tags))
        return pb.PutBindingResponse(binding=binding_message(await self._bindings.put(binding)))

    async def DeleteBinding(self, request: pb.DeleteBindingRequest, context: Context) -> pb.DeleteBindingResponse:
        """Predict no more for that model and role."""
        await self._bindings.delete(request.model, request.role)
        return pb.DeleteBindingResponse()

    async def ListBindings(self, request: pb.ListBindingsRequest, context: Context) -> pb.ListBindingsResponse:
        """All of them."""
        return pb.ListBindingsResponse(bindings=[binding_message(one) for one in self._bindings.list()])

    async def ListDeployments(self, request: pb.ListDeploymentsRequest, context: Context) -> pb.ListDeploymentsResponse:
        """Those of the replica that answers."""
        found = [deployment_message(one, self._replica) for one in self._models.deployments]
        return pb.ListDeploymentsResponse(deployments=found)

    async def ListRollouts(self, request: pb.ListRolloutsRequest, context: Context) -> pb.ListRolloutsResponse:
        """Those in force on the replica that answers."""
        return pb.ListRolloutsResponse(rollouts=[rollout_message(one) for one in self._rollouts.applied()])


def binding_message(binding: Binding) -> pb.Binding:
    """The contract's message."""
    return pb.Binding(model=binding.model, role=binding.role, cameras=binding.cameras, tags=binding.tags)
