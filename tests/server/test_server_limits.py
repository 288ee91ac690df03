"""Queues, deadlines, windows, predictions, metrics and what applications show of themselves."""

import asyncio
import base64
import threading

import numpy as np
import pytest
from serving import NUM_INPUTS, OLD, PATIENCE_S, answer, connected, frame, lstm, serving, until

from memorycell.errors import UserError
from memorycell.server import scheduling
from memorycell.server.loading import Source
from memorycell.server.problems import Problem
from memorycell.server.scheduling import Scheduler
from memorycell.server.served import served_entry
from memorycell.server.sessions import OpenOptions

X = np.random.default_rng(0).normal(size=(40, NUM_INPUTS)).astype(np.float32)


class Slow:
    """A session that answers when it is allowed to."""

    allowed = threading.Event()
    allowed.set()

    def feed(self, item):
        assert self.allowed.wait(PATIENCE_S)
        if item == "defect":
            raise RuntimeError("a defect")
        return [{"item": item}]

    def close(self):
        return [{"closed": True}]

    def snapshot(self):
        return b"slow"

    def restore(self, data):
        pass


def run(coroutine):
    return asyncio.run(coroutine)


def slow(hub):
    hub.registry.add_entry(served_entry("slow", "slow", lambda *_: Slow(), {}))
    return hub.open("slow", OpenOptions())


def test_requests_of_a_session_wait_in_a_bounded_queue_in_order():
    async def main():
        async with serving() as (_, hub, _):
            session = await slow(hub)
            other = await hub.open("slow", OpenOptions())
            Slow.allowed.clear()
            tasks = [asyncio.create_task(hub.step(session, [str(k)])) for k in range(66)]
            await asyncio.sleep(0)
            for task in tasks[64:]:
                with pytest.raises(Problem) as refused:
                    await task
                assert refused.value.status == 429
                assert "retry-after" in refused.value.headers
            late = asyncio.create_task(hub.step(other, ["x"], deadline_s=0.001))
            await asyncio.sleep(0.02)
            Slow.allowed.set()
            results = [await task for task in tasks[:3]]
            assert [r.answers[0][0]["item"] for r in results] == ["0", "1", "2"]
            with pytest.raises(Problem) as refused:
                await late
            assert refused.value.status == 504
            for task in tasks:
                task.cancel()

    run(main())


def test_a_defect_of_a_session_is_answered_and_logged(caplog):
    async def main():
        async with serving() as (client, hub, _):
            session = await slow(hub)
            found = await client.post(f"/v1/models/slow/sessions/{session.id}/step", json="defect")
            assert found.status_code == 500
            assert found.json()["type"] == "/problems/internal"
            assert (await hub.step(session, ["fine"])).steps == 1
            assert (await hub.end(session)).answers == [{"closed": True}]

    run(main())
    assert "a defect" in caplog.text


def test_more_steps_than_fit_the_queue_are_refused(tmp_path):
    lstm(tmp_path / "lstm.pt")

    async def main():
        async with (
            serving(modules=(str(tmp_path / "lstm.pt"),), max_queue=10) as (_, _, app),
            connected(app) as one,
        ):
            handles = [(await one.ask(op="open", model="lstm"))["handle"] for _ in range(12)]
            one.post(frame(handles, X[:12]))
            assert answer(await one.get())[2].tolist() == [3] * 12
            one.post(frame(handles[:10], X[:10]))
            assert not answer(await one.get())[2].any()

    run(main())


def test_under_load_a_window_fills_batches(monkeypatch):
    class Clock:
        now = 0.0

        def perf_counter(self):
            return self.now

    async def main():
        calls = []

        def work():
            clock.now += 0.002
            calls.append(clock.now)

        async def turns():
            for _ in range(3):
                await asyncio.sleep(0)

        async def load(scheduler):
            for _ in range(30):
                scheduler.batch_started(8)
                scheduler.schedule(8)
                await turns()

        endless = Scheduler(work, 1e6)
        await load(endless)
        assert len(calls) == 30  # full batches do not wait
        endless.schedule(1)
        await turns()
        assert len(calls) == 30  # this one does
        endless.schedule(8)
        await turns()
        assert len(calls) == 31

        short = Scheduler(work, 0.01)
        await load(short)
        short.schedule(1)
        await turns()
        await until(lambda: len(calls) == 31 + 30 + 1)  # until the window ends

        idle = Scheduler(work, 1e6)
        for _ in range(30):
            clock.now += 0.1
            idle.batch_started(8)
            idle.schedule(1)
            await turns()
        assert len(calls) == 62 + 30  # without load none waits

    clock = Clock()
    monkeypatch.setattr(scheduling, "time", clock)
    run(main())


def test_predictions_inspections_uploads_and_exports(tmp_path):
    async def main():
        async with serving(
            files=(str(OLD / "forecast.safetensors"), str(OLD / "text.safetensors"))
        ) as (client, _, _):
            found = await client.post(
                "/v1/models/text/predict", json={"input": "a", "options": {"length": 5}}
            )
            assert found.json()["task"] == "text"
            for options, says in (
                ({"length": 10_001}, "length: at most 10,000, got 10,001"),
                ({"length": 10_000, "top": 999}, "length × top: at most 1,000,000"),
            ):
                found = await client.post(
                    "/v1/models/text/predict", json={"input": "a", "options": options}
                )
                assert found.status_code == 422
                assert says in found.json()["detail"]
            rows = [f"2024-01-0{1 + k // 24} {k % 24:02d}:00:00,{k},1,2" for k in range(60)]
            csv = "\n".join(["time,a,b,temp", *rows])
            for content in (csv, {"base64": base64.b64encode(csv.encode()).decode()}):
                found = await client.post(
                    "/v1/models/forecast/predict", json={"content": content, "name": "mine.csv"}
                )
                assert found.status_code == 200, found.text
                assert found.json()["data"] == "mine.csv"
            for body in ({"input": "/etc/passwd"}, {"content": csv, "name": "x/../y"}):
                found = await client.post("/v1/models/forecast/predict", json=body)
                assert found.status_code == 400
            found = await client.post("/v1/models/text/inspection", json={"input": "to be or"})
            assert found.json()["inspection"]["layers"]
            assert len(found.json()["gates"]["labels"]) == found.json()["gates"]["steps"]
            upload = (OLD / "text.safetensors").read_bytes()
            found = await client.post("/v1/inspect", content=upload)
            assert found.json()["task"] == "text"
            assert found.json()["architecture"]["parameters"] > 0
            found = await client.get("/v1/models/text/exports/onnx")
            assert found.content[:2] == b"PK", found.text
            options = {"options": {"format": str(OLD / "text.safetensors")}}
            found = await client.post("/v1/models/text/sessions", json=options)
            assert "files of the server" in found.json()["detail"]

    run(main())


def test_descriptions_name_what_a_model_reads():
    async def main():
        async with serving(
            files=(str(OLD / "forecast.safetensors"), f"mine={OLD / 'anomaly.safetensors'}")
        ) as (client, _, _):
            models = {m["name"]: m for m in (await client.get("/v1/models")).json()["models"]}
            assert models["forecast"]["columns"] == ["time", "a", "b", "temp"]
            assert models["mine"]["task"] == "anomaly"
            assert models["story"]["stream_reads"] == "words"
            story = (await client.get("/v1/models/story")).json()
            assert story["story"]["countries"]
            page = await client.get("/")
            assert page.status_code == 200
            assert "script-src 'self'" in page.headers["content-security-policy"]
            assert (await client.get("/v1/demo")).json() == {}

    run(main())


def test_metrics_count_steps_and_problems(tmp_path):
    lstm(tmp_path / "lstm.pt")

    async def main():
        async with serving(modules=(str(tmp_path / "lstm.pt"),)) as (client, hub, _):
            session = await hub.open("lstm", OpenOptions())
            for k in range(3):
                await hub.step(session, X[k : k + 1])
            await client.get("/v1/models/nobody")
            text = (await client.get("/metrics")).text
            assert 'memorycell_steps_total{model="lstm"} 3.0' in text
            assert 'memorycell_problems_total{slug="no-such-model"} 1.0' in text
            assert "memorycell_sessions_resident 1.0" in text
            assert "memorycell_batch_items_count 3.0" in text

    run(main())


def test_two_files_of_one_name_are_refused(tmp_path):
    async def main():
        with pytest.raises(UserError, match="NAME=FILE"):
            async with serving(files=("a/x.safetensors", "b/x.safetensors")):
                pass

    run(main())
    assert Source.parse("a/b c.pt", "module").name == "b-c"
