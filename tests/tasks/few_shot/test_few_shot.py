from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import small
from tests.baselines.toys import predict
from tests.tasks.few_shot.examples import FORMS, LABELS, benchmark, example

from esmerge.calibration.statistics.entropy import label_loglikelihoods
from esmerge.core.errors import ConfigError, InputError
from esmerge.core.prompts import Answer, Benchmark, Entity
from esmerge.model.prompt_encoder import IGNORED, PromptEncoder
from esmerge.model.scoring import score
from esmerge.probe.responses import collect
from esmerge.tasks.api import BenchmarkRequest
from esmerge.tasks.few_shot.few_shot import FewShot, content, with_shots

TOP = ("molecule", "cell")


def ask(shots: int = 2, **changes: Any) -> BenchmarkRequest:
    return BenchmarkRequest(**{"name": "toy", "language": "english", "seed": 0, "shots": shots, **changes})


def add_shots(bare: Benchmark, **changes: Any) -> Benchmark:
    return with_shots(bare, ask(**changes))


def test_a_prompt_by_hand() -> None:
    train = (
        example("far", TOP, ("c1ccccc1", "CD4"), 1),
        example("near", TOP, ("CCO", "ALB TTR"), 0),
        example("other", TOP, ("CCO", "GFAP"), 0),
    )
    question = example("q", TOP, ("CCN", "ALB TTR"))
    bare = Benchmark("toy", "Toy", "cross_modal", LABELS, train, (), (question,), "")
    (few_shot,) = add_shots(replace(bare, train=train[:2])).test
    assert few_shot.prompt == (
        *("molecule : ", Entity("molecule", "c1ccccc1"), " ; ", "cell : ", Entity("cell", "CD4"), " ; ", "?"),
        *(" yes", "\n\n"),
        *("molecule : ", Entity("molecule", "CCO"), " ; ", "cell : ", Entity("cell", "ALB TTR"), " ; ", "?"),
        *(" no", "\n\n"),
        *question.prompt,
    )
    assert isinstance(few_shot, FewShot) and few_shot.shots == ("far", "near") and few_shot.question == question.prompt
    assert (few_shot.id, few_shot.labels, few_shot.answer, few_shot.group) == (question.id, LABELS, question.answer, "")


@settings(max_examples=30, deadline=None)
@given(form=st.sampled_from(FORMS), seed=st.integers(0, 1000), count=st.integers(1, 3))
def test_every_question_follows_solved_training_examples(form: tuple[str, ...], seed: int, count: int) -> None:
    bare = benchmark(form, train=3, seed=seed)
    few_shot = add_shots(bare, shots=min(count, len(bare.train)), shot_separator=" ## ")
    solved = {instance.id: instance for instance in bare.train}
    held_out = {content(instance) for instance in (*bare.test, *bare.validation)}
    assert few_shot.train == bare.train
    for before, after in zip((*bare.test, *bare.validation), (*few_shot.test, *few_shot.validation), strict=True):
        segments = after.prompt
        for name in after.shots:
            shot = solved[name]
            assert content(shot) not in held_out
            start = (*shot.prompt, shot.labels[shot.answer], " ## ")
            assert segments[: len(start)] == start
            segments = segments[len(start) :]
        assert segments == before.prompt and len(set(after.shots)) == len(after.shots) == min(count, len(bare.train))
        assert after.entities() == before.entities() and content(after) == content(before)
        assert not any(isinstance(segment, Answer) for segment in after.prompt)


def test_no_shots_leave_a_benchmark_as_it_is() -> None:
    bare = benchmark(TOP)
    assert with_shots(bare, ask(0)) is bare


def test_languages_have_their_separators() -> None:
    for language, separator in (("english", "\n\n"), ("brief", "\n\n"), ("textbook", " ; ")):
        assert separator in add_shots(benchmark(TOP), language=language).test[0].prompt
    with pytest.raises(ConfigError, match="only english, brief, textbook have one, not 'latin'"):
        add_shots(benchmark(TOP), language="latin")
    assert " | " in add_shots(benchmark(TOP), language="latin", shot_separator=" | ").test[0].prompt


def test_a_training_example_that_asks_a_held_out_question_is_never_shown() -> None:
    bare = benchmark(("molecule", "molecule"))
    first, second = (entity.value for entity in bare.test[0].entities())
    leak = example("leak", ("molecule", "molecule"), (second, first))
    with pytest.raises(InputError, match=f"'toy': training example leak asks the same as .* {bare.test[0].id}"):
        add_shots(replace(bare, train=(*bare.train, leak)), shots=1)
    first, second = (entity.value for entity in bare.validation[0].entities())
    leak = example("leak", ("molecule", "molecule"), (first, second))
    with pytest.raises(InputError, match=f"leak asks the same as held-out question {bare.validation[0].id}"):
        add_shots(replace(bare, train=(*bare.train, leak)), shots=1)


def test_an_error_names_the_benchmark() -> None:
    with pytest.raises(ConfigError, match="^benchmark 'toy': benchmark.shots=99, but the training split holds 12"):
        add_shots(benchmark(TOP), shots=99)


@pytest.fixture(scope="module")
def prompt_encoder() -> PromptEncoder:
    body = small.backbone(layers=2)
    return PromptEncoder(body, {name: small.TableEncoder(name, 16) for name in ("molecule", "protein")})


@pytest.mark.parametrize("form", FORMS, ids="+".join)
def test_shots_are_rendered_as_they_would_be_alone(prompt_encoder: PromptEncoder, form: tuple[str, ...]) -> None:
    bare = benchmark(form, train=3)
    for question, few_shot in zip(bare.test, add_shots(bare, language="textbook").test, strict=True):
        solved = {entry.id: entry for entry in bare.train}
        parts = [(*solved[name].prompt, solved[name].labels[solved[name].answer], " ; ") for name in few_shot.shots]
        (encoding,), encodings = (
            prompt_encoder.encode([few_shot.prompt]),
            prompt_encoder.encode([*parts, question.prompt]),
        )
        offset, ids, spans, soft = 0, [prompt_encoder.backbone.start_id], [], []
        for entry in encodings:
            ids += entry.ids[1:]
            spans += [(s.modality, s.start + offset, s.stop + offset) for s in entry.spans]
            soft += [(start + offset, tokens) for start, tokens in entry.soft]
            offset += len(entry.ids) - 1
        assert encoding.ids == ids and [(s.modality, s.start, s.stop) for s in encoding.spans] == spans
        assert set(encoding.targets) == {IGNORED}
        for (position, ours), (expected_position, theirs) in zip(encoding.soft, soft, strict=True):
            assert position == expected_position and torch.equal(ours, theirs)
        assert len(encoding.spans) == len(form) * 3


def test_questions_with_shots_are_scored_measured_and_probed() -> None:
    specialists = small.specialists({"chem": "molecule", "bio": "cell"})
    bare = benchmark(TOP, train=3)
    few_shot = add_shots(bare, language="textbook")
    one_by_one = torch.cat([score(specialists.prompt_encoder, [question], 1).loglik for question in few_shot.test])
    batched = score(specialists.prompt_encoder, few_shot.test, 4).loglik
    assert torch.allclose(batched, one_by_one, atol=1e-5)
    assert not torch.allclose(batched, score(specialists.prompt_encoder, bare.test, 4).loglik, atol=1e-5)
    measured = torch.stack(label_loglikelihoods(specialists.prompt_encoder, few_shot.test)).double()
    assert torch.allclose(measured, batched, atol=1e-5)
    signals = collect(specialists, [question.prompt for question in few_shot.test], 2, "factors")
    assert signals.backbone["molecule"].shape[1] == 3 * len(few_shot.test), "a response per entity, shots among them"


def test_floors_see_the_question_alone() -> None:
    bare = benchmark(TOP, train=20, test=6)
    for floor in ("majority", "drug_only", "partner_only"):
        before, after = (predict(floor, dataset) for dataset in (bare, add_shots(bare, shots=3)))
        assert before.equals(after)
