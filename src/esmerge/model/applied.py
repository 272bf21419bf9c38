"""Dense updates on a resident backbone: added to its weights for a while, and taken off again.

A quantised weight stays as it is; its update works beside it, in full, on what the layer reads.
"""

from __future__ import annotations

from collections.abc import Mapping

from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from esmerge.adapters.dense import DenseState, added
from esmerge.adapters.lora import PREFIX
from esmerge.core.errors import AdapterError


class Baked:
    """The switch between a backbone's own weights and its weights plus one of several dense updates.

    While an update is on, the weights it changes are held twice: the original weights are put back, bit for bit.
    """

    def __init__(self, model: nn.Module, states: Mapping[str, DenseState]) -> None:
        self._model, self._states = model, states
        self._replaced: list[tuple[nn.Linear, Tensor]] = []  # changed layers, each with its original weight
        self._beside: list[RemovableHandle] = []  # updates of quantised layers

    def switch(self, name: str | None) -> None:
        """Put the weights back; then, unless ``name`` is None, add its updates.

        Raises:
            AdapterError: the backbone has no such linear layer, or one of another shape; its weights are as before.
        """
        while self._beside:
            self._beside.pop().remove()
        while self._replaced:
            linear, weight = self._replaced.pop()
            linear.weight.data = weight
        if name is None:
            return
        try:
            for module, update in self._states[name].modules.items():
                self._add(module, update)
        except BaseException:
            self.switch(None)
            raise

    def _add(self, module: str, update: Tensor) -> None:
        linear = self._linear(module)
        if not linear.weight.is_floating_point():
            self._beside.append(_beside(module, linear, update))
            return
        weight: Tensor = linear.weight.data
        total = added(module, weight, update)
        self._replaced.append((linear, weight))
        linear.weight.data = total

    def _linear(self, module: str) -> nn.Linear:
        """The layer of that name; where adapters are attached as well, the one that they wrap."""
        try:
            linear = self._model.get_submodule(module.removeprefix(PREFIX))
        except AttributeError as error:
            raise AdapterError(f"the backbone has no {module}, which the update changes") from error
        if isinstance(linear, LoraLayer):
            linear = linear.get_base_layer()
        if not isinstance(linear, nn.Linear):
            raise AdapterError(f"{module} is a {type(linear).__name__} in the backbone: only linear layers are updated")
        return linear


def _beside(module: str, linear: nn.Linear, update: Tensor) -> RemovableHandle:
    """Add what an update makes of a layer's input to its output, until the handle is removed."""
    if (linear.out_features, linear.in_features) != tuple(update.shape):
        raise AdapterError(
            f"{module}: the update is {tuple(update.shape)}, the layer {linear.out_features, linear.in_features}"
        )
    resident = update.to(linear.weight.device)

    def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        (values,) = inputs
        return output + functional.linear(values, resident.to(values.dtype))

    return linear.register_forward_hook(add)
