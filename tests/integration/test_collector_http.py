"""The collector's HTTP API over a real socket: tokens, errors, limits, tables."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import queue
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from queue_runner.client.http import HttpRecords
from queue_runner.collector import schema, waiting
from queue_runner.collector.database import Database
from queue_runner.collector.http import make_app
from queue_runner.collector.metrics import Metrics
from queue_runner.collector.routes import ROUTES, Api
from queue_runner.collector.server import HttpServer
from queue_runner.collector.service import Counters
from queue_runner.errors import CollectorRefused, CollectorUnavailable, NotFound
from queue_runner.model import InboxItem, Result, State, StudyRecord
from queue_runner.records import Arrivals
from tests.integration.system import eventually

STUDY = "s-0123456789"
TOKEN = "a-token-of-the-test"


def result(index: int, value: float = 1.5) -> Result:
    return Result(
        f"{STUDY}.{index:07}", STUDY, index, 1, State.SUCCEEDED, True, {"x": index}, {"y": value}
    )


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path}/c.sqlite")
    record = StudyRecord(STUDY, "s", "command", 2500, ("x",), {"study": "s"}, None, "q", 1.0)
    opened.apply([record, *(result(index) for index in range(2500))])
    yield opened
    opened.close()


@pytest.fixture
def url(database: Database) -> Iterator[str]:
    def tell(request: object) -> None:
        database.apply([request])  # type: ignore[list-item]

    app = make_app(Api(database, tell), Metrics(database, Counters()), TOKEN)
    server = HttpServer(app, "127.0.0.1", 0)
    server.start()
    yield server.url
    server.stop()


@pytest.fixture
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, headers={"authorization": f"Bearer {TOKEN}"}) as client:
        yield client


@pytest.fixture
def records(url: str) -> Iterator[HttpRecords]:
    opened = HttpRecords(url, TOKEN)
    yield opened
    opened.close()


def test_records_over_http_are_those_of_the_database(
    records: HttpRecords, database: Database
) -> None:
    assert records.studies() == database.studies()
    assert records.status("s") == database.status(STUDY)
    assert records.study("s") == database.study(STUDY)
    assert records.results("s", after=9, limit=3) == [result(10), result(11), result(12)]
    assert records.results("s", states=[State.FAILED]) == []
    last = Arrivals([result(2498), result(2499)], 2500, done=True)
    assert records.arrivals(STUDY, cursor=2498) == database.arrivals(STUDY, cursor=2498) == last
    assert not records.arrivals(STUDY, cursor=2497, limit=2).done
    assert records.result(f"{STUDY}.0000007") == result(7)
    assert records.attempts(f"{STUDY}.0000007") == [result(7)]
    assert records.workers() == []


def test_who_waits_hears_of_results_as_they_are_stored(
    records: HttpRecords, database: Database
) -> None:
    record = StudyRecord("t-1", "t", "command", 2, ("x",), {"study": "t"}, None, "q", 2.0)
    stages: list[list[InboxItem]] = [
        [record],
        [dataclasses.replace(result(0), job_id="t-1.0000000", study="t-1")],
        [dataclasses.replace(result(1), job_id="t-1.0000001", study="t-1")],
    ]
    heard: queue.SimpleQueue[Arrivals] = queue.SimpleQueue()

    def follow() -> None:
        arrived = Arrivals((), 0, done=False)
        while not arrived.done:
            arrived = records.arrivals("t", cursor=arrived.cursor, wait_s=20)
            heard.put(arrived)

    follower = threading.Thread(target=follow)
    follower.start()
    eventually(lambda: database.news._listening)
    database.apply(stages[0])
    database.apply(stages[1])
    first = heard.get(timeout=20)
    database.apply(stages[2])
    second = heard.get(timeout=20)
    follower.join()
    # where it came while the answer was made, one more says that it was the last
    assert second.done or heard.get_nowait() == Arrivals([], 2, done=True)
    assert [each.index for each in (*first.results, *second.results)] == [0, 1]
    assert not first.done


@pytest.mark.parametrize("near", [True, False])
def test_news_are_answered_as_the_database_would(
    records: HttpRecords, database: Database, monkeypatch: pytest.MonkeyPatch, near: bool
) -> None:
    record = StudyRecord("t-1", "t", "command", 3, ("x",), {"study": "t"}, None, "q", 2.0)
    results = [
        dataclasses.replace(result(index), job_id=f"t-1.{index:07}", study="t-1")
        for index in range(3)
    ]
    database.apply([record, results[0]])
    if not near:
        monkeypatch.setattr(database, "glance", lambda study: None)
    how = "glance" if near else "arrived"
    asked, look = threading.Event(), getattr(database, how)

    def once(*arguments: Any, **named: Any) -> Any:
        assert not asked.is_set()
        answer = look(*arguments, **named)
        asked.set()
        return answer

    monkeypatch.setattr(database, how, once)
    monkeypatch.setattr(waiting, "_LOOK_S", 20.0)
    with ThreadPoolExecutor() as pool:
        follower = pool.submit(records.arrivals, "t-1", cursor=1, wait_s=20)
        assert asked.wait(20)
        database.apply(results[1:])
        told = follower.result(20)
    monkeypatch.undo()
    assert told == records.arrivals("t-1", cursor=1) == Arrivals(results[1:], 3, done=True)


def test_who_waits_in_vain_is_told_so(records: HttpRecords, database: Database) -> None:
    record = StudyRecord("t-1", "t", "command", 2, ("x",), {"study": "t"}, None, "q", 2.0)
    database.apply([record])
    assert records.arrivals("t", wait_s=1) == Arrivals([], 0, done=False)
    with pytest.raises(NotFound, match="no study 'u'"):
        records.arrivals("u", wait_s=1)


def test_nobody_waits_for_a_collector_that_stops(records: HttpRecords, database: Database) -> None:
    database.apply([StudyRecord("t-1", "t", "command", 2, ("x",), {}, None, "q", 2.0)])
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(records.arrivals, "t", wait_s=20)
        eventually(lambda: database.news._listening)
        database.news.close()
        began = time.monotonic()
        assert waiting.result() == Arrivals([], 0, done=False)
        assert time.monotonic() - began < 10


def test_an_answer_of_another_kind_is_told(records: HttpRecords, database: Database) -> None:
    with database._writing.begin() as connection:
        connection.execute(update(schema.result).values(body=b"what is this"))
    with pytest.raises(CollectorRefused, match="gives another kind of answer"):
        records.results(STUDY, limit=1)


def test_no_part_of_an_answer_waits_for_another(database: Database) -> None:
    app = make_app(Api(database, lambda request: None), Metrics(database, Counters()), TOKEN)
    server = HttpServer(app, "127.0.0.1", 0)
    try:
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))):
            accepted, _ = server._socket.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    finally:
        server.stop()


def test_what_is_not_there(records: HttpRecords) -> None:
    with pytest.raises(NotFound, match="no study 'nosuch'"):
        records.status("nosuch")
    with pytest.raises(NotFound, match="no result of a job"):
        records.result("nosuch.0000001")
    with pytest.raises(NotFound):
        records.result("a/../b")


@pytest.mark.parametrize("path", ["/metrics", "/openapi.json", "/v1/studies", "/v1/workers"])
@pytest.mark.parametrize("header", [None, "Bearer wrong", f"Basic {TOKEN}", TOKEN, "Bearer"])
def test_nothing_without_the_token(url: str, path: str, header: str | None) -> None:
    headers = {} if header is None else {"authorization": header}
    answer = httpx.get(url + path, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "unauthorized"
    assert STUDY not in answer.text


def test_health_needs_no_token(url: str) -> None:
    assert httpx.get(f"{url}/healthz").json()["status"] == "ok"


def test_a_wrong_token_and_no_collector_are_told_apart(url: str) -> None:
    wrong, nowhere = HttpRecords(url, "wrong"), HttpRecords("http://127.0.0.1:9", None)
    with closing(wrong), pytest.raises(CollectorRefused, match="QUEUE_RUNNER_TOKEN_FILE"):
        wrong.studies()
    with (
        closing(nowhere),
        pytest.raises(CollectorUnavailable, match="no collector answers at http"),
    ):
        nowhere.studies()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/v1/studies/s/results?limit=0", "limit='0': expected a whole number from 1"),
        ("/v1/studies/s/results?limit=99999", "limit=99999: expected at most 10000"),
        ("/v1/studies/s/results?after=x", "after='x': expected a whole number"),
        ("/v1/studies/s/results?state=lost", "state='lost': expected succeeded"),
        ("/v1/studies/s/results?format=xml", "format='xml': expected json, msgpack, csv or ndjson"),
        ("/v1/studies/s/results?offset=3", "unknown parameter 'offset'; known here: limit"),
        ("/v1/studies?x=1", "unknown parameter 'x'; known here: none"),
    ],
)
def test_bad_parameters(http: httpx.Client, path: str, message: str) -> None:
    answer = http.get(path)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"jobs": 3}', b'{"jobs": [3]}', b'{"all": true}', b"[" * 100_000]
)
def test_bad_bodies(http: httpx.Client, body: bytes) -> None:
    answer = http.post("/v1/studies/s/cancel", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_a_body_has_a_limit(http: httpx.Client) -> None:
    answer = http.post("/v1/studies/s/cancel", content=b" " * 2_000_000)
    assert answer.status_code == 413
    assert "1024 KiB" in answer.json()["error"]["message"]


def test_unknown_paths_and_methods(http: httpx.Client) -> None:
    assert http.get("/nosuch").status_code == 404
    assert http.get("/v1/studies/s/cancel").status_code == 405
    assert "/openapi.json" in http.get("/nosuch").json()["error"]["message"]


def test_tables_stream_all_rows(http: httpx.Client) -> None:
    table = http.get("/v1/studies/s/results", params={"format": "csv"})
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert len(rows) == 2500
    assert rows[7]["x"] == "7"
    assert rows[7]["y"] == "1.5"
    lines = http.get("/v1/studies/s/results", params={"format": "ndjson"}).text.splitlines()
    assert json.loads(lines[2499])["x"] == 2499


def test_cancel(http: httpx.Client, database: Database) -> None:
    more = StudyRecord("t-0", "t", "command", 3, (), {}, None, "q", 2.0)
    database.apply([more])
    answer = http.post("/v1/studies/t/cancel", json={"jobs": ["t-0.0000001"]})
    assert answer.json() == {"study": "t-0", "cancelled": 1}
    assert http.post("/v1/studies/t/cancel").json()["cancelled"] == 2


def test_values_that_are_not_finite_survive(records: HttpRecords, database: Database) -> None:
    more = StudyRecord("t-0", "t", "command", 1, (), {}, None, "q", 2.0)
    odd = Result(
        "t-0.0000000",
        "t-0",
        0,
        1,
        State.SUCCEEDED,
        True,
        {},
        {"inf": float("inf"), "big": 2**63 - 1},
    )
    database.apply([more, odd])
    assert records.result("t-0.0000000") == odd


def test_metrics_are_prometheus(http: httpx.Client) -> None:
    text = http.get("/metrics").text
    assert 'queue_runner_jobs{state="succeeded"} 2500.0' in text
    assert re.search(r"^queue_runner_inbox_items_total 0.0$", text, re.MULTILINE)


def test_every_route_is_described_and_documented(http: httpx.Client) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    documented = (Path(__file__).parents[2] / "docs" / "collector.md").read_text()
    for route in ROUTES:
        assert route.method.lower() in paths[route.path]
        assert f"`{route.method} {route.path}`" in documented


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/studies/%2e%2e%2f%2e%2e%2fetc%2fpasswd", 404),
        ("/v1/studies/..%2F..%2Fetc", 404),
        ("/v1/jobs/" + "x" * 5000, 404),
        ("/v1/jobs/%00", 404),
        ("/v1/jobs/%F0%9F%92%A9'--;drop", 404),
        ("/v1/jobs/%ff%fe", 404),
        (f"/v1/jobs/{STUDY}.99999999999999999999", 404),
        (f"/v1/jobs/{STUDY}.-1", 404),
        ("/v1/studies/s/results?after=999999999999999999", 200),
        ("/v1/studies/s/results?after=9999999999999999999", 400),
        ("/v1/studies/s/results?after=-2", 400),
        ("/v1/studies/s/results?after=%D9%A1", 400),
        ("/v1/studies/s/results?limit=1e3", 400),
        ("/v1/studies/s/arrivals?cursor=--1", 400),
        ("/v1/studies/s/arrivals?cursor=999999999999999999", 200),
        ("/v1/studies/s/arrivals?wait=21", 400),
        ("/v1/studies/s/arrivals?wait=20.1", 400),
        ("/v1/studies/s/arrivals?wait=0.5&cursor=999999999999999999", 200),
        ("/v1/studies/s/arrivals?wait=1e-3", 400),
        ("/v1/studies/s/arrivals?wait=nan", 400),
        ("/v1/studies/s/arrivals?format=csv", 400),
        ("/v1/studies/s/results?format=parts", 400),
        ("/v1/studies/s/arrivals?format=parts&limit=0", 400),
        ("/v1/studies/nosuch/arrivals?format=parts", 404),
        ("/v1/studies/s/results?format=pickle", 400),
        ("/v1/studies/s/results?limit=1&limit=2", 400),
        ("/v1/studies/s/results?state=succeeded%00", 400),
    ],
)
def test_hostile_requests(http: httpx.Client, path: str, status: int) -> None:
    answer = http.get(path)
    assert answer.status_code == status
    assert answer.json() == [] or "error" in answer.json() or answer.json()["results"] == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "POST"])
def test_wrong_methods_are_named_in_json(http: httpx.Client, method: str) -> None:
    answer = http.request(method, "/v1/studies")
    assert answer.status_code == 405
    assert "/openapi.json" in answer.json()["error"]["message"]
    assert "GET" in answer.headers["allow"]


def test_head_is_get_without_a_body(http: httpx.Client) -> None:
    for path in ("/healthz", "/v1/studies", "/metrics", "/v1/studies/s/results"):
        answer = http.head(path)
        assert (answer.status_code, answer.content) == (200, b"")


def test_pages_are_together_all_there_is(http: httpx.Client) -> None:
    after, seen = -1, []
    while page := http.get("/v1/studies/s/results", params={"after": after, "limit": 999}).json():
        seen += [item["index"] for item in page]
        after = seen[-1]
    assert seen == list(range(2500))


def test_a_token_of_odd_letters_is_wrong_and_no_failure(url: str) -> None:
    for header in (b"Bearer \xff\xfe", b"Bearer " + b"x" * 5000, b"bearer\x00"[:6]):
        assert httpx.get(f"{url}/v1/studies", headers={"authorization": header}).status_code == 401


def test_the_openapi_document_is_that_of_the_routes(url: str, http: httpx.Client) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    for path, operations in paths.items():
        if path.startswith(("/v1/store", "/v1/marks")):
            continue  # this collector serves none
        for method in ("get", "post"):
            answer = http.request(method, path.replace("{study}", "s").replace("{job}", "nosuch"))
            assert (answer.status_code != 405) == (method in operations), (method, path)
        for parameter in operations.get("get", {}).get("parameters", []):
            assert parameter["in"] == "query" or f"{{{parameter['name']}}}" in path


def test_ndjson_is_strict_where_numbers_are_not_finite(
    http: httpx.Client, database: Database
) -> None:
    more = StudyRecord("u-0", "u", "command", 1, ("x",), {}, None, "q", 3.0)
    odd = Result("u-0.0000000", "u-0", 0, 1, State.SUCCEEDED, True, {}, {"y": float("nan")})
    database.apply([more, odd])
    (line,) = http.get("/v1/studies/u/results", params={"format": "ndjson"}).text.splitlines()
    assert '"y": null' in line


def test_metrics_are_read_by_the_parser_of_prometheus(http: httpx.Client) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    families = {
        family.name: family for family in text_string_to_metric_families(http.get("/metrics").text)
    }
    states = {s.labels["state"]: s.value for s in families["queue_runner_jobs"].samples}
    assert states["succeeded"] == 2500
    assert all(family.documentation for family in families.values())
