"""Runs networks through OpenVINO: on CPUs faster than PyTorch, after some seconds at the start.

A local network (`Card.context`) consists of layers that fix no size: it is converted once, for
all sizes. A network of one size is converted for that. The others would be converted anew for every
size of crop, which takes longer than it saves; they are refused.
"""

import sys
import threading
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from retouch.models._card import Card
from retouch.pipeline.devices import OptionError, prepare

NAME = "openvino"
"""As a device: the CPU, but through OpenVINO."""


def suits(card: Card, config: Any) -> bool:
    """Whether a network need not be converted anew for every size of crop."""
    return card.context(config) is not None or card.fixed_size is not None


class OpenVINO:
    """A network as a function of tensors on the CPU, which any thread may call.

    Args:
        network: Of any kind; it is left alone.
        card: Of the network.
        bf16: Compute in bf16.

    Raises:
        OptionError: If OpenVINO is missing, or the network takes many sizes, each in its own way.
    """

    def __init__(self, network: nn.Module, card: Card, *, bf16: bool) -> None:
        self._runtime = _runtime()
        self._local = card.context(network.config) is not None
        if not suits(card, network.config):
            raise OptionError(
                f"device openvino runs networks that are local or have one size, not "
                f"{card.model.__name__}: choose cpu"
            )
        self._network = prepare(network, torch.device("cpu"), bf16=False)
        self._smallest = max(card.min_size, card.multiple_of)
        self._precision = "bf16" if bf16 else "f32"
        self._ready: dict[int, Any] = {}
        self._lock = threading.Lock()

    def __call__(self, *given: Tensor) -> Tensor:
        """Run the network: what it takes and gives.

        Raises:
            OptionError: If OpenVINO does not know what the network does.
        """
        with self._lock:
            if len(given) not in self._ready:
                self._ready[len(given)] = self._compiled(given)
            result = self._ready[len(given)]([x.numpy() for x in given])
            return torch.from_numpy(result[0].copy())

    @torch.inference_mode()
    def _compiled(self, given: tuple[Tensor, ...]) -> Any:
        """Convert and compile for as many inputs as these."""
        example = tuple(x[:1] for x in given)
        shapes = [[-1, *x.shape[1:]] for x in given]
        if self._local:
            example = tuple(x[..., : self._smallest, : self._smallest] for x in example)
            shapes = [[*shape[:-2], -1, -1] for shape in shapes]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sizes that are traced: those of `rows`
            try:
                model = self._runtime.convert_model(
                    self._network,
                    example_input=tuple(x.contiguous() for x in example),
                    input=[self._runtime.PartialShape(shape) for shape in shapes],
                )
            except RuntimeError as error:
                reason = str(error).strip().splitlines()[-1]
                raise OptionError(f"OpenVINO cannot convert this network: {reason}") from error
        options = {
            "INFERENCE_PRECISION_HINT": self._precision,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        return self._runtime.Core().compile_model(model, "CPU", options)


def _runtime() -> Any:
    # Importing OpenVINO reports the import over the network, unless its telemetry is not there.
    sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]
    try:
        import openvino
    except ImportError:
        raise OptionError("device openvino needs: pip install 'retouch[openvino]'") from None
    return openvino
