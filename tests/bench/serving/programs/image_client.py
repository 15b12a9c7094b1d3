"""Times calls with a 4.9 MB image by NVIDIA's own tritonclient, in an environment of its own: one job a line on stdin,
one answer a line on stdout, both JSON.

A job: grpc and http (host:port), road, model, datatype and answer_datatype (numpy's names), shape, answer_shape, calls.
Roads: grpc, http, grpc-memory, http-memory; the last two put both tensors into system shared memory.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

import numpy as np
import tritonclient.grpc as by_grpc
import tritonclient.http as by_http
from tritonclient.utils import np_to_triton_dtype
from tritonclient.utils import shared_memory as memory

WARM_UP = 3
TIMEOUT_S = 60.0
_clients: dict[Any, Any] = {}


def client_of(library: Any, address: str) -> Any:
    """One connection for all jobs."""
    if (library, address) not in _clients:
        more = {"network_timeout": TIMEOUT_S, "connection_timeout": TIMEOUT_S} if library is by_http else {}
        _clients[library, address] = library.InferenceServerClient(address, **more)
    return _clients[library, address]


class Plain:
    """Tensors in the messages."""

    def __init__(self, library: Any, client: Any, job: dict[str, Any], image: Any) -> None:
        self.client, self.job, self.image, self.library = client, job, image, library

    def call(self) -> Any:
        """As an application does it: image in, array out."""
        given = self.library.InferInput("INPUT", self.image.shape, np_to_triton_dtype(self.image.dtype))
        given.set_data_from_numpy(self.image)
        return self.client.infer(self.job["model"], [given]).as_numpy("OUTPUT")

    def close(self) -> None:
        """Nothing is held."""


class Shared:
    """Tensors in two regions that are registered once. The image lies there already, as perf_analyzer has it: who uses
    shared memory decodes into it.
    """

    def __init__(self, library: Any, client: Any, job: dict[str, Any], image: Any) -> None:
        self.client, self.job, self.image, self.library = client, job, image, library
        self.answer = tuple(job["answer_shape"]), np.dtype(job["answer_datatype"])
        self.regions = {}
        for name, size in (("bench_in", image.nbytes), ("bench_out", self.size())):
            self.regions[name] = memory.create_shared_memory_region(name, f"/{name}", size)
            client.register_system_shared_memory(name, f"/{name}", size)
        memory.set_shared_memory_region(self.regions["bench_in"], [image])

    def size(self) -> int:
        """Bytes of the answer."""
        shape, datatype = self.answer
        return int(np.prod(shape) * datatype.itemsize)

    def call(self) -> Any:
        """The same, by reference."""
        given = self.library.InferInput("INPUT", self.image.shape, np_to_triton_dtype(self.image.dtype))
        given.set_shared_memory("bench_in", self.image.nbytes)
        asked = self.library.InferRequestedOutput("OUTPUT")
        asked.set_shared_memory("bench_out", self.size())
        self.client.infer(self.job["model"], [given], outputs=[asked])
        shape, datatype = self.answer
        return memory.get_contents_as_numpy(self.regions["bench_out"], datatype, shape)

    def close(self) -> None:
        """Give both back."""
        for name, region in self.regions.items():
            self.client.unregister_system_shared_memory(name)
            memory.destroy_shared_memory_region(region)


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds of `calls` calls."""
    library = by_http if job["road"].startswith("http") else by_grpc
    client = client_of(library, job["http" if library is by_http else "grpc"])
    image = np.random.default_rng(7).integers(0, 256, job["shape"]).astype(job["datatype"])
    road = (Shared if job["road"].endswith("memory") else Plain)(library, client, job, image)
    try:
        answer = [road.call() for _ in range(WARM_UP)][-1]
        if tuple(answer.shape) != tuple(job["answer_shape"]) or (job["echo"] and not np.array_equal(answer, image)):
            raise RuntimeError(f"wrong answer of shape {answer.shape}")
        taken = []
        for _ in range(job["calls"]):
            start = time.perf_counter()
            road.call()
            taken.append((time.perf_counter() - start) * 1000)
    finally:
        road.close()
    taken.sort()
    return {"p50_ms": statistics.median(taken), "p95_ms": taken[int(len(taken) * 0.95)]}


def main() -> None:
    """Until stdin ends."""
    for line in sys.stdin:
        try:
            answer = measure(json.loads(line))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
