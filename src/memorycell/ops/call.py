"""What a backend is asked to run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Call:
    """What to run: everything about a recurrence except its numbers.

    zoneout: probability that a unit keeps its previous (h, c) at a step (Krueger et al. 2016, arXiv:1606.01305); while
    evaluating, the expectation is taken instead.
    """

    cell: str = "lstm"
    reverse: bool = False
    zoneout: tuple[float, float] = (0.0, 0.0)
    training: bool = False
    trace: bool = False
