"""Ingest's HTTP: uploads of many files, lists, deletion, and errors that name the field."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from services.common.http import create_http
from services.ingest.inbound.http import add_routes
from tests.unit.ingest.conftest import House
from tests.unit.ingest.pictures import NOW, encoded, frame, jpeg, png_that_declares

FRAMES = "/api/v1/frames"


@pytest.fixture
async def client(house: House) -> AsyncIterator[httpx.AsyncClient]:
    app = create_http("ingest", max_body_bytes=1 << 20)
    add_routes(app, house.ingest, max_files=50, clock=house.clock, new_id=lambda: str(uuid.uuid4()))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://ingest") as client:
        yield client


def files(*images: bytes) -> list[tuple[str, Any]]:
    return [("files", (f"{number}.jpg", image, "image/jpeg")) for number, image in enumerate(images)]


async def test_many_files_are_answered_in_order_each_by_itself(client: httpx.AsyncClient) -> None:
    images = [jpeg(seed=1), b"text", jpeg(seed=1), png_that_declares(60_000, 60_000), encoded("WEBP")]
    response = await client.post(FRAMES, files=files(*images), data={"camera_id": "import/birds"})
    assert response.status_code == 207
    results = response.json()["results"]
    assert [(one["status"], one["reason"]) for one in results] == [
        ("stored", ""),
        ("rejected", "NOT_AN_IMAGE"),
        ("duplicate", ""),
        ("rejected", "TOO_MANY_PIXELS"),
        ("stored", ""),
    ]
    assert results[0]["object_digest"] == results[2]["object_digest"]
    assert all(one["detail"] for one in results if one["status"] == "rejected")
    assert results[0]["captured_at"] == NOW.isoformat().replace("+00:00", "Z")
    stored = (await client.get(f"/api/v1/assets/{results[4]['id']}")).json()
    assert (stored["camera_id"], stored["object"]["content_type"]) == ("import/birds", "image/webp")
    content = await client.get(f"/api/v1/assets/{results[4]['id']}/content")
    assert (content.content, content.headers["content-type"]) == (images[4], "image/webp")


async def test_fields_are_given_once_for_all_files_or_once_for_each(client: httpx.AsyncClient) -> None:
    data = {
        "camera_id": ["a", "b"],
        "captured_at": ["2030-01-31T11:00:00Z", "2030-01-31T11:00:01+00:00"],
        "ce_id": ["1", "2"],
        "meta": json.dumps({"lane": "3"}),
    }
    images = files(jpeg(seed=1), jpeg(seed=2))
    first = await client.post(FRAMES, files=images, data=data)
    assert first.status_code == 200
    assert [one["captured_at"] for one in first.json()["results"]] == ["2030-01-31T11:00:00Z", "2030-01-31T11:00:01Z"]
    again = await client.post(FRAMES, files=images, data=data)
    assert [one["status"] for one in again.json()["results"]] == ["redelivered"] * 2
    assert [one["id"] for one in again.json()["results"]] == [one["id"] for one in first.json()["results"]]
    page = (await client.get("/api/v1/assets", params={"camera_id": "b"})).json()
    assert [one["meta"] for one in page["assets"]] == [{"lane": "3"}]


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({}, "camera_id"),
        ({"camera_id": "odd id"}, "camera_id"),
        ({"camera_id": ["a", "b", "c"]}, "camera_id"),
        ({"camera_id": "a", "ce_id": "1"}, "ce_id"),
        ({"camera_id": "a", "captured_at": "yesterday"}, "captured_at"),
        ({"camera_id": "a", "captured_at": "2030-01-31T11:00:00"}, "captured_at"),
        ({"camera_id": "a", "meta": "[1]"}, "meta"),
        ({"camera_id": "a", "meta": "{"}, "meta"),
        ({"camera_id": "a", "meta": json.dumps({"k": "x" * 2000})}, "meta"),
    ],
)
async def test_a_form_that_breaks_the_contract_is_refused_whole(
    client: httpx.AsyncClient, house: House, data: dict[str, Any], field: str
) -> None:
    response = await client.post(FRAMES, files=files(jpeg(seed=1), jpeg(seed=2)), data=data)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["field"] == field
    assert error["message"]
    assert house.files() == []


async def test_a_form_without_files_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.post(FRAMES, files=[("other", ("a", b"x"))], data={"camera_id": "a"})
    assert (response.status_code, response.json()["error"]["field"]) == (400, "files")


async def test_a_body_that_is_no_form_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.post(FRAMES, content=jpeg(), headers={"content-type": "image/jpeg"})
    assert response.status_code == 400


async def test_too_many_files_and_too_many_bytes_are_refused(client: httpx.AsyncClient) -> None:
    many = await client.post(FRAMES, files=files(*[b"x"] * 51), data={"camera_id": "a"})
    assert many.status_code == 400
    large = await client.post(FRAMES, files=files(bytes(1 << 20)), data={"camera_id": "a"})
    assert large.status_code == 413


async def test_an_overloaded_ingest_asks_to_come_again(client: httpx.AsyncClient, house: House) -> None:
    async with house.ingest.gate.store(1 << 20, wait=True):
        response = await client.post(FRAMES, files=files(jpeg()), data={"camera_id": "a"})
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert response.json()["error"]["reason"] == "OVERLOADED"
    assert (await client.post(FRAMES, files=files(jpeg()), data={"camera_id": "a"})).status_code == 200


async def test_rejections_are_listed_with_counts_over_all_pages(client: httpx.AsyncClient) -> None:
    await client.post(FRAMES, files=files(b"a", b"b", b"", jpeg(4, 4)), data={"camera_id": "a"})
    page = (await client.get("/api/v1/rejections", params={"limit": 3})).json()
    assert page["counts"] == {"NOT_AN_IMAGE": 2, "EMPTY": 1, "TOO_SMALL": 1}
    rest = (await client.get("/api/v1/rejections", params={"limit": 3, "cursor": page["next_cursor"]})).json()
    reasons = [one["reason"] for one in (*page["rejections"], *rest["rejections"])]
    assert reasons == ["TOO_SMALL", "EMPTY", "NOT_AN_IMAGE", "NOT_AN_IMAGE"]
    assert page["rejections"][0]["origin"] == "http"


async def test_cameras_with_slashes_are_put_and_found_by_tag(client: httpx.AsyncClient) -> None:
    body = {"site": "north", "tags": {"lane": "1", "kind": "a=b"}}
    put = await client.put("/api/v1/cameras/gates/north/7", json=body)
    assert (put.status_code, put.json()["id"], put.json()["frames"]) == (200, "gates/north/7", 0)
    await client.put("/api/v1/cameras/other", json={})
    found = await client.get("/api/v1/cameras", params={"tag": ["lane=1", "kind=a=b"], "site": "north"})
    assert [camera["id"] for camera in found.json()["cameras"]] == ["gates/north/7"]
    odd = await client.get("/api/v1/cameras", params={"tag": "lane"})
    assert (odd.status_code, odd.json()["error"]["field"]) == (400, "tag")
    assert (await client.put("/api/v1/cameras/a b", json={})).status_code == 400
    long = await client.put("/api/v1/cameras/a", json={"tags": {"x": "y" * 300}})
    assert (long.status_code, long.json()["error"]["field"]) == (400, "tags")


async def test_an_asset_is_deleted_in_the_callers_name(client: httpx.AsyncClient, house: House) -> None:
    one = frame()
    await house.ingest.store_frames([one])
    url = f"/api/v1/assets/{one.id}"
    response = await client.delete(url, params={"reason": "asked"}, headers={"x-irisloop-principal": "ann"})
    assert response.status_code == 204
    assert (await house.said("asset.deleted"))[0].value.count(b"ann") == 1
    for path in (url, f"{url}/content"):
        gone = await client.get(path)
        assert (gone.status_code, gone.json()["error"]["reason"]) == (404, "ASSET_UNKNOWN")


async def test_a_follower_reads_since_a_time(client: httpx.AsyncClient, house: House) -> None:
    frames = [frame(jpeg(seed=seed)) for seed in range(3)]
    await house.ingest.store_frames(frames)
    page = (await client.get("/api/v1/assets", params={"since": NOW.isoformat(), "limit": 2})).json()
    assert [one["id"] for one in page["assets"]] == [one.id for one in frames[:2]]
    assert (await client.get("/api/v1/assets", params={"since": "2030-01-31T12:00:00"})).status_code == 400
    assert (await client.get("/api/v1/assets", params={"limit": 1001})).status_code == 400
