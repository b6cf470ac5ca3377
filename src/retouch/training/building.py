"""From a recipe to network and objective."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from retouch import models, recipe, segmentation
from retouch.layers.vgg import VGG19
from retouch.segmentation.labels import label_set
from retouch.training import calibration
from retouch.training.config import TrainConfig
from retouch.training.errors import TrainingError, about
from retouch.weights import files, named, official, segmenters, store

log = logging.getLogger(__name__)


def card(config: TrainConfig) -> Any:
    """Facts about the recipe's network: a `Card` or a `SegmenterCard`.

    Raises:
        TrainingError: If there is no such network; the message lists those there are.
    """
    if config.network in segmentation.names():
        return segmentation.card(config.network)
    return _painter("network", config.network, segmentation.names())


def segments(config: TrainConfig) -> bool:
    """Whether the recipe trains a segmentation network."""
    return config.network in segmentation.names()


def network(config: TrainConfig) -> nn.Module:
    """Build the network with random weights, or those of `config.init`.

    Raises:
        RecipeError: If `config.model` does not fit the network's config.
        TrainingError: If `config.init` does not fit the network.
    """
    facts = card(config)
    settings = recipe.structure(dict(config.model), facts.config, where="recipe: model")
    built: nn.Module = facts.model(settings)
    if config.init:
        began = _warm_start(built, config.init, getattr(settings, "labels", None))
        late = getattr(settings, "colours", False) and not began.get("colours")
        if late and facts.start_colours:
            facts.start_colours(built.state_dict())
    name = getattr(settings, "segmenter", "")
    if name and name != "untrained":
        with about("model.segmenter"):
            built.segmenter = segmenters.load(name, settings.labels)
    return built


def objective(config: TrainConfig) -> nn.Module:
    """Build the objective, with VGG-19 if the recipe names its file.

    Published weights of content and style are fitted to the file (`retouch.training.calibration`);
    weights that the recipe gives are taken as they are.

    Raises:
        RecipeError: If `config.objective` does not fit the objective's config.
        TrainingError: If `config.objective_of` is no network.
    """
    other = config.objective_of
    facts = _painter("objective_of", other) if other else card(config)
    published = dict(facts.objective_config().weights)
    given = dict(config.objective)
    if unknown := set(given.get("weights", {})) - set(published):
        known = ", ".join(published)
        raise recipe.RecipeError(
            f"recipe: objective.weights has no {sorted(unknown)}; there are {known}"
        )
    features = _features(config)
    if features is not None:
        name = config.objective_of or config.network
        published = calibration.calibrated(name, published, features.scaling)
    given["weights"] = published | given.get("weights", {})
    settings = recipe.structure(given, facts.objective_config, where="recipe: objective")
    return facts.objective(settings, features)


def teacher(config: TrainConfig) -> nn.Module | None:
    """Load the network whose fills the recipe's network learns, frozen, if the recipe names one.

    Raises:
        TrainingError: If it is no default network or the objective does not look at its fills.
    """
    if not config.teacher:
        return None
    if (config.objective_of or config.network) != "dilated":
        raise TrainingError('teacher needs objective_of = "dilated": no other listens to one')
    with about("teacher"):
        header, built = named.load(config.teacher)
    if header.network != "dilated":
        raise TrainingError(f"teacher must be of network dilated, got {header.network}")
    return built.requires_grad_(False)


def _features(config: TrainConfig) -> VGG19 | None:
    if not config.features:
        return None
    path = Path(config.features)
    with about("features"):
        path = path if path.is_file() else store.path(config.features)
        return VGG19.from_state(official.read(path))


def _painter(key: str, name: str, others: Sequence[str] = ()) -> Any:
    if name not in models.names():
        known = ", ".join([*models.names(), *others])
        raise TrainingError(f"{key} must be one of {known}, got {name!r}")
    return models.card(name)


def _warm_start(built: nn.Module, path: Path, labels: str | None) -> Mapping[str, Any]:
    """Load weights where they fit; returns the config they are of."""
    with about("init"):
        header, state = files.read(path)
        expected = built.state_dict()
        others = _of_other_labels(header.config.get("labels", labels), labels, state, expected)
    state = {key: value for key, value in state.items() if key not in others}
    wrong = [k for k, v in state.items() if k not in expected or v.shape != expected[k].shape]
    if wrong:
        raise TrainingError(f"init {path} ({header.network}) does not fit: {', '.join(wrong[:3])}")
    missing = [key for key in expected if key not in state and key not in others]
    parts = {key.partition(".")[0] for key in missing}
    if broken := parts & {key.partition(".")[0] for key in state}:
        raise TrainingError(f"init {path} has {', '.join(sorted(broken))} only in part")
    built.load_state_dict({**expected, **state})
    if others:
        log.info("init %s knows other labels: %d tensors are random", path, len(others))
    if parts:
        log.info("init %s has no %s: random", path, ", ".join(sorted(parts)))
    return header.config


def _of_other_labels(
    old: str | None, new: str | None, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> set[str]:
    """Name what differs in the number of classes alone, so reads or writes label maps."""
    if old is None or new is None or old == new:
        return set()
    change = len(label_set(old)), len(label_set(new))
    return {
        key
        for key in state.keys() & expected.keys()
        if (a := state[key].shape) != (b := expected[key].shape)
        and len(a) == len(b)
        and all(m == n or (m, n) == change for m, n in zip(a, b, strict=True))
    }
