"""Learning rates over a run."""

from retouch.training.config import TrainConfig


def rate(step: int, config: TrainConfig) -> float:
    """Learning rate of a step as a share of the full one.

    Linear warm-up, constant or falling at `drops`, then a fall from `decay_from` on.
    """
    optim = config.optim
    warm = min(1.0, (step + 1) / max(1, optim.warmup))
    warm *= optim.drop_factor ** sum(step >= drop for drop in optim.drops)
    begin = optim.decay_from * config.steps
    if step <= begin:
        return warm
    progress = (step - begin) / max(1.0, config.steps - begin)
    left = max(0.0, 1 - progress) ** optim.power
    return warm * (optim.decay_to + (1 - optim.decay_to) * left)
