"""A disk that is really full: a small file system in memory that other files fill."""

import errno
import shutil
import subprocess

import httpx
import numpy as np
import pytest
from serving import NUM_INPUTS, PATIENCE_S, Process, lstm, outputs

X = np.random.default_rng(5).normal(size=(200, NUM_INPUTS)).astype(np.float32)
PATH = "/v1/models/lstm/sessions"


@pytest.fixture
def small(tmp_path):
    """A folder on a file system of 3 MB, where this process may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no permission to mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(path):
    """Write until not a byte is left."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(512))
        except OSError as error:
            assert error.errno == errno.ENOSPC


def test_a_full_disk_is_said_and_loses_no_acknowledged_step(tmp_path, small):
    layer = lstm(tmp_path / "lstm.pt")
    truth = outputs(layer, X)
    arguments = ["--module", str(tmp_path / "lstm.pt"), "--state", str(small / "state")]
    server = Process(*arguments, log=tmp_path / "log")
    client = httpx.Client(base_url=server.url, timeout=PATIENCE_S)
    try:
        for name, durable in (("kept", "step"), ("free", "none")):
            assert client.post(PATH, json={"id": name, "durable": durable}).status_code == 201
        read = 0

        def step():
            return client.post(f"{PATH}/kept/step?after={read}", json=X[read].tolist())

        for _ in range(3):
            np.testing.assert_allclose(step().json()["y"], truth[read], atol=1e-6)
            read += 1
        fill(small / "filler")
        refused = None
        while read < 150:  # the log of the database may still have room
            found = step()
            if found.status_code != 200:
                refused = found
                break
            np.testing.assert_allclose(found.json()["y"], truth[read], atol=1e-6)
            read += 1
        assert refused is not None
        assert refused.status_code == 507, refused.text
        assert refused.json()["type"] == "/problems/store-full"
        assert refused.headers["content-type"] == "application/problem+json"
        assert client.get(f"{PATH}/kept").json()["steps"] == read
        found = client.post(PATH, json={"id": "new", "durable": "step"})
        assert found.status_code == 507
        assert client.get(f"{PATH}/new").status_code == 404
        # sessions that are not durable do not need the disk
        found = client.post(f"{PATH}/free/step", json=X[0].tolist())
        np.testing.assert_allclose(found.json()["y"], truth[0], atol=1e-6)
        server.kill()  # what was acknowledged is on the full disk
        (small / "filler").unlink()
        server.start()
        assert client.get(f"{PATH}/kept").json()["steps"] == read
        for _ in range(3):
            found = step()
            assert found.status_code == 200, found.text
            np.testing.assert_allclose(found.json()["y"], truth[read], atol=1e-6)
            read += 1
    finally:
        client.close()
        server.kill()


@pytest.mark.slow
def test_steps_are_accepted_again_when_there_is_space(tmp_path, small):
    lstm(tmp_path / "lstm.pt")
    arguments = ["--module", str(tmp_path / "lstm.pt"), "--state", str(small / "state")]
    server = Process(*arguments, log=tmp_path / "log")
    client = httpx.Client(base_url=server.url, timeout=PATIENCE_S)
    try:
        client.post(PATH, json={"id": "a", "durable": "step"})
        filler = small / "filler"
        fill(filler)
        statuses = [client.post(f"{PATH}/a/step", json=X[0].tolist()).status_code for _ in X]
        assert set(statuses[-50:]) == {507}
        filler.unlink()
        found = client.post(f"{PATH}/a/step", json=X[0].tolist())
        assert found.status_code == 200
        assert found.json()["steps"] == statuses.count(200) + 1
    finally:
        client.close()
        server.kill()
    assert "Traceback" not in (tmp_path / "log").read_text()
