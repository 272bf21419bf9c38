"""How each specialist's embedding space responds to the probe: one prefill per model, one layer in memory at a time.

The gradient of layer l's loss with respect to layer l's own parameters needs only that layer's backward pass. So each
layer's input is detached, the layer runs with gradients, its loss is differentiated, and its graph is dropped before
the next layer runs. The numbers are those of the whole retained graph, at the activation memory of one layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge

from esmerge.coefficients.types import Signals
from esmerge.core.errors import AdapterError
from esmerge.core.progress import progress
from esmerge.core.prompts import Prompt
from esmerge.model.linear_layers import routes_positions
from esmerge.probe.execution import DEFAULT, Execution, suited
from esmerge.probe.layout import Layout, Parameters, response_key, score_key, scored_parameters, signals_of
from esmerge.probe.linear import Scores
from esmerge.probe.lockstep import run
from esmerge.probe.packing import PackedBatch, packed_batches
from esmerge.probe.span_index import SpanIndex
from esmerge.probe.store import MemoryStore, Store
from esmerge.specialists.specialists import Specialists

OpenStore = Callable[[Layout], Store]


def collect(
    specialists: Specialists,
    prompts: Sequence[Prompt],
    batch_size: int,
    space: str,
    score: str = "absolute",
    execution: Execution | None = None,
) -> Signals:
    """Pooled responses of the backbone and every expert, and every expert's gradient scores, in memory.

    Args: as of ``record``, for one merge space; without ``execution`` the block sizes that suit the device.

    Raises:
        InputError: a modality of the specialists is in no prompt.
    """
    stores: list[MemoryStore] = []

    def in_memory(layout: Layout) -> Store:
        stores.append(MemoryStore(layout.shapes, specialists.backbone.device))
        return stores[0]

    execution = execution or suited(specialists.backbone.device)
    layout = record(specialists, prompts, batch_size, [space], score, in_memory, execution)
    return signals_of(layout.names(), stores[0].finished())


def record(
    specialists: Specialists,
    prompts: Sequence[Prompt],
    batch_size: int,
    spaces: Sequence[str],
    score: str,
    open_store: OpenStore,
    execution: Execution = DEFAULT,
) -> Layout:
    """Read the probe once and leave every signal in a store.

    All models read the same input embeddings (arXiv 2603.14405, embedding responses).

    Args:
        prompts: from a probe variant; every modality of the specialists must occur.
        batch_size: prompts that share a loss; the score depends on it.
        spaces: ``factors`` scores the entries of A and B, ``delta`` those of the dense update; several in one pass.
        score: ``absolute`` adds |gradient| over batches, ``squared`` its square.
        open_store: layout -> the store that signals are written to.
        execution: block sizes.

    Raises:
        InputError: a modality of the specialists is in no prompt.
    """
    with specialists.backbone.attached(specialists.adapters), progress("probe", len(prompts)) as bar:
        parameters = scored_parameters(specialists, spaces)
        layout = Layout.of(specialists, prompts, parameters)
        recorder = _Recorder(specialists, parameters, score, open_store(layout), execution)
        with _requiring_grad(parameters):
            positions = 0 if routes_positions(specialists.backbone.layers()) else execution.positions
            for packed in packed_batches(specialists.prompt_encoder, prompts, batch_size, positions):
                experts, scores = list(specialists.adapters), recorder.begin(packed)
                run(specialists.backbone, packed.batch, experts, recorder, scores, execution.direct)
                bar.update(sum(packed.sizes))
    return layout


class _Recorder:
    """Takes pooled responses and gradient scores from the layers' outputs to the store."""

    def __init__(
        self, specialists: Specialists, parameters: Parameters, score: str, store: Store, execution: Execution
    ) -> None:
        self._specialists, self._parameters, self._score, self._store = specialists, parameters, score, store
        self._entries = execution.entries
        self._span_counts = dict.fromkeys(specialists.modalities, 0)  # spans of each modality before this pass
        self._span_index, self._scores = SpanIndex({}, {}, {}), Scores(score, [])

    def begin(self, packed: PackedBatch) -> Scores:
        """Begin a pass; returns where its backward passes leave their scores."""
        for modality, weights in self._span_index.means.items():
            self._span_counts[modality] += len(weights)
        self._span_index = SpanIndex.of(packed, self._specialists.modalities)
        self._scores = Scores(self._score, packed.ends(), self._entries)
        return self._scores

    def backbone(self, layer: int, hidden: Tensor) -> None:
        self._respond(layer, None, hidden)

    def expert(self, layer: int, name: str, hidden: Tensor, reference: Tensor) -> None:
        self._respond(layer, name, hidden)
        parameters = self._parameters[name].get(layer, {})
        modality = self._specialists.expert_modality[name]
        if not parameters or modality not in self._span_index.tokens:
            return
        loss = self._span_index.loss(modality, hidden, reference)  # loss[l] of the paper's element-wise section
        scale = self._span_index.scale(modality, hidden, reference)
        (loss if scale is None else scale * loss).backward(inputs=list(parameters.values()))
        _refuse_gradients(parameters)
        zero = torch.zeros((), device=hidden.device)  # the score of what nothing went through
        scores = [self._scores.by_weight.get(p, zero.expand(p.shape)) for p in parameters.values()]
        if scale is not None:
            scores = [values / (scale if self._score == "absolute" else scale.square()) for values in scores]
        self._scores.by_weight.clear()
        self._store.add([score_key(name, key) for key in parameters], scores)

    def _respond(self, layer: int, model: str | None, hidden: Tensor) -> None:
        for modality, rows in self._span_index.pooled(hidden).items():
            self._store.write_rows(response_key(model, modality), layer, self._span_counts[modality], rows)


def _refuse_gradients(parameters: Mapping[str, nn.Parameter]) -> None:
    """A scored weight has no gradient, unless something other than a linear map has used it."""
    used = [key for key, parameter in parameters.items() if parameter.grad is not None]
    for key in used:
        parameters[key].grad = None
    if used:
        raise AdapterError(f"{', '.join(used)} is used otherwise than by a linear map: its entries cannot be scored")


@contextmanager
def _requiring_grad(parameters: Parameters) -> Iterator[None]:
    """Dense updates are scored through the backbone's own weights; the adapters' are switched on with them.

    The nodes that would accumulate their gradients are held as long: if every backward pass made them anew, these small
    blocks would settle between the large ones and fragment memory, the more the more layers there are.
    """
    flat: list[nn.Parameter] = [
        p for layers in parameters.values() for entry in layers.values() for p in entry.values()
    ]
    before = [parameter.requires_grad for parameter in flat]
    for parameter in flat:
        parameter.requires_grad_(True)
    edges = [get_gradient_edge(parameter) for parameter in flat]
    try:
        yield
    finally:
        edges.clear()
        for parameter, flag in zip(flat, before, strict=True):
            parameter.requires_grad_(flag)
