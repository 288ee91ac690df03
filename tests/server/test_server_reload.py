"""Files that change while the server answers: new versions, garbage, states carried over."""

import asyncio
import shutil

import numpy as np
import pytest
from serving import NUM_INPUTS, OLD, answer, connected, frame, lstm, outputs, serving, until

import memorycell
from memorycell.errors import UserError
from memorycell.server.sessions import OpenOptions

X = np.random.default_rng(0).normal(size=(200, NUM_INPUTS)).astype(np.float32)


def run(coroutine):
    return asyncio.run(coroutine)


def test_sessions_finish_on_their_version_and_new_ones_use_the_new(tmp_path):
    path = tmp_path / "lstm.pt"
    old = lstm(path, 0)

    async def main():
        async with serving(modules=(str(path),)) as (client, hub, app), connected(app) as one:
            handle = (await one.ask(op="open", model="lstm"))["handle"]
            one.post(frame([handle], X[0]))
            await one.get()
            new = lstm(path, 1)
            summary = await client.post("/v1/models/lstm/reload")
            assert summary.json()["version"] == 2
            assert await one.get() == {"event": "model", "name": "lstm", "version": 2}
            one.post(frame([handle], X[1]))
            np.testing.assert_allclose(
                answer(await one.get())[1][0], outputs(old, X[:2])[1], atol=1e-6
            )
            other = await hub.open("lstm", OpenOptions())
            y = await hub.step_tensors(other, X[:1])
            np.testing.assert_allclose(y, outputs(new, X[:1]), atol=1e-6)
            assert [served.version for served in hub.all_versions() if served.name == "lstm"] == [
                1,
                2,
            ]
            await one.ask(op="close", handle=handle)
            hub.registry.drop_unused()
            assert [s.version for s in hub.registry.versions["lstm"]] == [2]

    run(main())


def test_a_file_that_cannot_be_read_leaves_the_old_version(tmp_path):
    path = tmp_path / "text.safetensors"
    shutil.copy(OLD / "text.safetensors", path)

    async def main():
        async with serving(files=(str(path),), reload_s=0.02) as (client, hub, _):
            session = await hub.open("text", OpenOptions())
            path.write_bytes(b"\x80\x04garbage")
            await until(lambda: hub.model("text").problem)
            summary = (await client.get("/v1/models/text")).json()
            assert "version 1 continues" in summary["problem"]
            assert (await hub.step(session, ["a"])).steps == 1
            shutil.copy(OLD / "text.safetensors", path)
            await until(lambda: hub.model("text").problem is None)

    run(main())


def test_states_are_carried_to_the_new_weights(tmp_path):
    path, text = tmp_path / "lstm.pt", tmp_path / "text.safetensors"
    lstm(path, 0)
    model = memorycell.load(OLD / "text.safetensors")
    shutil.copy(OLD / "text.safetensors", text)

    async def main():
        async with serving(modules=(str(path),), files=(str(text),), carry="state") as (
            _,
            hub,
            _,
        ):
            tensors = await hub.open("lstm", OpenOptions(history=3))
            await hub.step(tensors, X[:2])
            items = await hub.open("text", OpenOptions())
            await hub.step(items, ["to be"])
            state = memorycell.Stream(hub.model("lstm").module)
            state.restore(await hub.snapshot(tensors))
            new = lstm(path, 1)
            await hub.registry.reload("lstm")
            own = memorycell.load(OLD / "text.safetensors")
            for weight in own.model.parameters():
                weight.data += 0.01
            own.save(text)
            await hub.registry.reload("text")
            assert (tensors.served.version, items.served.version) == (2, 2)
            h, c = state.state
            import torch

            with torch.no_grad():
                expected = new(torch.from_numpy(X[2:3])[None], (h, c))[0][0]
            y = await hub.step_tensors(tensors, X[2:3])
            np.testing.assert_allclose(y, expected, atol=1e-6)
            session = model.session()
            session.feed("to be")
            from memorycell.server.restoring import with_fingerprint
            from memorycell.state import fingerprint

            carried = own.session()
            carried.restore(with_fingerprint(session.snapshot(), fingerprint(own.model)))
            assert (await hub.step(items, ["or"])).answers == [carried.feed("or")]
            wider = lstm(path, 2, hidden=9)  # another architecture: finish on the old version
            await hub.registry.reload("lstm")
            assert wider is not None
            assert tensors.served.version == 2
            await hub.step_tensors(tensors, X[3:4])

    run(main())


def test_a_restart_with_other_weights_refuses_stored_sessions_or_carries_them(tmp_path):
    path = tmp_path / "lstm.pt"
    lstm(path, 0)
    settings = {"modules": (str(path),), "state": str(tmp_path / "state")}

    async def main():
        async with serving(**settings) as (_, hub, _):
            await hub.open("lstm", OpenOptions(id="a", durable="step"))
        lstm(path, 1)
        async with serving(**settings) as (client, _, _):
            found = await client.get("/v1/models/lstm/sessions/a")
            assert found.status_code == 422
            assert "other weights" in found.json()["detail"]
        async with serving(**settings, carry="state") as (client, _, _):
            assert (await client.get("/v1/models/lstm/sessions/a")).status_code == 200

    run(main())


@pytest.mark.parametrize("carry", ["none", "state"])
def test_reloads_under_load_drop_nothing(tmp_path, carry):
    path = tmp_path / "lstm.pt"
    lstm(path, 0)

    async def main():
        async with serving(modules=(str(path),), carry=carry) as (_, hub, app):
            stopped, stepping = False, set()

            async def load(socket):
                handle = (await socket.ask(op="open", model="lstm"))["handle"]
                steps = 0
                while not stopped:
                    socket.post(frame([handle], X[steps % len(X)]))
                    found = await socket.get()
                    while isinstance(found, dict):
                        assert found["event"] == "model"
                        found = await socket.get()
                    assert not answer(found)[2].any()
                    steps += 1
                    stepping.add(socket)
                info = await socket.ask(op="info", handle=handle)
                while "event" in info:
                    info = await socket.get()
                assert info["session"]["steps"] == steps
                return info["session"]["version"]

            async with asyncio.TaskGroup() as tasks:
                running = []
                for _ in range(6):
                    socket = connected(app)
                    running.append(tasks.create_task(with_socket(socket, load)))
                for seed in range(1, 6):
                    stepping.clear()
                    await until(lambda: len(stepping) == len(running))
                    lstm(path, seed)
                    await hub.registry.reload("lstm")
                stepping.clear()
                await until(lambda: len(stepping) == len(running))
                stopped = True
            versions = {task.result() for task in running}
            assert versions == ({6} if carry == "state" else {1})

    async def with_socket(socket, load):
        async with socket as one:
            return await load(one)

    run(main())


def test_files_that_are_no_layers(tmp_path):
    from memorycell.server.loading import Source

    (tmp_path / "x.pt").write_bytes(b"\x80\x04\x95")
    import torch

    torch.save({"a": torch.zeros(2)}, tmp_path / "y.pt")
    torch.save(torch.nn.LSTM(2, 3, bidirectional=True).state_dict(), tmp_path / "z.pt")
    for name, says in (
        ("x.pt", "weights"),
        ("y.pt", "not the weights"),
        ("z.pt", "future"),
        ("no.pt", "no such file"),
    ):
        with pytest.raises(UserError, match=says):
            Source.parse(str(tmp_path / name), "module").load(1)
    with pytest.raises(UserError, match="name"):
        Source.parse("a b=x.pt", "module")
    for layer in (torch.nn.GRU(2, 3, 2), torch.nn.RNN(2, 3), torch.nn.LSTM(2, 5, proj_size=3)):
        torch.save(layer.state_dict(), tmp_path / "l.pt")
        served = Source.parse(str(tmp_path / "l.pt"), "module").load(1)
        assert served.output_shape == (3,)
