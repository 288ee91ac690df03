"""Sequence models: pooling, members, losses, and every way to run them."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from memorycell.applications.sequences.heads import (
    ordered_quantiles,
    ordered_quantiles_array,
    student_nats,
)
from memorycell.applications.sequences.model import (
    SequenceBatch,
    SequenceModel,
    SequenceModelConfig,
)
from memorycell.models.batches import padded
from memorycell.models.merging import merged
from memorycell.nn.layers import of_cell
from memorycell.proof import prove


def model(**options) -> SequenceModel:
    torch.manual_seed(options.pop("seed", 0))
    base = {"target": "class", "input_size": 4, "outputs": 3, "hidden_size": 5, "quantiles": 5}
    made = SequenceModel(SequenceModelConfig(**{**base, **options})).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2)  # weights of a trained model's size
        made.temperature.fill_(1.4)
    return made


RAGGED = [
    np.random.default_rng(k).normal(size=(n, 4)).astype(np.float32)
    for k, n in enumerate((7, 3, 11))
]


@pytest.mark.parametrize(
    "options",
    [
        {"pooling": "attention", "members": 2},
        {"pooling": "mean", "target": "number"},
        {"pooling": "max", "members": 2, "cell": "gru"},
        {"pooling": "last", "target": "labels", "bidirectional": True},
        {"pooling": "mean", "target": "step_number", "interval": "student"},
    ],
    ids=str,
)
def test_an_answer_does_not_depend_on_the_batch(options):
    """No value of the padding, whatever it is, reaches an answer."""
    tested = model(**options)
    x, lengths = padded(RAGGED)
    for row, length in enumerate(lengths.tolist()):
        x[row, length:] = 1e3
    with torch.inference_mode():
        together = tested.outputs(x, lengths)
        for k, own in enumerate(RAGGED):
            alone = tested.outputs(torch.from_numpy(own)[None], torch.tensor([len(own)]))[0]
            ours = together[k, : len(own)] if tested.config.every_step else together[k]
            np.testing.assert_allclose(ours, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pooling", ["attention", "mean", "max", "last"])
def test_the_answer_after_a_step_is_that_for_the_sequence_so_far(pooling):
    tested = model(pooling=pooling, members=2)
    x = torch.from_numpy(RAGGED[2])[None]
    with torch.inference_mode():
        over_time, _ = tested(x)
        for steps in (1, 4, 11):
            prefix = tested.outputs(x[:, :steps], torch.tensor([steps]))
            np.testing.assert_allclose(over_time[:, steps - 1], prefix, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("pooling", "reduce"),
    [("mean", lambda h: h.mean(0)), ("max", lambda h: h.amax(0)), ("last", lambda h: h[-1])],
)
def test_pooling_is_what_its_name_says(pooling, reduce):
    tested = model(pooling=pooling)
    own = torch.from_numpy(RAGGED[0])
    member = tested.networks[0]
    with torch.inference_mode():
        hidden, _ = torch.nn.LSTM.forward(member.recurrent, own[None])
        wanted = member.head(reduce(hidden[0])) / tested.temperature
        ours = tested.outputs(own[None], torch.tensor([len(own)]))[0]
    np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"pooling": "attention", "members": 3, "num_layers": 2},
        {"pooling": "mean"},
        {"pooling": "max", "members": 2, "cell": "gru"},
        {"target": "labels", "members": 2, "cell": "peephole"},
        {"target": "number", "pooling": "mean", "members": 2, "cell": "coupled"},
        {"target": "number", "interval": "student", "pooling": "last"},
        {"target": "step_class", "members": 2},
        {"target": "step_number", "cell": "gru_reset_before"},
    ],
    ids=str,
)
def test_every_way_to_run_gives_the_same(options):
    """Whole, stepped, chunked, pooled, saved, rewound, in int8, in ONNX and in C."""
    pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(3)
    proof = prove(
        model(**options),
        rng.normal(size=(40, 4)).astype(np.float32),
        precisions=("float32", "int8"),
    )
    assert proof.ok, [str(check) for check in proof.checks if not check.ok]
    names = {check.name for check in proof.checks}
    assert any(name.startswith("c ") for name in names)
    assert any(name.startswith("onnx") for name in names)


@pytest.mark.parametrize("cell", ["lstm", "peephole", "coupled", "gru", "rnn"])
def test_merged_stacks_are_the_stacks(cell):
    torch.manual_seed(1)
    stacks = [of_cell(cell, 3, 4, 2, batch_first=True).eval() for _ in range(3)]
    x = torch.randn(2, 6, 3)
    with torch.inference_mode():
        whole, _ = merged(stacks)(x)
        parts = torch.cat([stack(x)[0] for stack in stacks], -1)
    np.testing.assert_allclose(whole, parts, atol=1e-6)


def test_networks_that_are_normalised_together_are_refused():
    with pytest.raises(ValueError, match="members=2: not with the cell layernorm"):
        model(members=2, cell="layernorm")


def test_members_are_averaged_as_probabilities():
    tested = model(members=2, pooling="mean")
    tested.temperature.fill_(1.0)
    x, lengths = padded(RAGGED)
    with torch.inference_mode():
        single = [member(x, lengths).softmax(-1) for member in tested.networks]
        ours = tested.outputs(x, lengths).softmax(-1)
    np.testing.assert_allclose(ours, (single[0] + single[1]) / 2, atol=1e-6)


def test_a_member_does_not_learn_from_what_it_leaves_out():
    tested = model(members=2).train()
    x, lengths = padded(RAGGED)
    weight = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    loss, _ = tested.loss(SequenceBatch(x, lengths, torch.tensor([0, 1, 2]), weight), None)
    loss.backward()
    first, second = tested.networks
    assert all(not p.grad.any() for p in first.parameters())
    assert any(p.grad.any() for p in second.parameters())


def test_steps_without_a_target_have_no_loss():
    tested = model(target="step_class").train()
    x, lengths = padded(RAGGED)
    target = torch.full((3, 11), -1)
    target[0, 2], target[2, 10] = 1, 2
    loss, _ = tested.loss(SequenceBatch(x, lengths, target, torch.ones(3, 1)), None)
    with torch.no_grad():
        scores = tested.networks[0](x, lengths)
    wanted = F.cross_entropy(scores[[0, 2], [2, 10]], torch.tensor([1, 2]), reduction="sum") / 3
    assert loss.item() == pytest.approx(float(wanted), rel=1e-5)


def test_quantiles_are_ordered_and_numpy_agrees():
    params = torch.randn(20, 2, 7) * 3
    quantiles = ordered_quantiles(params)
    assert (quantiles.diff(dim=-1) >= 0).all()
    np.testing.assert_allclose(quantiles[..., 3], params[..., 3])
    np.testing.assert_allclose(
        ordered_quantiles_array(params.numpy()), quantiles, rtol=1e-5, atol=1e-5
    )


def test_student_likelihood_is_scipys():
    from scipy.stats import t

    params = torch.tensor([[[0.3, -0.4]], [[-1.0, 0.7]]])
    target, freedom = torch.tensor([[0.1], [2.0]]), torch.tensor([3.5])
    ours = student_nats(params, target, freedom)
    wanted = -t.logpdf([0.1, 2.0], 3.5, [0.3, -1.0], np.exp([-0.4, 0.7]))
    np.testing.assert_allclose(ours[:, 0], wanted, rtol=1e-5)
