"""Going back further than the server remembers, and the map after it."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

ITEMS = 1400
BATCH = 40

FEED = """async ([items, batch]) => {
  const { Column } = await import("/column.js");
  const { Client } = await import("/client.js");
  const client = new Client();
  const model = (await client.models()).find((m) => m.name === "layer");
  const column = window.column = await new Column(client, model).open();
  window.problems = [];
  column.onproblem = (error) => window.problems.push(String(error));
  for (let k = 0; k < items.length; k += batch) await column.feed(items.slice(k, k + batch));
  return [column.dropped, column.records.length];
}"""
GO_AND_FEED = """async ([target, item]) => {
  await column.goTo(target);
  const map = column.gates.rings[0].count;
  const [y] = await column.feed([item]);
  return { y, map, at: column.dropped + column.position, problems: window.problems };
}"""


def test_every_kept_item_is_reached(page: Any, server: Any) -> None:
    """The server undoes 1,000 items; what is older is read again from a state."""
    weights = load_file(server.folder / "layer.safetensors")
    lstm = torch.nn.LSTM(3, 16)
    lstm.load_state_dict(weights)
    rng = np.random.default_rng(0)
    items = rng.normal(size=(ITEMS, 3)).astype(np.float32)
    other = [0.5, -1.0, 2.0]
    page.goto("/#inspect")
    dropped, kept = page.evaluate(FEED, [items.tolist(), BATCH])
    assert dropped > 0
    assert 1000 < kept < ITEMS
    assert dropped + kept == ITEMS
    target = 5  # more than 1,000 items back
    found = page.evaluate(GO_AND_FEED, [target, other])
    assert found["problems"] == []
    assert found["at"] == dropped + target + 1
    past = np.concatenate([items[: dropped + target], np.array([other], np.float32)])
    with torch.no_grad():
        expected = lstm(torch.from_numpy(past))[0][-1].numpy()
    np.testing.assert_allclose(np.ravel(found["y"]), expected, atol=1e-5)
    assert found["map"] == target  # the columns of the items read again


def test_the_map_loses_the_columns_of_the_items_undone(page: Any, server: Any) -> None:
    page.goto("/#inspect")
    items = np.random.default_rng(1).normal(size=(90, 3)).tolist()
    page.evaluate(FEED, [items, 45])
    found = page.evaluate(GO_AND_FEED, [70, items[70]])
    assert found["problems"] == []
    assert found["map"] == 70


def test_the_steps_of_each_item_are_given(server: Any) -> None:
    """A word is several steps of a model of characters; the page undoes them by item."""

    def post(path: str, body: Any) -> Any:
        data = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(server.url + path, data, headers)
        with urllib.request.urlopen(request, timeout=120) as reply:
            return json.load(reply)

    base = "/v1/models/text/sessions"
    items = [json.dumps(text) for text in ("the cat", "a", " sat on")]
    alone = post(base, {})["id"]
    steps = [post(f"{base}/{alone}/step?watch=1", item)["gates"]["steps"] for item in items]
    together = post(base, {})["id"]
    gates = post(f"{base}/{together}/step?watch=1&items=many", items)["gates"]
    assert len(set(steps)) > 1
    assert gates["items"] == steps
    assert gates["steps"] == sum(steps)
