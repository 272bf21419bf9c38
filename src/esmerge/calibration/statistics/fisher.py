"""The diagonal of each expert's Fisher information (arXiv 2111.09832).

``F(θ) = E_x E_{y ~ p(y|x)} [(∂ log p(y|x) / ∂θ)²]``. An example x is a probe prompt, and y is what the expert expects
after each token of its own modality; no answer is needed. The authors' classifiers have few labels, so their code sums
over all of them; a language model has as many as its vocabulary has words, so here y is drawn from the model. Labels of
different positions are drawn independently, and so the expected square of their summed gradients is the sum of the
positions' own expected squares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from esmerge.calibration.api import STATISTICS, CalibrationData, StatisticInfo
from esmerge.calibration.types import Statistics
from esmerge.calibration.watch import batches, holding, tokens_of
from esmerge.core.progress import progress
from esmerge.core.torch_rng import torch_generator
from esmerge.core.validation import at_least
from esmerge.model.attach import adapted_parameters
from esmerge.model.prompt_encoder import Batch


@dataclass(frozen=True)
class FisherSettings:
    """Settings of the Fisher information.

    Attributes:
        samples: prompts that are read for each expert, at most; the paper finds that a few hundred examples suffice.
    """

    samples: int = 256

    def __post_init__(self) -> None:
        at_least(self, "method.fisher", 1, "samples")


@STATISTICS.register("fisher", FisherSettings, StatisticInfo(gradients=True))
def fisher(material: CalibrationData, settings: FisherSettings) -> Statistics:
    """Expert -> tensor name -> mean over examples of the squared gradient, in the tensor's shape.

    The tensors are the factors in factor space, and the dense updates in delta space.

    Raises:
        InputError: an expert's modality is in no prompt.
    """
    specialists, information = material.specialists, {}
    prompts = {
        name: holding(material.prompts, specialists.expert_modality[name])[: settings.samples]
        for name in specialists.adapters
    }
    total = sum(map(len, prompts.values()))
    with specialists.backbone.attached(specialists.adapters) as activate, progress("fisher", total) as bar:
        for name, expert_prompts in prompts.items():
            activate(name)
            parameters = _differentiable(material, name)
            sums = {key: torch.zeros_like(parameter, dtype=torch.float32) for key, parameter in parameters.items()}
            # one by one, since every example's gradient is squared
            for index, batch in enumerate(batches(specialists, expert_prompts, 1)):
                draw = torch_generator(material.seed, "fisher", name, str(index))
                gradients = _gradients(
                    specialists.backbone.model,
                    batch,
                    tokens_of(batch, specialists.expert_modality[name]),
                    parameters,
                    draw,
                )
                for key, gradient in gradients.items():
                    sums[key] += gradient.float().square()
                bar.update()
            information[name] = {key: (squares / len(expert_prompts)).cpu() for key, squares in sums.items()}
    return information


def _differentiable(material: CalibrationData, name: str) -> dict[str, nn.Parameter]:
    """What is merged of an attached expert, by tensor name; the backbone takes the flags back when it is detached."""
    by_layer = adapted_parameters(material.specialists.backbone.model, name, material.space)
    parameters = {key: parameter for layer in by_layer.values() for key, parameter in layer.items()}
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    return parameters


def _gradients(
    model: nn.Module, batch: Batch, tokens: Tensor, parameters: Mapping[str, nn.Parameter], draw: torch.Generator
) -> dict[str, Tensor]:
    """``∂ log p(y|x) / ∂θ`` of one prompt, with y drawn from p(y|x) after each of the given tokens, (1, T)."""
    with torch.enable_grad():
        output = model(
            inputs_embeds=batch.embeds, attention_mask=batch.mask, position_ids=batch.positions(), use_cache=False
        )
        log_p = output.logits[tokens].float().log_softmax(dim=-1)
        labels = torch.multinomial(log_p.detach().exp().cpu(), 1, generator=draw).to(log_p.device)
        likelihood = log_p.gather(1, labels).sum()
    return dict(
        zip(parameters, torch.autograd.grad(likelihood, list(parameters.values()), materialize_grads=True), strict=True)
    )
