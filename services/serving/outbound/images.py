"""Decodes and resizes images in a few threads of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from services.common.errors import InvalidMessage
from services.serving.domain.images import Pixels, prepared
from services.serving.domain.package import ImageInput


class ImageThreads:
    """Implements `ImagePreparer`."""

    def __init__(self, threads: int) -> None:
        self._count = threads
        self._threads: ThreadPoolExecutor | None = None

    async def __aenter__(self) -> Self:
        self._threads = ThreadPoolExecutor(self._count, thread_name_prefix="decode")
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def __call__(self, items: Sequence[bytes], image: ImageInput) -> Sequence[Pixels | Exception]:
        """One prepared image or error an item; a group is decoded by one thread, groups beside each other."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, _all, items, image)


def _all(items: Sequence[bytes], image: ImageInput) -> list[Pixels | Exception]:
    found: list[Pixels | Exception] = []
    for item in items:
        try:
            found.append(prepared(item, image))
        except InvalidMessage as error:
            found.append(error)
    return found
