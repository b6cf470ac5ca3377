"""One training step, the same for every network: who is judged when, and by whom."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from retouch.data.batch import Batch
from retouch.training import building, feed, schedule
from retouch.training.config import TrainConfig
from retouch.training.ema import EMA

Norms = list[tuple[Tensor, Tensor]]


class Predict(nn.Module):
    """The objective's pass through the network as a module: DDP watches `forward` alone."""

    def __init__(self, network: nn.Module, predict: Callable[..., Any]) -> None:
        super().__init__()
        self.network = network
        self.predict = predict

    def forward(self, batch: Batch) -> Any:
        return self.predict(self.network, batch)


class Judge(nn.Module):
    """The objective's critic terms as a module; its parameters are the critics'."""

    def __init__(self, critics: nn.ModuleDict, terms: Callable[..., dict[str, Tensor]]) -> None:
        super().__init__()
        self.critics = critics
        self.terms = terms

    def forward(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        return self.terms(outputs, batch)


class Learner:
    """Network, critics, their optimisers and the moving average.

    Args:
        config: The recipe.
        fabric: Device, precision and processes.
    """

    def __init__(self, config: TrainConfig, fabric: Fabric) -> None:
        self.config = config
        self.fabric = fabric
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        network = _placed(building.network(config), fabric.device, layout)
        objective: Any = _placed(building.objective(config), fabric.device, layout)
        self.network = network
        self.objective = objective
        teacher = building.teacher(config)
        self.teacher = None if teacher is None else _placed(teacher, fabric.device, layout)
        self.critics: nn.ModuleDict = objective.critics
        self.weights: dict[str, float] = dict(objective.config.weights)
        trainable = getattr(objective, "trainable", lambda n: list(n.parameters()))
        chosen = [p for p in trainable(network) if p.requires_grad]
        network.requires_grad_(False)
        for parameter in chosen:
            parameter.requires_grad_(True)
        self.ema = EMA(network, config.ema) if config.ema else None
        self.optimizer = _optimizer(chosen, config.optim.lr, config)
        self._predict = self._spread(Predict(network, objective.predict))
        self._unseen: Norms = []
        self.critic_optimizer = None
        if len(self.critics):
            judged = list(self.critics.parameters())
            self.critic_optimizer = _optimizer(judged, config.optim.critic_lr, config)
            self._judge = self._spread(Judge(self.critics, objective.critic_terms))

    @property
    def averaged(self) -> nn.Module:
        """The network that is validated and saved: the moving average, if there is one."""
        return self.ema.network if self.ema else self.network

    def step(self, number: int, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Train on the micro-batches of one step.

        Args:
            number: Steps done before this one.
            batches: This process's micro-batches, see `retouch.training.feed`.

        Returns:
            Every unweighted term, averaged over micro-batches (of this process), detached.
        """
        optim = self.config.optim
        batches = [self._taught(batch) for batch in batches]
        torch.manual_seed(_seed(self.config.seed, number, self.fabric.global_rank))
        self._set_rates(number)
        self.network.train()
        self.critics.train()
        adversarial = self.critic_optimizer is not None and number >= optim.critic_from
        first = adversarial and optim.order == "critic-first"
        self._unseen = _norms(self.network) if len(batches) > 1 else []
        logged: list[dict[str, Tensor]] = [{} for _ in batches]
        outputs: list[Any] = []
        if first:
            outputs = self._critic_step(batches, [], logged)
        outputs = self._network_backward(batches, outputs, logged, adversarial)
        if adversarial and not first:
            self._critic_step(batches, outputs, logged)
        terms = {key: torch.stack([own[key] for own in logged]).mean() for key in logged[0]}
        if optim.clip:
            trained = [p for p in self.network.parameters() if p.requires_grad]
            terms["gradient norm"] = nn.utils.clip_grad_norm_(trained, optim.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.update(self.network, number)
        return terms

    def everywhere(self, terms: dict[str, Tensor]) -> dict[str, float]:
        """Average logged terms over the processes."""
        return {key: float(feed.mean(self.fabric, [value])) for key, value in terms.items()}

    def state(self) -> dict[str, Any]:
        """All that a checkpoint must hold to go on exactly."""
        return {
            "network": self.network.state_dict(),
            "ema": self.ema.network.state_dict() if self.ema else {},
            "optimizer": self.optimizer.state_dict(),
            "critics": {key: critic.state_dict() for key, critic in self.critics.items()},
            "critic_optimizer": self.critic_optimizer.state_dict() if self.critic_optimizer else {},
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        self.network.load_state_dict(state["network"])
        if self.ema:
            self.ema.network.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, critic in self.critics.items():
            critic.load_state_dict(state["critics"][name])
        if self.critic_optimizer:
            self.critic_optimizer.load_state_dict(state["critic_optimizer"])

    @torch.no_grad()
    def _taught(self, batch: Batch) -> Batch:
        if self.teacher is None:
            return batch
        with self.fabric.autocast():
            fill = self.teacher(batch.image, batch.mask)
        return replace(batch, taught=torch.where(batch.mask > 0, fill, batch.image))

    def _spread(self, module: nn.Module) -> nn.Module:
        """Compile if asked; average gradients over the processes, if there are several."""
        if self.config.compile:
            module.compile()
        if self.fabric.world_size == 1 or not any(p.requires_grad for p in module.parameters()):
            return module
        devices = [self.fabric.device] if self.fabric.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=devices, broadcast_buffers=False)

    def _network_backward(
        self,
        batches: Sequence[Batch],
        outputs: list[Any],
        logged: list[dict[str, Tensor]],
        adversarial: bool,
    ) -> list[Any]:
        """Gradients of the network's terms; `outputs` of a pass with a graph are used again."""
        ready = outputs if len(outputs) == 1 else []
        found: list[Any] = []
        judged = _norms(self.critics) if len(batches) > 1 else []
        for index, batch in enumerate(batches):
            _rewind(judged)
            if not ready:
                _rewind(self._unseen)
            with self._talking(self._predict, last=index + 1 == len(batches)):
                found.append(ready[index] if ready else self.outputs(batch))
                logged[index] |= self._backward(found[-1], batch, len(batches), adversarial)
        return found

    def _critic_step(
        self, batches: Sequence[Batch], outputs: list[Any], logged: list[dict[str, Tensor]]
    ) -> list[Any]:
        """Update the critics; makes the network's outputs where there are none yet.

        The graph of a single batch is kept for the network's own step; those of several would cost
        the memory that micro-batches save, so the network will run again.
        """
        found: list[Any] = []
        judged = _norms(self.critics) if len(batches) > 1 else []
        for index, batch in enumerate(batches):
            _rewind(judged)
            if not outputs:
                _rewind(self._unseen)
            with self._talking(self._judge, last=index + 1 == len(batches)):
                if not outputs:
                    with torch.set_grad_enabled(len(batches) == 1):
                        found.append(self.outputs(batch))
                made = outputs[index] if outputs else found[index]
                logged[index] |= self._critic_backward(made, batch, len(batches))
        if self.critic_optimizer is not None:
            self.critic_optimizer.step()
            self.critic_optimizer.zero_grad()
        return found

    @contextmanager
    def _talking(self, module: nn.Module, *, last: bool) -> Iterator[None]:
        """Processes average the gradients of a module after the last micro-batch only."""
        silent = not last and isinstance(module, DistributedDataParallel)
        with module.no_sync() if silent else nullcontext():  # pyright: ignore[reportCallIssue]
            yield

    def outputs(self, batch: Batch) -> Any:
        """The objective's pass through the network."""
        with self.fabric.autocast():
            return self._predict(batch)

    def _backward(
        self, outputs: Any, batch: Batch, count: int, adversarial: bool
    ) -> dict[str, Tensor]:
        self.critics.requires_grad_(False)
        with self.fabric.autocast():
            terms: dict[str, Tensor] = self.objective.generator_terms(outputs, batch)
        # Terms of weight 0 stay in the sum of several processes: under DDP every parameter must get
        # a gradient. Not so the adversarial ones, which cost a pass through a critic.
        paid = [
            value.float() * self.weights[key]
            for key, value in terms.items()
            if (adversarial or not key.startswith("adversarial"))
            and (self.weights[key] or self.fabric.world_size > 1)
        ]
        self.fabric.backward(torch.stack(paid).sum() / count)
        self.critics.requires_grad_(True)
        return {key: value.detach() for key, value in terms.items()}

    def _critic_backward(self, outputs: Any, batch: Batch, count: int) -> dict[str, Tensor]:
        with self.fabric.autocast():
            terms: dict[str, Tensor] = self._judge(outputs, batch)
        if terms:
            self.fabric.backward(torch.stack([v.float() for v in terms.values()]).sum() / count)
        return {key: value.detach() for key, value in terms.items()}

    def _set_rates(self, number: int) -> None:
        optim = self.config.optim
        share = schedule.rate(number, self.config)
        for optimizer, lr in ((self.optimizer, optim.lr), (self.critic_optimizer, optim.critic_lr)):
            for group in optimizer.param_groups if optimizer else ():
                group["lr"] = lr * share


def _norms(module: nn.Module) -> Norms:
    """Copy the vectors of spectral norms: (buffer, its present value).

    One large batch iterates them once per pass; each micro-batch is to see what that pass sees.
    """
    return [
        (vector, vector.clone())
        for layer in module.modules()
        if {name for name, _ in layer.named_buffers(recurse=False)} in ({"u", "v"}, {"_u", "_v"})
        for vector in layer.buffers(recurse=False)
    ]


@torch.no_grad()
def _rewind(norms: Norms) -> None:
    for vector, value in norms:
        vector.copy_(value)


def _placed(module: nn.Module, device: torch.device, layout: torch.memory_format) -> nn.Module:
    module.to(device).to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    if device.type == "cpu" and layout == torch.channels_last:
        for conv in filter(_fails_in_channels_last, module.modules()):
            conv.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
            conv.register_forward_pre_hook(_contiguous)
    return module


def _fails_in_channels_last(layer: nn.Module) -> bool:
    """Whether oneDNN 3.12 gives NaN as gradient of its bf16 weights (AVX512 without AMX)."""
    return isinstance(layer, nn.Conv2d) and layer.dilation != (1, 1) and layer.in_channels % 16 != 0


def _contiguous(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.contiguous() for x in inputs)


def _optimizer(
    parameters: Sequence[nn.Parameter], lr: float, config: TrainConfig
) -> torch.optim.Optimizer:
    optim = config.optim
    if optim.kind == "adam":
        return torch.optim.AdamW(
            parameters, lr, betas=optim.betas, weight_decay=optim.weight_decay, fused=True
        )
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": optim.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1]},
    ]
    return torch.optim.SGD([g for g in groups if g["params"]], lr, momentum=optim.momentum)


def _seed(seed: int, step: int, rank: int) -> int:
    """Random numbers inside a step depend on seed, step and process alone: nothing to store."""
    return (seed * 1_000_003 + step) * 4099 + rank
