"""One training loop for everything that is trained here, with progress, checkpoints and resumption.

What is drawn at a step depends on the step alone, so a run that was interrupted ends where it would have ended.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from esmerge.core.errors import NumberError
from esmerge.core.finite import all_finite, number_format
from esmerge.core.observed import Training, observed
from esmerge.core.progress import progress
from esmerge.core.stopping import deferred_signals
from esmerge.model.threads import after_step
from esmerge.storage.files import replacing
from esmerge.storage.tensor_digest import tensors_digest

CHECKPOINT_SECONDS = 20.0
STATE = "state.safetensors"

Optimisers = list[tuple[torch.optim.Optimizer, float]]
"""Each optimiser with its peak learning rate."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Attributes:
        steps: number of updates.
        learning_rate: peak learning rate of AdamW.
        weight_decay: decoupled weight decay.
        warmup: share of the steps with a rising rate.
        decay: share of the steps, at the end, in which the rate falls to zero along a straight line.
        muon_learning_rate: peak learning rate of Muon for matrices; 0 trains everything with AdamW.
        batch: examples of each update, for who observes the training; 0 where that is not said.
    """

    steps: int
    learning_rate: float
    weight_decay: float = 0.0
    warmup: float = 0.03
    decay: float = 0.4
    muon_learning_rate: float = 0.0
    batch: int = 0

    def factor(self, step: int) -> float:
        """Share of the peak rate at a step."""
        rising, falling = max(1.0, self.warmup * self.steps), max(1.0, self.decay * self.steps)
        return min(1.0, (step + 1) / rising, (self.steps - step) / falling)


def train(
    title: str,
    parameters: Sequence[nn.Parameter],
    loss_at: Callable[[int], Tensor],
    schedule: Schedule,
    checkpoint: Path | None = None,
    matrices: Sequence[nn.Parameter] = (),
    beside: Sequence[tuple[Sequence[nn.Parameter], float]] = (),
    statistics: Sequence[Tensor] = (),
) -> float:
    """Minimise ``loss_at(step)`` over ``parameters`` (AdamW) and ``matrices`` (Muon, if it has a rate).

    Args:
        beside: parameters that AdamW trains with a peak learning rate of their own, without weight decay.
        statistics: what the loss itself updates, as a layer's running means; kept with an interrupted training's state.
        title: shown beside the progress bar.
        checkpoint: folder that keeps the state of interrupted training; None to keep none. A signal that ends the
            process is held back until the step is done and its state is kept.

    Returns:
        The mean loss over the last tenth of the steps.

    Raises:
        NumberError: the loss, or a weight after the last step, is not finite; the message says at which step.
    """
    trained = [*parameters, *matrices, *(parameter for group, _ in beside for parameter in group)]
    optimisers = _optimisers(parameters, matrices, schedule)
    optimisers += [(_adamw(group, rate, 0.0), rate) for group, rate in beside]
    start, losses = _resume(checkpoint, [*trained, *statistics], optimisers)
    saved, training = time.monotonic(), Training(title, schedule.steps, schedule.batch, tuple(losses), checkpoint)
    with progress(title, schedule.steps, start) as bar, deferred_signals() as signals, observed(training) as tell:
        for step in range(start, schedule.steps):
            loss = loss_at(step)
            _check_loss(title, step, loss, trained[0].dtype)
            _update(loss, trained, optimisers, schedule.factor(step))
            losses.append(float(loss.detach()))
            bar.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
            bar.update()
            tell(step, losses[-1])
            after_step()
            if checkpoint is not None and (signals.waiting or time.monotonic() - saved > CHECKPOINT_SECONDS):
                _save(checkpoint, step + 1, losses, [*trained, *statistics], optimisers)
                saved = time.monotonic()
            signals.deliver()
    if not all(all_finite(parameter.detach()) for parameter in trained):
        raise NumberError(f"{title}: weights are not finite after step {schedule.steps - 1}; lower the learning rate")
    tail = losses[-max(1, len(losses) // 10) :]
    return sum(tail) / max(1, len(tail))


def _check_loss(title: str, step: int, loss: Tensor, dtype: torch.dtype) -> None:
    if not torch.isfinite(loss):
        raise NumberError(
            f"{title}: the loss is {float(loss.detach())} at step {step}; lower the learning rate, or train "
            f"in a wider number format than {number_format(dtype)}"
        )


def _optimisers(parameters: Sequence[nn.Parameter], matrices: Sequence[nn.Parameter], schedule: Schedule) -> Optimisers:
    decay, rate, muon_rate = schedule.weight_decay, schedule.learning_rate, schedule.muon_learning_rate
    plain = [*parameters] if muon_rate else [*parameters, *matrices]
    optimisers: Optimisers = []
    if plain:
        optimisers.append((_adamw(plain, rate, decay), rate))
    if muon_rate and matrices:
        optimisers.append((torch.optim.Muon(matrices, lr=muon_rate, weight_decay=decay), muon_rate))
    return optimisers


def _adamw(parameters: Sequence[nn.Parameter], rate: float, decay: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, betas=(0.9, 0.98))


def _update(loss: Tensor, trained: Sequence[nn.Parameter], optimisers: Optimisers, factor: float) -> None:
    loss.backward()
    nn.utils.clip_grad_norm_(trained, 1.0)
    for optimiser, rate in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = rate * factor
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)


def _save(folder: Path, step: int, losses: list[float], trained: Sequence[Tensor], optimisers: Optimisers) -> None:
    states = [optimiser.state_dict() for optimiser, _ in optimisers]
    tensors = {f"parameter.{index}": parameter.detach() for index, parameter in enumerate(trained)}
    for number, state in enumerate(states):
        for index, values in state["state"].items():
            tensors |= {f"optimiser.{number}.{index}.{name}": value for name, value in values.items()}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    groups = [state["param_groups"] for state in states]
    record = {"step": step, "losses": losses, "groups": groups, "digest": tensors_digest(tensors)}
    with replacing(folder / STATE) as partial:
        save_file(tensors, partial, metadata={"record": json.dumps(record)})


def _resume(folder: Path | None, trained: Sequence[Tensor], optimisers: Optimisers) -> tuple[int, list[float]]:
    if folder is None or not (folder / STATE).exists():
        return 0, []
    try:
        record, tensors = _load(folder / STATE)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        warnings.warn(f"{folder / STATE} is damaged ({error}): this training starts again", stacklevel=2)
        return 0, []
    with torch.no_grad():
        for index, parameter in enumerate(trained):
            parameter.copy_(tensors[f"parameter.{index}"])
    for number, ((optimiser, _), groups) in enumerate(zip(optimisers, record["groups"], strict=True)):
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            kind, *address = name.split(".")
            if kind == "optimiser" and address[0] == str(number):
                state.setdefault(int(address[1]), {})[address[2]] = tensor
        optimiser.load_state_dict({"state": state, "param_groups": groups})
    return record["step"], record["losses"]


def _load(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a checkpoint records, and its tensors.

    Raises:
        SafetensorError, ValueError, KeyError, TypeError: the file was cut short or altered.
    """
    with safe_open(path, framework="pt") as file:
        record = json.loads(file.metadata()["record"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    if record["digest"] != tensors_digest(tensors):
        raise ValueError("its tensors do not have the digest that stands beside them")
    return record, tensors
