"""Sessions over REST and in the hub: outputs, order, ids, states, problems."""

import asyncio
import base64

import numpy as np
import pytest
from serving import NUM_INPUTS, OLD, H, connected, lstm, outputs, serving

import memorycell
from memorycell.server.sessions import OpenOptions

X = np.random.default_rng(0).normal(size=(40, NUM_INPUTS)).astype(np.float32)


def run(coroutine):
    return asyncio.run(coroutine)


@pytest.fixture
def layer_file(tmp_path):
    return lstm(tmp_path / "lstm.pt"), str(tmp_path / "lstm.pt")


def test_steps_are_those_of_torch_and_a_step_of_many_items_is_the_same(layer_file):
    layer, path = layer_file

    async def main():
        async with serving(modules=(path,)) as (client, _, _):
            for name in "ab":
                opened = await client.post("/v1/models/lstm/sessions", json={"id": name})
                assert opened.status_code == 201
                assert opened.headers["location"] == f"/v1/models/lstm/sessions/{name}"
            one = "/v1/models/lstm/sessions/{}/step"
            single = [
                (await client.post(one.format("a"), json=x.tolist())).json()["y"] for x in X[:9]
            ]
            many = await client.post(one.format("b") + "?items=many", json=X[:9].tolist())
            assert many.json()["steps"] == 9
            np.testing.assert_array_equal(np.array(single, np.float32), many.json()["y"])
            np.testing.assert_allclose(single, outputs(layer, X[:9]), atol=1e-6)

    run(main())


def test_sessions_of_an_application_answer_as_on_the_command_line():
    model = memorycell.load(OLD / "text.safetensors")
    lines = ["the cat sat", "on", "", "a mat and the"]

    async def main():
        async with serving(files=(str(OLD / "text.safetensors"),)) as (_, hub, _):
            sessions = [await hub.open("text", OpenOptions(id=str(k))) for k in range(5)]
            expected = model.session()
            for line in lines:
                own = expected.feed(line)
                found = await asyncio.gather(*(hub.step(s, [line]) for s in sessions))
                assert all(result.answers == [own] for result in found)
            assert hub.metrics.batches._counts[3] > 0  # five ran together

    run(main())


@pytest.mark.parametrize(
    ("file", "rows"),
    [
        (
            "anomaly",
            [
                {"time": f"2024-01-01 0{k}:00:00", "account": "x", "amount": 3.0 + k, "kind": "a"}
                for k in range(6)
            ],
        ),
        (
            "forecast",
            [
                {"time": f"2024-01-01 0{k}:00:00", "series": "s", "a": k, "b": 2, "temp": 3}
                for k in range(6)
            ],
        ),
    ],
)
def test_rows_of_several_sessions_run_together_and_equal_single_ones(file, rows):
    model = memorycell.load(OLD / f"{file}.safetensors")

    async def main():
        async with serving(files=(str(OLD / f"{file}.safetensors"),)) as (_, hub, _):
            sessions = [await hub.open(file, OpenOptions()) for _ in range(4)]
            single = model.session()
            for row in rows:
                try:
                    expected = single.feed(row)
                except memorycell.UserError as error:
                    pytest.skip(str(error))
                found = await asyncio.gather(*(hub.step(s, [row]) for s in sessions))
                assert all(result.answers == [expected] for result in found)
            snapshot = await hub.snapshot(sessions[0])
            single.restore(snapshot)

    run(main())


def test_fork_rewind_snapshot_and_restore(layer_file):
    layer, path = layer_file
    truth = outputs(layer, X)

    async def main():
        async with serving(modules=(path,)) as (client, hub, _):
            await client.post("/v1/models/lstm/sessions", json={"id": "a", "history": 6})
            base = "/v1/models/lstm/sessions/a"
            await client.post(f"{base}/step?items=many", json=X[:8].tolist())
            assert (await client.post(f"{base}/rewind", json={"items": 7})).status_code == 422
            back = await client.post(f"{base}/rewind", json={"items": 5})
            assert (back.json()["steps"], back.json()["history"]) == (3, 1)
            fork = await client.post(f"{base}/fork", json={"id": "b"})
            assert fork.json()["steps"] == 3
            for base_of in (base, "/v1/models/lstm/sessions/b"):
                y = (await client.post(f"{base_of}/step", json=X[3].tolist())).json()["y"]
                np.testing.assert_allclose(y, truth[3], atol=1e-6)
            state = await client.get(f"{base}/state")
            assert state.headers["x-steps"] == "4"
            stream = memorycell.Stream(hub.model("lstm").module)
            stream.restore(state.content)
            np.testing.assert_allclose(stream.step(X[4]), truth[4], atol=1e-6)
            encoded = base64.b64encode(state.content).decode()
            await client.post("/v1/models/lstm/sessions", json={"id": "c", "state": encoded})
            y = await client.post("/v1/models/lstm/sessions/c/step", json=X[4].tolist())
            np.testing.assert_allclose(y.json()["y"], truth[4], atol=1e-6)
            damaged = await client.put(f"{base}/state", content=state.content[:-3] + b"abc")
            assert damaged.status_code == 422
            y = await client.post(f"{base}/step", json=X[4].tolist())
            np.testing.assert_allclose(y.json()["y"], truth[4], atol=1e-6)

    run(main())


def test_a_text_session_forks_rewinds_and_is_atomic():
    model = memorycell.load(OLD / "text.safetensors")

    async def main():
        async with serving(files=(str(OLD / "text.safetensors"),)) as (_, hub, _):
            session = await hub.open("text", OpenOptions(history=9))
            await hub.step(session, ["one two"])
            with pytest.raises(memorycell.UserError):
                await hub.step(session, ["three", '"unclosed'])
            assert session.steps == 1
            fork = await hub.fork(session, OpenOptions())
            await hub.step(session, ["three"])
            await hub.step(session, ["four"])
            await hub.rewind(session, 2)
            expected = model.session()
            expected.feed("one two")
            own = expected.feed("five")
            for one in (session, fork):
                assert (await hub.step(one, ["five"])).answers == [own]

    run(main())


def test_a_repeated_request_gets_the_same_answer_once(layer_file):
    async def main():
        async with serving(modules=(layer_file[1],), files=(str(OLD / "text.safetensors"),)) as (
            client,
            _,
            _,
        ):
            for model, item in (("lstm", X[0].tolist()), ("text", "hello")):
                await client.post(f"/v1/models/{model}/sessions", json={"id": "a"})
                step = f"/v1/models/{model}/sessions/a/step?after="
                first = await client.post(step + "0", json=item)
                again = await client.post(step + "0", json=item)
                assert first.json() == again.json()
                assert first.json()["steps"] == 1
                wrong = await client.post(step + "7", json=item)
                assert (wrong.status_code, wrong.json()["steps"]) == (409, 1)

    run(main())


def test_gates_of_a_step_are_those_of_torch(layer_file):
    layer, path = layer_file

    async def main():
        async with serving(modules=(path,), files=(str(OLD / "text.safetensors"),)) as (
            client,
            _,
            _,
        ):
            await client.post("/v1/models/lstm/sessions", json={"id": "a"})
            step = "/v1/models/lstm/sessions/a/step?watch=1"
            for k in range(3):
                found = (await client.post(step, json=X[k].tolist())).json()
                (one,) = found["gates"]["layers"]
                values = np.frombuffer(base64.b64decode(found["gates"]["data"]), np.float32)
                gates = dict(zip(one["names"], values.reshape(-1, H), strict=True))
                np.testing.assert_allclose(gates["h"], outputs(layer, X[: k + 1])[k], atol=1e-6)
                np.testing.assert_allclose(gates["h"], gates["o"] * np.tanh(gates["c"]), atol=1e-6)
            await client.post("/v1/models/text/sessions", json={"id": "a"})
            found = (
                await client.post("/v1/models/text/sessions/a/step?watch=1", json="to be")
            ).json()
            assert found["gates"]["steps"] == len(found["answers"][0]["nats"])

    run(main())


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "says"),
    [
        ("POST", "/v1/models/nobody/sessions", b"{}", 404, "there are"),
        ("POST", "/v1/models/lstm/sessions", b"{", 400, "JSON"),
        ("POST", "/v1/models/lstm/sessions", b'{"idd": "a"}', 400, "idd"),
        ("POST", "/v1/models/lstm/sessions", b'{"id": "../x"}', 400, "id"),
        ("POST", "/v1/models/lstm/sessions", b'{"id": "a"}', 409, "open"),
        ("POST", "/v1/models/lstm/sessions", b'{"durable": "step"}', 400, "--state"),
        ("POST", "/v1/models/lstm/sessions", b'{"input": "items"}', 400, "tensors"),
        ("POST", "/v1/models/lstm/sessions/zz/step", b"[1]", 404, "not open"),
        ("POST", "/v1/models/lstm/sessions/a/step", b"[1, 2]", 422, "5 numbers"),
        ("POST", "/v1/models/lstm/sessions/a/step", b'"text"', 422, "5 numbers"),
        ("POST", "/v1/models/lstm/sessions/a/step", b'[1, 2, 3, 4, "x"]', 422, "5 numbers"),
        ("POST", "/v1/models/lstm/sessions/a/step", b"[1, 2, 3, 4, 1e40]", 422, "infinity"),
        ("POST", "/v1/models/lstm/sessions/a/step?after=x", b"[1, 2, 3, 4, 5]", 400, "after"),
        ("POST", "/v1/models/lstm/sessions/a/step?deadline_ms=-1", b"[1, 2, 3, 4, 5]", 400, "ms"),
        ("POST", "/v1/models/lstm/sessions/a/rewind", b'{"items": 1}', 422, "history"),
        ("PUT", "/v1/models/lstm/sessions/a/state", b"garbage", 422, "state"),
        ("POST", "/v1/models/lstm/predict", b"{}", 400, "sessions"),
        ("POST", "/v1/models/text/sessions/t/step", b"7", 422, "string"),
        ("POST", "/v1/models/text/sessions/t/step", b'{"a": 1}', 422, "line of text"),
        (
            "POST",
            "/v1/models/text/predict",
            b'{"input": "a", "options": {"lenght": 1}}',
            400,
            "len",
        ),
        ("POST", "/v1/inspect", b"\x80\x04", 422, "not a model"),
        ("POST", "/v1/models/lstm/sessions/a/step", b"[" * 4_100_000, 413, "bytes"),
        ("GET", "/v1/nothing", b"", 404, "route"),
        ("PATCH", "/v1/models", b"", 405, "method"),
    ],
)
def test_problems_say_what_is_wrong(layer_file, method, path, content, status, says):
    async def main():
        async with serving(
            modules=(layer_file[1],), files=(str(OLD / "text.safetensors"),), max_body_mb=4.0
        ) as (client, hub, _):
            await hub.open("lstm", OpenOptions(id="a"))
            await hub.open("text", OpenOptions(id="t"))
            found = await client.request(method, path, content=content)
            assert found.status_code == status, found.text
            assert found.headers["content-type"] == "application/problem+json"
            problem = found.json()
            assert problem["status"] == status
            assert problem["request_id"] == found.headers["x-request-id"]
            assert says in problem["detail"], problem

    run(main())


def test_a_page_of_another_site_may_not_call():
    async def main():
        async with serving() as (client, _, _):
            headers = {"origin": "https://elsewhere.example"}
            assert (await client.get("/v1/models", headers=headers)).status_code == 403
            own = {"origin": "http://test"}
            assert (await client.get("/v1/models", headers=own)).status_code == 200

    run(main())


def test_tokens_open_models_by_scope(tmp_path, layer_file):
    from memorycell.server.auth import new_token

    token, line = new_token("plant")
    reader, second = new_token("reader")
    second = second.replace('["*"]', '["lstm"]').replace('["step","read"]', '["read"]')
    path = tmp_path / "tokens"
    path.write_text(f"{line}\n{second}\n")
    assert token not in path.read_text()

    async def main():
        async with serving(
            modules=(layer_file[1],), files=(str(OLD / "text.safetensors"),), token_file=str(path)
        ) as (client, _, app):

            async def status(method, path, token=None):
                headers = {} if token is None else {"authorization": f"Bearer {token}"}
                return (await client.request(method, path, headers=headers)).status_code

            assert await status("GET", "/healthz") == 200
            assert await status("GET", "/v1/models") == 401
            assert await status("GET", "/v1/models", "wrong") == 401
            assert await status("POST", "/v1/models/lstm/sessions", token) == 201
            assert await status("POST", "/v1/models/lstm/sessions", reader) == 403
            assert await status("GET", "/v1/models/lstm", reader) == 200
            assert await status("GET", "/v1/models/text", reader) == 403
            assert await status("POST", "/v1/models/lstm/reload", token) == 403
            async with connected(app, subprotocols=("memorycell.v1", f"bearer.{reader}")) as one:
                found = await one.ask(op="open", model="lstm")
                assert found["problem"]["status"] == 403
                names = [m["name"] for m in (await one.ask(op="models"))["models"]]
                assert names == ["lstm"]

    run(main())


def test_quotas_and_limits(layer_file):
    async def main():
        async with serving(modules=(layer_file[1],), max_sessions=2) as (client, _, _):
            for status in (201, 201, 429):
                found = await client.post("/v1/models/lstm/sessions", json={})
                assert found.status_code == status
            assert "retry-after" in found.headers

    run(main())
