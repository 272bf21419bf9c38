"""A benchmark whose questions follow solved examples.

=============================  ==================  ===================================================================
a question holds               ``auto`` chooses    order of the training examples
=============================  ==================  ===================================================================
a molecule, a fixed protein    nearest_molecule    Tanimoto
a molecule and a protein       same_protein        same protein; k-mer Jaccard; then Tanimoto
a molecule and a cell          same_cell           same cell; gene-set Jaccard; then Tanimoto
molecules (and a cell)         nearest_pair        same cell; mean Tanimoto in the better order; gene-set Jaccard
one entity, or anything else   nearest_entity      mean of the modalities' similarities
=============================  ==================  ===================================================================

Prompts grow: with k examples a prompt has about k + 1 times the tokens of the bare question, for text and soft tokens
alike, so scoring takes at least k + 1 times as long and needs more memory per prompt. Keep it within the context
window of the backbone (``benchmark.protein_window`` shortens proteins that are read as text), and lower
``compute.batch_size`` accordingly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from esmerge.core.errors import BenchError, ConfigError
from esmerge.core.prompts import Benchmark, Entity, Example, Prompt
from esmerge.data.identity import STRICTEST
from esmerge.data.templates import BRIEF, ENGLISH, few_shot
from esmerge.tasks.api import BenchmarkRequest
from esmerge.tasks.few_shot.choose import choose_shots

SEPARATORS = {ENGLISH: "\n\n", BRIEF: "\n\n", "textbook": " ; "}  # the textbook's own texts put " ; " between answers


@dataclass(frozen=True)
class FewShot(Example):
    """A question after solved examples; ``prompt`` holds all of it.

    Attributes:
        question: the segments of the question alone.
        shots: ids of the training examples before it, in their order.
    """

    question: Prompt = ()
    shots: tuple[str, ...] = ()

    def entities(self, modality: str | None = None) -> tuple[Entity, ...]:
        """The entities of the question, without those of the solved examples."""
        entities = (segment for segment in self.question if isinstance(segment, Entity))
        return tuple(entity for entity in entities if modality in (None, entity.modality))


def with_shots(benchmark: Benchmark, request: BenchmarkRequest, rule: str = STRICTEST) -> Benchmark:
    """Put ``request.shots`` solved training examples before every test and validation question.

    Examples come from ``benchmark.train``: where ``train_limit`` sampled it, from the sample, which holds fewer near
    examples than the whole split. Training questions stay bare. An example that asks the same as a question, in any
    form of its molecules, is not shown before it, since its answer would be the question's.

    Args:
        rule: which molecules are one (``esmerge.data.identity``).

    Raises:
        ConfigError: more shots than training examples that differ from a question, or a rule of choice or language
            that does not fit.
        InputError: examples that cannot be compared.
    """
    if not request.shots:
        return benchmark
    separator = _separator(request)
    questions = (*benchmark.test, *benchmark.validation)
    try:
        selection = choose_shots(questions, benchmark.train, request.shots, request.shot_choice, request.seed, rule)
    except BenchError as error:
        raise type(error)(f"benchmark {benchmark.name!r}: {error}") from error
    examples = [_few_shot(question, shots, separator) for question, shots in zip(questions, selection, strict=True)]
    cut = len(benchmark.test)
    return replace(benchmark, test=tuple(examples[:cut]), validation=tuple(examples[cut:]))


def _few_shot(question: Example, shots: tuple[Example, ...], separator: str) -> FewShot:
    prompt = few_shot(question.prompt, [(shot.prompt, shot.labels[shot.answer]) for shot in shots], separator)
    ids = tuple(shot.id for shot in shots)
    return FewShot(**vars(replace(question, prompt=prompt)), question=question.prompt, shots=ids)


def _separator(request: BenchmarkRequest) -> str:
    if request.shot_separator is not None:
        return request.shot_separator
    if request.language not in SEPARATORS:
        raise ConfigError(
            f"benchmark.shot_separator is null, and only {', '.join(SEPARATORS)} have one, not {request.language!r}: "
            "give the text between solved examples"
        )
    return SEPARATORS[request.language]
