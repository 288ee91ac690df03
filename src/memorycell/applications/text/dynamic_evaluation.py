"""Dynamic evaluation: a language model that keeps learning from the text it has read."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from memorycell.language.codec import END_ID
from memorycell.language.mixing import Sequences
from memorycell.language.model import LanguageModel


def dynamic_nats(
    model: LanguageModel, tokens: Tensor, lr: float, chunk: int = 32, decay: float = 0.0005
) -> float:
    """Mean nats per token of tokens [N] int64, where after each chunk the weights move by a
    gradient step and decay towards their initial values (Krause et al. 2018, arXiv:1709.07432, with
    SGD). The model is restored afterwards; its n-gram model does not learn.
    """
    initial = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()
    state = None
    nats: list[Tensor] = []
    try:
        for begin in range(0, len(tokens) - 1, chunk):
            y = tokens[None, begin + 1 : begin + chunk + 1]
            x = tokens[None, begin : begin + y.shape[1]]
            state = None if state is None else state.detach()
            hidden, state = model.hidden(x, state, x == END_ID)
            scores = model.head(hidden, model.embedding.weight)
            losses = F.cross_entropy(scores[0], y[0], reduction="none")
            nats.append(losses.detach())
            gradients = torch.autograd.grad(losses.mean(), list(model.parameters()))
            with torch.no_grad():
                for (name, parameter), gradient in zip(
                    model.named_parameters(), gradients, strict=True
                ):
                    parameter.add_(decay * (initial[name] - parameter) - lr * gradient)
    finally:
        model.load_state_dict(initial)
    network = torch.cat(nats)[None]
    if model.ngram is None:
        return float(network.double().mean())
    x = tokens[None, :-1]
    mixed = model.ngram.nats(network, Sequences(x, tokens[None, 1:], x == END_ID))
    return float(mixed.double().mean())
