"""`IngestService` over a real socket: the same answers as HTTP, and rich errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.ingest.v1 import ingest_pb2 as pb
from irisloop.ingest.v1 import ingest_pb2_grpc

from services.common.errors import InvalidMessage, NotFound
from services.common.grpc import call, channel, create_grpc
from services.ingest.inbound.grpc import IngestServicer
from services.ingest.wire import to_timestamp
from tests.unit.ingest.conftest import House
from tests.unit.ingest.pictures import NOW, frame, jpeg

if TYPE_CHECKING:
    from irisloop.ingest.v1.ingest_pb2_grpc import IngestServiceAsyncStub as Stub


@pytest.fixture
async def stub(house: House) -> AsyncIterator[Stub]:
    served = create_grpc(
        lambda server: ingest_pb2_grpc.add_IngestServiceServicer_to_server(IngestServicer(house.ingest), server)
    )
    port = served.server.add_insecure_port("127.0.0.1:0")
    await served.server.start()
    async with channel(f"127.0.0.1:{port}") as connection:
        yield ingest_pb2_grpc.IngestServiceStub(connection)
    await served.server.stop(None)


async def test_assets_are_listed_page_by_page_and_since(stub: Stub, house: House) -> None:
    frames = [frame(jpeg(seed=seed)) for seed in range(3)]
    await house.ingest.store_frames(frames)
    first = await call(stub.ListAssets, pb.ListAssetsRequest(limit=2))
    second = await call(stub.ListAssets, pb.ListAssetsRequest(limit=2, cursor=first.next_cursor))
    assert [asset.id for asset in (*first.assets, *second.assets)] == [one.id for one in reversed(frames)]
    since = await call(stub.ListAssets, pb.ListAssetsRequest(since=to_timestamp(NOW), camera_id="gate-1"))
    assert [asset.id for asset in since.assets] == [one.id for one in frames]
    content = await call(stub.GetAssetContent, pb.GetAssetContentRequest(asset_id=frames[0].id))
    assert (content.content, content.content_type) == (frames[0].image, "image/jpeg")
    assert (await call(stub.GetAsset, pb.GetAssetRequest(asset_id=frames[1].id))).asset == first.assets[1]


async def test_rejections_come_with_their_counts(stub: Stub, house: House) -> None:
    await house.ingest.store_frames([frame(b"a"), frame(b""), frame(b"b")])
    answer = await call(stub.ListRejections, pb.ListRejectionsRequest(limit=1))
    assert dict(answer.counts) == {"NOT_AN_IMAGE": 2, "EMPTY": 1}
    assert [one.reason for one in answer.rejections] == [pb.REJECTION_REASON_NOT_AN_IMAGE]


async def test_cameras_are_put_and_listed(stub: Stub) -> None:
    put = await call(stub.PutCamera, pb.PutCameraRequest(id="gates/7", site="north", tags={"lane": "1"}))
    listed = await call(stub.ListCameras, pb.ListCamerasRequest())
    assert list(listed.cameras) == [put.camera]
    assert put.camera.tags == {"lane": "1"}


async def test_a_deletion_is_said_in_the_callers_name(stub: Stub, house: House) -> None:
    one = frame()
    await house.ingest.store_frames([one])
    await call(stub.DeleteAsset, pb.DeleteAssetRequest(asset_id=one.id, reason="asked"), principal="ann")
    event = pb.AssetDeleted.FromString((await house.said("asset.deleted"))[0].value)
    assert (event.deleted_by, event.reason) == ("ann", "asked")
    with pytest.raises(NotFound) as caught:
        await call(stub.GetAsset, pb.GetAssetRequest(asset_id=one.id))
    assert (caught.value.reason, caught.value.field) == ("ASSET_UNKNOWN", "asset_id")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.ListAssetsRequest(limit=1001), "limit"),
        (pb.ListAssetsRequest(cursor="x"), "cursor"),
        (pb.ListAssetsRequest(since=Timestamp(seconds=2**60)), "since"),
    ],
)
async def test_a_bad_question_is_answered_with_its_field(
    stub: Stub, request_: pb.ListAssetsRequest, field: str
) -> None:
    with pytest.raises(InvalidMessage) as caught:
        await call(stub.ListAssets, request_)
    assert caught.value.field == field
