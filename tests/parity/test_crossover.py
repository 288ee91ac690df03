"""backend=None runs the faster of PyTorch's kernel and the engine, by a measured table."""

import json

import pytest
import torch

import memorycell
from memorycell.bench import calibrate
from memorycell.ops import binding, crossover
from memorycell.ops.crossover import Ratios, Work, nearest_ratio

pytestmark = pytest.mark.skipif(binding.engine is None, reason=binding.missing or "built")
ROWS = [(1, 16, 64, 2.0), (1, 16, 256, 0.5), (64, 16, 256, 0.9), (64, 100, 256, 1.5)]


def table(**changes):
    isa = binding.engine.instruction_set()
    values = {"cpu": binding.cpu_name(), "isa": isa, "training": True, "precision": "float32"}
    return Ratios(**{**values, "threads": 2, "rows": ROWS, **changes})


@pytest.fixture
def measured(monkeypatch):
    """Sets the table; restores the number of threads."""
    threads = torch.get_num_threads()

    def use(*tables):
        monkeypatch.setattr(crossover, "read_ratios", lambda: list(tables))
        crossover.torch_is_faster.cache_clear()

    torch.set_num_threads(2)
    yield use
    torch.set_num_threads(threads)
    crossover.torch_is_faster.cache_clear()


def backend(batch, steps, hidden, **options):
    layer = memorycell.LSTM(3, hidden, batch_first=True)
    return memorycell.explain(layer, torch.zeros(batch, steps, 3), **options).backend


@pytest.mark.parametrize(
    ("shape", "ratio"), [((1, 16, 256), 0.5), ((2, 10, 90), 2.0), ((100, 300, 512), 1.5)]
)
def test_the_nearest_shape_counts(shape, ratio):
    assert nearest_ratio([table()], Work(True, "float32", 2, *shape)) == ratio


def test_the_nearest_number_of_threads_counts():
    tables = [table(threads=1, rows=[(1, 1, 1, 1.0)]), table(threads=8, rows=[(1, 1, 1, 8.0)])]
    found = [nearest_ratio(tables, Work(True, "float32", n, 1, 1, 1)) for n in (1, 2, 3, 16)]
    assert found == [1.0, 1.0, 8.0, 8.0]


def test_the_faster_backend_is_chosen(measured):
    measured(table(), table(threads=1, rows=[(1, 16, 256, 1.1)]))
    assert backend(1, 16, 256) == "torch"
    assert backend(64, 16, 256) == "torch"  # 0.9
    assert backend(64, 100, 256) == "native"
    assert backend(1, 16, 64) == "native"
    assert backend(1, 1, 256) == "native"  # a single step
    with torch.no_grad():
        assert backend(1, 16, 256) == "native"  # not measured
    with torch.autocast("cpu", torch.bfloat16):
        assert backend(1, 16, 256) == "native"
    torch.set_num_threads(1)
    assert backend(1, 16, 256) == "native"
    torch.set_num_threads(2)
    assert backend(1, 16, 256, lengths=True) == "native"
    assert memorycell.explain(memorycell.GRU(3, 256), torch.zeros(16, 1, 3)).backend == "native"


def test_the_child_of_a_fork_stays_on_the_engine(measured, monkeypatch):
    measured(table())
    assert backend(1, 16, 256) == "torch"
    monkeypatch.setattr(binding, "FORKED", True)
    assert backend(1, 16, 256) == "native"


def test_on_another_processor_only_clear_differences_count(measured):
    measured(table(cpu="another"))
    assert backend(1, 16, 256) == "torch"
    assert backend(64, 16, 256) == "native"
    measured(table(cpu="another", isa="another"))
    assert backend(1, 16, 256) == "torch"
    measured()
    assert backend(1, 16, 256) == "native"


def test_a_name_without_family_and_model_counts_for_the_processor(measured, monkeypatch):
    monkeypatch.setattr(binding, "cpu_name", lambda: "Chip X, family 1, model 2")
    name = "Chip X"
    measured(table(cpu=name))
    assert backend(64, 16, 256) == "torch"  # 0.9, as on this processor
    measured(table(cpu=name), table(rows=[(64, 16, 256, 1.1)]))
    assert backend(64, 16, 256) == "native"
    measured(table(cpu=name[:-1]))
    assert backend(64, 16, 256) == "native"


def test_calibrate_keeps_other_processors_and_numbers_of_threads(tmp_path):
    path = tmp_path / "crossover.jsonl"
    old = [(9, 9, 9, 9.0)]
    kept = [table(cpu="another", threads=1), table(rows=old)]
    path.write_text(
        "".join(json.dumps(t._asdict()) + "\n" for t in (*kept, table(threads=1, rows=old)))
    )
    calibrate.run([1], path=path, hidden=[4], batch_sizes=[2], seq_lens=[3])
    both, tables = crossover.read_ratios(path)[:2], crossover.read_ratios(path)[1:]
    assert [(t.cpu, t.threads) for t in both] == [(t.cpu, t.threads) for t in kept]
    assert [(t.training, t.precision, t.threads) for t in tables[1:3]] == [
        (False, "float32", 1),
        (True, "float32", 1),
    ]
    assert all(t.cpu == binding.cpu_name() for t in tables[1:])
    (batch, steps, hidden, ratio) = tables[1].rows[0]
    assert (batch, steps, hidden) == (2, 3, 4)
    assert 0.01 < ratio < 100


def test_the_committed_table_is_complete():
    for measured_table in crossover.read_ratios():
        assert measured_table.threads >= 1
        assert all(len(row) == 4 and row[3] > 0 for row in measured_table.rows)
