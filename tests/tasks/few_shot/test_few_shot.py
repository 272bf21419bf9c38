from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem
from tests import small
from tests.baselines.toys import predict
from tests.tasks.few_shot.examples import FORMS, LABELS, benchmark, example

from esmerge.calibration.statistics.entropy import label_loglikelihoods
from esmerge.core.compose import compose_choice
from esmerge.core.errors import ConfigError
from esmerge.core.prompts import Answer, Benchmark, Entity, Example
from esmerge.model.prompt_encoder import IGNORED, PromptEncoder
from esmerge.model.scoring import score
from esmerge.probe.responses import collect
from esmerge.tasks.api import BenchmarkRequest, SuiteRequest
from esmerge.tasks.few_shot.content import content
from esmerge.tasks.few_shot.few_shot import FewShot, with_shots
from esmerge.tasks.load import load_benchmark

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
    assert few_shot.train == bare.train
    for before, after in zip((*bare.test, *bare.validation), (*few_shot.test, *few_shot.validation), strict=True):
        segments = after.prompt
        for name in after.shots:
            shot = solved[name]
            assert content(shot) != content(before)
            start = (*shot.prompt, shot.labels[shot.answer], " ## ")
            assert segments[: len(start)] == start
            segments = segments[len(start) :]
        assert segments == before.prompt and len(set(after.shots)) == len(after.shots) == min(count, len(bare.train))
        assert after.entities() == before.entities() and after.question == before.prompt
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


def test_a_training_example_that_asks_the_question_in_another_form_is_not_shown_before_it() -> None:
    form = ("molecule", "protein")
    train = (
        *(
            example(name, form, (drug, "MKTAYIAK"))
            for name, drug in (("a", "CCN.Cl"), ("b", "C[C@H](N)O"), ("c", "CCC"))
        ),
        *(example(name, form, (drug, "GAVLI")) for name, drug in (("d", "CCN"), ("e", "CC(N)O"))),
    )
    questions = (example("q", form, ("CCN", "MKTAYIAK")), example("r", form, ("C[C@@H](N)O", "MKTAYIAK")))
    bare = Benchmark("toy", "Toy", "cross_modal", LABELS, train, (), questions, "")

    def shown(rule: str, shots: int) -> list[set[str]]:
        return [set(question.shots) for question in with_shots(bare, ask(shots), rule).test]

    assert shown("connectivity", 4) == [{"b", "c", "d", "e"}, {"a", "c", "d", "e"}]
    assert shown("parent", 4) == [{"b", "c", "d", "e"}, {"a", "b", "c", "e"}], "b is another isomer"
    assert shown("exact", 5) == [set("abcde")] * 2
    with pytest.raises(
        ConfigError, match="'toy': benchmark.shots=5, but of 5 training examples 1 ask the same as .* q"
    ):
        shown("connectivity", 5)


def test_a_twin_is_left_out_in_any_order_and_told_by_its_words() -> None:
    pair = ("molecule", "molecule")
    train = tuple(example(name, pair, values) for name, values in (("a", ("CCN", "CCO")), ("b", ("CCO", "CCO"))))
    bare = Benchmark("toy", "Toy", "cross_modal", LABELS, train, (), (example("q", pair, ("CCO", "CCN.Cl")),), "")
    assert with_shots(bare, ask(1)).test[0].shots == ("b",)  # type: ignore[attr-defined]
    described = tuple(
        Example(name, (f"{drug} binds ", Entity("protein", "MKTAY"), " ?"), LABELS, 0)
        for name, drug in (("a", "aspirin"), ("b", "ibuprofen"))
    )
    bare = replace(bare, train=described, test=(replace(described[0], id="q"),))
    assert with_shots(bare, ask(1)).test[0].shots == ("b",)  # type: ignore[attr-defined]


def test_no_form_of_a_question_is_solved_before_it(write: Callable[[str, str], Path]) -> None:
    # The rule's own answer to "same molecule", parent, beside InChI's: the first block of its key, of the free base.
    rng = np.random.default_rng(0)
    chains = [f"{'C' * length}{tail}" for length in range(1, 25) for tail in ("N", "OC", "CC(N)C", "CNC")]
    rows = [
        f"{smiles}{salt},{protein},{rng.integers(2)}\n"
        for smiles in chains
        for protein in ("MKTAYIAK", "GAVLIGAV")
        for salt in ("", ".Cl")
    ]
    path = write("dti_human/human_random.csv", "SMILES,sequence,label\n" + "".join(rows))
    settings = {**compose_choice("benchmark", "human"), "root": str(path.parents[1]), "split": "random", "shots": 3}
    loaded = load_benchmark(SuiteRequest(("human",), settings, "english", 0), "human")
    solved = {entry.id: entry for entry in loaded.train}

    def key(entry: Example) -> tuple[str, str]:
        molecule, protein = (entity.value for entity in entry.entities())
        return Chem.MolToInchiKey(Chem.MolFromSmiles(molecule.removesuffix(".Cl").removeprefix("Cl.")))[:14], protein

    assert len(loaded.test) > 40
    assert len({key(entry) for entry in loaded.test} & {key(entry) for entry in loaded.train}) > 10
    for question in loaded.test:
        assert isinstance(question, FewShot) and key(question) not in {key(solved[name]) for name in question.shots}


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
