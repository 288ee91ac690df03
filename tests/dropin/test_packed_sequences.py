"""Packed sequences give the same results as in torch.nn."""

import pytest
import torch
from torch.nn.utils.rnn import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
    unpack_sequence,
)
from torch_comparison import (
    FORMS,
    HIDDEN,
    INPUTS,
    TOLERANCE,
    assert_same,
    each_dtype,
    each_kind,
    map_tensors,
    pair,
    random_state,
    results,
    tensors_in,
)

pytestmark = pytest.mark.usefixtures("seed")


@each_dtype
@pytest.mark.parametrize("enforce_sorted", [True, False])
@each_kind
def test_packed_sequences(family, kind, enforce_sorted, dtype):
    for form in ("plain", "both directions", "batch first"):
        theirs, ours = pair(family, kind, dtype=dtype, **FORMS[form])
        lengths = [7, 4, 4, 1] if enforce_sorted else [4, 1, 7, 4]
        sequences = [torch.randn(n, INPUTS, dtype=dtype) for n in lengths]
        packed = pack_sequence(sequences, enforce_sorted=enforce_sorted)
        hx = random_state(theirs, len(lengths))
        assert_same(results(ours, packed), results(theirs, packed), TOLERANCE[dtype])
        assert_same(results(ours, packed, hx), results(theirs, packed, hx), TOLERANCE[dtype])
        (output, end), (expected, _) = ours(packed, hx), theirs(packed, hx)
        assert type(output) is PackedSequence
        assert type(end) is (tuple if kind == "LSTM" else torch.Tensor)
        assert torch.equal(output.batch_sizes, expected.batch_sizes)
        for field in ("sorted_indices", "unsorted_indices"):
            mine, other = getattr(output, field), getattr(expected, field)
            assert (mine is None) == (other is None)
            assert mine is None or torch.equal(mine, other)
        for at, (alone, sequence) in enumerate(
            zip(unpack_sequence(output), sequences, strict=True)
        ):
            start = map_tensors(hx, lambda tensor, at=at: tensor[:, at])
            one, one_end = ours(sequence, start)  # each sequence alone
            assert_same([alone], [one], TOLERANCE[dtype])
            assert_same(
                [tensor[:, at] for tensor in tensors_in(end)], tensors_in(one_end), TOLERANCE[dtype]
            )


@pytest.mark.parametrize("batch_first", [True, False])
@each_kind
def test_padding_after_packing(family, kind, batch_first):
    theirs, ours = pair(family, kind, batch_first=batch_first)
    x = pad_sequence([torch.randn(n, INPUTS) for n in (2, 5, 3)], batch_first=batch_first)
    found = []
    for layer in (ours, theirs):
        packed = pack_padded_sequence(x, torch.tensor([2, 5, 3]), batch_first, enforce_sorted=False)
        output, lengths = pad_packed_sequence(
            layer(packed)[0], batch_first, padding_value=-1.0, total_length=8
        )
        assert lengths.tolist() == [2, 5, 3]
        assert output.shape == ((3, 8, HIDDEN) if batch_first else (8, 3, HIDDEN))
        assert ((output[0, 2:] if batch_first else output[2:, 0]) == -1).all()
        found.append([output])
    assert_same(*found)


@each_kind
def test_manually_built_packed_sequence(family, kind):
    theirs, ours = pair(family, kind, **FORMS["both directions"])
    packed = PackedSequence(torch.randn(6, INPUTS), torch.tensor([3, 2, 1]))
    assert_same(results(ours, packed), results(theirs, packed))
    same = pack_sequence([torch.randn(4, INPUTS) for _ in range(3)])  # all of one length
    assert_same(results(ours, same), results(theirs, same))
    dense = pad_packed_sequence(same)[0]
    output, end = ours(same)
    assert_same([pad_packed_sequence(output)[0], *tensors_in(end)], tensors_in(ours(dense)))
    single = pack_sequence([torch.randn(4, INPUTS)])
    assert_same(results(ours, single), results(theirs, single))
    ours, theirs, packed = ours.double(), theirs.double(), packed.double()
    assert_same(results(ours, packed), results(theirs, packed), 1e-10)


def test_packed_sequences_with_projections(family):
    theirs, ours = pair(family, "LSTM", proj_size=2, **FORMS["both directions"])
    packed = pack_sequence([torch.randn(n, INPUTS) for n in (2, 5, 3)], enforce_sorted=False)
    hx = random_state(theirs, 3)
    assert_same(results(ours, packed, hx), results(theirs, packed, hx))
