"""ClickHouse's protocol on the engine in process: the real client works unchanged, nothing leaves the tables."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import clickhouse_connect
import httpx
import pytest

from services.common.bus import MemoryBroker, MemoryBus
from services.common.settings import CommonSettings
from services.local.ports import free_port
from services.monitor.app import build
from services.monitor.domain.sql import Limits
from services.monitor.inbound import analytics
from services.monitor.outbound.clickhouse import ClickHouse
from services.monitor.settings import MonitorSettings
from tests.integration.sql_house import answering, opened
from tests.integration.test_monitor_analytics import prediction
from tests.unit.monitor.test_sql_frames import unframed
from tests.waiting import PATIENCE_S

SECRET = "the host's own words"


@pytest.fixture
async def warehouse(tmp_path: Path) -> AsyncIterator[ClickHouse]:
    house = await opened(tmp_path / "clickhouse")
    async with house:
        bus = MemoryBus(MemoryBroker(), service="monitor")
        analytics.subscribe(bus, house)
        await bus.publish([prediction(n, "shirt" if n % 2 else "coat") for n in range(100)])
        await bus.settle()
        yield house


@pytest.fixture
async def port(warehouse: ClickHouse) -> AsyncIterator[int]:
    async with answering(warehouse) as port:
        yield port


@pytest.fixture
async def http(port: int) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        yield client


async def ask(http: httpx.AsyncClient, query: str, **parameters: str) -> httpx.Response:
    return await http.post("/", params=parameters, content=query)


async def test_the_real_client_works_unchanged(port: int) -> None:
    def work() -> None:
        client: Any = clickhouse_connect.get_client(host="127.0.0.1", port=port)
        assert client.server_version.split(".")[0].isdigit()
        wanted = "SELECT class_name, uniq(id) AS n FROM predictions WHERE model = {model:String} GROUP BY class_name"
        found = client.query(f"{wanted} ORDER BY class_name", parameters={"model": "m"})
        assert found.column_names == ("class_name", "n")
        assert found.result_rows == [("coat", 50), ("shirt", 50)]
        assert found.summary["read_rows"] == "100"
        assert client.query("SELECT * FROM decisions").column_names[:4] == ("topic", "partition", "offset", "id")
        assert client.command("SELECT count() FROM predictions") == 100
        assert client.query_arrow(wanted, parameters={"model": "m"}).num_rows == 2
        frame = client.query_df("SELECT id, captured_at, [model] AS models, score FROM predictions ORDER BY id LIMIT 3")
        assert list(frame.columns) == ["id", "captured_at", "models", "score"]
        assert str(frame["captured_at"].dtype).startswith("datetime64")
        with client.query_row_block_stream("SELECT number FROM numbers(9000)") as blocks:
            assert sum(len(block) for block in blocks) == 9000
        with pytest.raises(Exception, match="code: 60"):
            client.query("SELECT * FROM nothing")
        with pytest.raises(Exception, match="READONLY"):
            client.command("TRUNCATE TABLE predictions")
        client.close()

    await asyncio.to_thread(work)


async def test_the_database_tool_finds_tables_and_columns(http: httpx.AsyncClient) -> None:
    assert "predictions" in (await ask(http, "SHOW TABLES")).text.split()
    assert "captured_at\tDateTime64(6, \\'UTC\\')" in (await ask(http, "DESCRIBE TABLE predictions")).text
    assert "MergeTree" in (await ask(http, "SHOW CREATE TABLE default.predictions")).text
    found = await ask(http, "SELECT name FROM system.columns WHERE table = 'drifts'", default_format="JSONCompact")
    assert ["incident_id"] in found.json()["data"]
    assert (await ask(http, "SELECT count() FROM tables", database="system")).text.strip().isdigit()
    assert (await ask(http, "SELECT 1", database="none")).headers["x-clickhouse-exception-code"] == "81"


async def test_a_query_comes_by_url_or_body_in_the_format_it_asks_for(http: httpx.AsyncClient) -> None:
    got = await http.get("/", params={"query": "SELECT 1 AS a", "default_format": "JSONEachRow", "query_id": "mine"})
    assert (got.json(), got.headers["x-clickhouse-query-id"]) == ({"a": 1}, "mine")
    assert got.headers["content-type"].startswith("application/x-ndjson")
    assert got.headers["x-clickhouse-timezone"]
    both = await http.post("/", params={"query": "SELECT 'a', 2"}, content="FORMAT CSV")
    assert both.text == '"a",2\n'
    assert (await ask(http, "SELECT 1 FORMAT TSV", default_format="JSON")).text == "1\n"
    asked = "SELECT {a:Array(UInt8)}, {t:String}, count() FROM {name:Identifier}"
    values = {"param_a": "[1,2]", "param_t": "it's\\t", "param_name": "predictions"}
    assert (await ask(http, asked, **values)).text == "[1,2]\tit\\'s\\t\t100\n"
    packed = await http.post("/", content=gzip.compress(b"SELECT 7"), headers={"content-encoding": "gzip"})
    assert packed.text == "7\n"
    long = await ask(http, "SELECT number FROM numbers(3000)")
    assert long.headers["content-encoding"] == "gzip"
    assert len(long.text.split()) == 3000
    plain = await http.post("/", content="SELECT number FROM numbers(3000)", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers


async def test_settings_are_applied_or_ignored_or_refused_but_never_widened(http: httpx.AsyncClient) -> None:
    quoted = await ask(
        http, "SELECT toUInt64(1) AS a", default_format="JSONEachRow", output_format_json_quote_64bit_integers="1"
    )
    assert quoted.json() == {"a": "1"}
    harmless = {"session_id": "s", "wait_end_of_query": "1", "readonly": "0", "send_progress_in_http_headers": "1"}
    assert (await ask(http, "SELECT getSetting('readonly')", **harmless)).text == "1\n"
    assert (await ask(http, "SELECT getSetting('max_result_rows')", max_result_rows="99999999")).text == "10000\n"
    assert (await ask(http, "SELECT getSetting('max_result_rows')", max_result_rows="7")).text == "7\n"
    for refused in ({"format_schema": "/etc/passwd"}, {"allow_experimental_eval_table_function": "1"}, {"x": "1"}):
        answer = await ask(http, "SELECT 1", **refused)
        assert answer.headers["x-clickhouse-exception-code"] == "164"
    inside = await ask(http, "SELECT 1 SETTINGS max_execution_time = 1000")
    assert inside.headers["x-clickhouse-exception-code"] == "164"


async def test_errors_have_clickhouses_codes_and_statuses(http: httpx.AsyncClient) -> None:
    for query, code, status in (
        ("SELECT", 62, 400),
        ("", 62, 400),
        ("SELECT 1; SELECT 2", 62, 400),
        ("SELECT a", 47, 404),
        ("SELECT nowhere(1)", 46, 404),
        ("SELECT 1 FORMAT None", 73, 404),
        ("SELECT {a:UInt8}", 456, 500),
        ("SELECT number FROM numbers(20000)", 396, 500),
        ("SELECT length(range(60000000))", 69, 500),
    ):
        answer = await ask(http, query)
        assert (answer.headers.get("x-clickhouse-exception-code"), answer.status_code) == (str(code), status), query
        assert answer.text.startswith(f"Code: {code}. DB::Exception: ")
        assert answer.text.count("DB::Exception") == answer.text.count("(version ") == 1
    much = await ask(http, "SELECT groupArray(number) FROM numbers(1000000000)", max_memory_usage="20000000")
    assert (much.headers["x-clickhouse-exception-code"], much.status_code) == ("241", 500)
    assert (await ask(http, "SELECT 1", decompress="1")).status_code == 501
    assert (await ask(http, "SELECT 1 " + " " * 2_000_000)).status_code == 413
    assert (await http.get("/nothing")).status_code == 404
    assert (await http.put("/", content="SELECT 1")).status_code == 501
    assert (await http.get("/ping")).text == (await http.get("/")).text == "Ok.\n"


WRITES = (
    "INSERT INTO predictions (id) VALUES ('x')",
    "CREATE TABLE t (a Int8) ENGINE = Memory",
    "CREATE TEMPORARY TABLE t (a Int8)",
    "DROP TABLE predictions",
    "ALTER TABLE predictions DELETE WHERE 1",
    "SYSTEM FLUSH LOGS",
    "SET readonly = 0",
    "USE system",
    "KILL QUERY WHERE 1",
    "BACKUP TABLE predictions TO Disk('default', 'x')",
    "SELECT 1 PARALLEL WITH KILL QUERY WHERE 1",
    "SELECT 1 SETTINGS readonly = 0",
    "ATTACH TABLE t FROM '{folder}' (a Int8) ENGINE = File(TSV)",
    "EXECUTE AS nobody SELECT 1",
)


async def test_nothing_can_be_changed(http: httpx.AsyncClient, tmp_path: Path) -> None:
    for query in WRITES:
        answer = await ask(http, query.replace("{folder}", str(tmp_path)))
        assert answer.headers["x-clickhouse-exception-code"] in ("164", "62", "497"), (query, answer.text)
    assert (await ask(http, "SELECT count() FROM predictions")).text == "100\n"


READS = (
    "SELECT * FROM file('{file}', 'LineAsString')",
    "SELECT file('{file}')",
    "SELECT `file`('{file}')",
    "SELECT \"fi\\x6ce\"('{file}')",
    "SELECT /* harmless */ file /* ( */ ('{file}')",
    "SELECT * APPLY(file) FROM (SELECT '{file}')",
    "SELECT * APPLY file FROM (SELECT '{file}')",
    "SELECT * APPLY(x -> file(x)) FROM (SELECT '{file}')",
    "SELECT arrayMap(x -> file(x), ['{file}'])",
    "WITH (SELECT file('{file}')) AS x SELECT x",
    "SELECT * FROM view(SELECT file('{file}'))",
    "SELECT * FROM viewExplain('EXPLAIN', '', (SELECT * FROM file('{file}', 'LineAsString')))",
    "SELECT * FROM `{file}`",
    "SELECT * FROM '{file}'",
    "SELECT * FROM default.`{folder}/*.csv`",
    "SELECT * FROM {name:Identifier}",
    "SELECT 'a' IN `{file}`",
    "SELECT * FROM loop(file('{file}', 'LineAsString')) LIMIT 1",
    "SELECT * FROM loop(default, `{file}`) LIMIT 1",
    "SELECT * FROM merge('default', '.*secret.*')",
    "SELECT * FROM eval('SELECT file(\\'{file}\\')')",
    "SELECT * FROM executable('cat {file}', 'LineAsString', 's String')",
    "SELECT * FROM filesystem('{folder}')",
    "SELECT * FROM sqlite('{file}', 't')",
    "SELECT * FROM icebergLocal('{folder}')",
    "SELECT * FROM python(SECRET)",
    "DESCRIBE file('{file}', 'CSVWithNames')",
    "DESCRIBE TABLE `{file}`",
    "DESCRIBE (SELECT * FROM file('{file}', 'CSVWithNames'))",
    "EXPLAIN SELECT * FROM file('{file}', 'LineAsString')",
    "EXPLAIN AST SELECT file('{file}')",
    "EXISTS TABLE `{file}`",
    "EXISTS TABLE {name:Identifier}",
    "SHOW CREATE TABLE `{file}`",
    "SELECT 1 SETTINGS format_schema = '{file}' FORMAT Protobuf",
    "SELECT * FROM url('http://127.0.0.1:{port}/ping', 'LineAsString')",
    "DESCRIBE url('http://127.0.0.1:{port}/ping', 'CSVWithNames')",
    "SELECT * FROM s3('http://127.0.0.1:{port}/bucket/x', 'CSV')",
    "SELECT * FROM remote('127.0.0.1:{port}', system.one)",
    "SELECT * FROM mysql('127.0.0.1:{port}', 'a', 'b', 'c', 'd')",
    "SELECT * FROM postgresql('127.0.0.1:{port}', 'a', 'b', 'c', 'd')",
    "SELECT * FROM mongodb('127.0.0.1:{port}', 'a', 'b', 'c', 'd', 'e Int8')",
    "SELECT * FROM redis('127.0.0.1:{port}', 'k', 'k String')",
    "SELECT * FROM urlCluster('default', 'http://127.0.0.1:{port}/', 'CSV')",
    "SELECT aiGenerate('hello')",
)


async def test_nothing_of_the_host_can_be_read(http: httpx.AsyncClient, tmp_path: Path, port: int) -> None:
    file = tmp_path / "secret.csv"
    file.write_text(f"{SECRET}\n")
    for query in READS:
        text = query.replace("{file}", str(file)).replace("{folder}", str(tmp_path)).replace("{port}", str(port))
        answer = await ask(http, text, param_name=str(file))
        assert SECRET not in answer.text, query
        code = answer.headers.get("x-clickhouse-exception-code")
        assert code in ("164", "497", "62", "60", "344", "636"), (query, answer.text)


async def test_nothing_is_smuggled_in_beside_the_query(http: httpx.AsyncClient) -> None:
    for form in ("DataFrame", "ArrowTable", "debug", "CSV SETTINGS readonly = 0", "None"):
        answer = await ask(http, "SELECT 1", default_format=form)
        assert answer.headers["x-clickhouse-exception-code"] == "73", answer.text
    for name in ("x`; DROP TABLE predictions", "x\\`; DROP TABLE predictions", "default; DROP TABLE predictions"):
        assert (await ask(http, "SELECT 1", database=name)).headers["x-clickhouse-exception-code"] == "81"
    for value in ("1', readonly = '0", "1\\', readonly = 0 --"):
        answer = await ask(http, "SELECT getSetting('readonly')", output_format_json_quote_64bit_integers=value)
        assert answer.status_code >= 400
    assert (await ask(http, "SELECT count() FROM predictions")).text == "100\n"


async def test_no_file_can_be_written(http: httpx.AsyncClient, tmp_path: Path) -> None:
    target = tmp_path / "out.tsv"
    for query in (f"SELECT 1 INTO OUTFILE '{target}'", f"SHOW TABLES INTO\n--\nOUTFILE '{target}' TRUNCATE FORMAT CSV"):
        assert (await ask(http, query)).status_code >= 400
    assert not target.exists()


async def test_frames_are_sent_to_who_asks_for_them_and_errors_come_in_them_too(http: httpx.AsyncClient) -> None:
    answer = await ask(http, "SELECT number FROM numbers(9000)", compress="1")
    assert "content-encoding" not in answer.headers
    assert unframed(answer.content).split() == [str(n).encode() for n in range(9000)]
    failed = await ask(http, "SELECT * FROM nothing", compress="1")
    assert unframed(failed.content).startswith(b"Code: 60. ")


async def test_a_slow_query_holds_up_neither_the_loop_nor_others_and_ends_in_time(http: httpx.AsyncClient) -> None:
    slow = asyncio.create_task(ask(http, "SELECT count() FROM numbers(1000000000000) WHERE number % 7 = 3"))
    await asyncio.sleep(0.1)
    pings = 0
    while not slow.done():
        assert (await http.get("/ping")).status_code == 200
        pings += 1
        await asyncio.sleep(0.02)
    assert (await ask(http, "SELECT 1")).text == "1\n"
    assert pings > 3, "they were answered meanwhile"
    assert ((await slow).status_code, slow.result().headers["x-clickhouse-exception-code"]) == (408, "159")


async def test_a_stop_kills_what_is_asked_and_not_what_is_stored(warehouse: ClickHouse) -> None:
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        async with answering(warehouse, Limits(600, 10, 256)) as port:  # it would be waited for until the test's end
            query = "SELECT count() FROM numbers(1000000000000) WHERE number % 7 = 3"
            slow = asyncio.create_task(client.post(f"http://127.0.0.1:{port}/", content=query))
            await asyncio.sleep(0.3)
        await asyncio.gather(slow, return_exceptions=True)
    assert await warehouse.query("SELECT count() FROM predictions") == [(100,)]


async def test_a_password_is_asked_for_where_one_is_set(warehouse: ClickHouse) -> None:
    async with answering(warehouse, password="open") as port, httpx.AsyncClient() as http:
        url = f"http://127.0.0.1:{port}/?query=SELECT+1"
        assert (await http.get(url)).status_code == 403
        assert (await http.get(url, auth=("anyone", "wrong"))).headers["x-clickhouse-exception-code"] == "516"
        assert (await http.get(url, auth=("anyone", "open"))).text == "1\n"
        assert (await http.get(url, headers={"x-clickhouse-key": "open"})).text == "1\n"
        assert (await http.get(f"{url}&password=open")).text == "1\n"


async def test_monitor_answers_once_its_engine_is_open_and_closes_both(tmp_path: Path) -> None:
    port = free_port(set())
    settings = MonitorSettings(common=CommonSettings(home=tmp_path), sql_port=port)
    monitor = build(settings, MemoryBus(service="monitor"))
    async with monitor.resources[0]:
        tasks = [asyncio.ensure_future(monitor.tasks[name]()) for name in ("sql", "clickhouse")]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http, asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    assert (await ask(http, "SELECT count() FROM predictions")).text == "0\n"
                    break
                except httpx.ConnectError:
                    await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    async with httpx.AsyncClient() as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(f"http://127.0.0.1:{port}/ping")
