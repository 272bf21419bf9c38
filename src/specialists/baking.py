"""Dense updates on a resident backbone: added to its weights for a while, and taken off again."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from src.errors import AdapterError
from src.specialists.dense import DenseState

PREFIX = "base_model.model."  # how PEFT names modules of the model it wraps


class Baked:
    """The switch between a backbone's own weights and its weights plus one of several dense updates."""

    def __init__(self, model: nn.Module, states: Mapping[str, DenseState]) -> None:
        self._model, self._states = model, states
        self._own: dict[str, Tensor] = {}  # module -> the weight as it was found

    def switch(self, name: str | None) -> None:
        """Put the weights back; then, unless ``name`` is None, add its updates.

        Raises:
            AdapterError: the backbone has no such linear layer, or one of another shape; its weights are as found.
        """
        for module, weight in self._own.items():
            self._linear(module).weight.data = weight
        self._own.clear()
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
        weight: Tensor = linear.weight.data
        if weight.shape != update.shape:
            raise AdapterError(f"{module}: the update is {tuple(update.shape)}, the weight {tuple(weight.shape)}")
        self._own[module] = weight
        linear.weight.data = (weight + update.to(weight.device, weight.dtype)).contiguous()

    def _linear(self, module: str) -> nn.Linear:
        try:
            linear = self._model.get_submodule(module.removeprefix(PREFIX))
        except AttributeError as error:
            raise AdapterError(f"the backbone has no {module}, which the update changes") from error
        if not isinstance(linear, nn.Linear):
            raise AdapterError(f"{module} is a {type(linear).__name__} in the backbone: only linear layers are updated")
        return linear
