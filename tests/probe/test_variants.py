"""What each probe variant shows: how many prompts, of what, in which order, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import small

from esmerge.core.errors import ConfigError, InputError
from esmerge.core.prompts import Entity, Prompt
from esmerge.probe.api import PROBES
from esmerge.probe.prompts import ProbeSettings
from esmerge.probe.responses import collect
from esmerge.probe.stored import load_signals, probed_spaces, record_signals
from esmerge.probe.variants.authors import CLOSING, OPENING, AuthorsProbe, authors
from esmerge.probe.variants.mixed import mixed
from esmerge.probe.variants.shuffled import shuffled
from esmerge.probe.variants.single import single
from esmerge.probe.variants.text import TextProbe, text
from esmerge.specialists.specialists import Specialists

THREE = {"mol": "molecule", "prot": "protein", "gene": "cell"}


@pytest.fixture(scope="module")
def specialists() -> Specialists:
    return small.specialists(THREE)


def modalities(segments: Prompt) -> list[str]:
    return [segment.modality for segment in segments if isinstance(segment, Entity)]


def test_mixed_holds_every_modality_in_the_specialists_order(specialists: Specialists) -> None:
    prompts = mixed(ProbeSettings(samples=7), specialists, 0)
    assert [modalities(segments) for segments in prompts] == [["molecule", "protein", "cell"]] * 7
    first = prompts[0]
    assert first[0] == "drug : " and first[2] == " ; " and first[3] == "protein : "


def test_entities_come_from_the_pool_each_as_often_as_the_others(specialists: Specialists) -> None:
    prompts = mixed(ProbeSettings(samples=9), specialists, 0)
    proteins = [
        segment.value for segments in prompts for segment in segments if getattr(segment, "modality", "") == "protein"
    ]
    assert {value: proteins.count(value) for value in specialists.pool["protein"]} == dict.fromkeys(
        specialists.pool["protein"], 3
    )


def test_single_holds_one_modality_and_k_prompts_of_each(specialists: Specialists) -> None:
    prompts = single(ProbeSettings(samples=4), specialists, 0)
    assert [modalities(segments) for segments in prompts] == [["molecule"]] * 4 + [["protein"]] * 4 + [["cell"]] * 4


def test_shuffled_holds_the_same_entities_as_mixed_in_varying_orders(specialists: Specialists) -> None:
    settings = ProbeSettings(samples=12)
    shuffled_prompts, mixed_prompts = shuffled(settings, specialists, 0), mixed(settings, specialists, 0)
    entities = [
        [{p for p in segments if isinstance(p, Entity)} for segments in prompts]
        for prompts in (shuffled_prompts, mixed_prompts)
    ]
    assert entities[0] == entities[1]
    orders = {tuple(modalities(segments)) for segments in shuffled_prompts}
    assert len(orders) > 1 and all(sorted(order) == sorted(specialists.modalities) for order in orders)


@pytest.mark.parametrize("variant", [mixed, single, shuffled])
def test_the_seed_decides(specialists: Specialists, variant: object) -> None:
    settings = ProbeSettings(samples=6)
    assert variant(settings, specialists, 1) == variant(settings, specialists, 1)  # type: ignore[operator]
    assert variant(settings, specialists, 1) != variant(settings, specialists, 2)  # type: ignore[operator]


@pytest.mark.parametrize("name", ["samples", "batch_size"])
def test_sizes_below_one_are_refused(name: str) -> None:
    for schema in (ProbeSettings, TextProbe, AuthorsProbe):
        with pytest.raises(ConfigError, match=f"probe.{name}=0: expected"):
            schema(**{name: 0})


def written(folder: Path, *lines: object) -> str:
    path = folder / "probe.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return str(path)


SAMPLE = {"gene": "ALB TTR", "mol": "CCO", "prot": "MKTAY"}


def test_text_puts_each_experts_line_in_the_experts_order(specialists: Specialists, tmp_path: Path) -> None:
    prompts = text(TextProbe(file=written(tmp_path, SAMPLE, "", {**SAMPLE, "mol": "CCN"})), specialists, 0)
    assert len(prompts) == 2, "blank lines are no samples"
    assert prompts[0] == (
        *("mol: ", Entity("molecule", "CCO"), "\n"),
        *("prot: ", Entity("protein", "MKTAY"), "\n"),
        *("gene: ", Entity("cell", "ALB TTR"), "\n"),
    )
    assert len(text(TextProbe(file=written(tmp_path, SAMPLE, SAMPLE, SAMPLE), samples=2), specialists, 0)) == 2


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([SAMPLE, {"mol": "CCO", "prot": "MKTAY"}], r"line 2 has no text for expert 'gene'"),
        ([{**SAMPLE, "mol": "  "}], r"line 1 has no text for expert 'mol'"),
        ([{**SAMPLE, "mol": 3}], r"line 1 has no text for expert 'mol'"),
        ([SAMPLE, "{not json"], r"line 2 is not JSON"),
        (["[1, 2]"], r"line 1 is a list: expected an object"),
        ([], r"holds no samples"),
        (["", "  "], r"holds no samples"),
    ],
)
def test_bad_probe_files_are_refused_by_sample(
    specialists: Specialists, tmp_path: Path, lines: list, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        text(TextProbe(file=written(tmp_path, *lines)), specialists, 0)


def test_the_line_is_counted_as_an_editor_does(specialists: Specialists, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 3"):
        text(TextProbe(file=written(tmp_path, SAMPLE, "", "{not json")), specialists, 0)


def test_a_missing_probe_file_is_named(specialists: Specialists, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere.jsonl does not exist"):
        text(TextProbe(file=str(tmp_path / "nowhere.jsonl")), specialists, 0)
    with pytest.raises(ConfigError, match="probe=text needs probe.file"):
        text(TextProbe(), specialists, 0)
    with pytest.raises(ConfigError, match="is a folder"):
        text(TextProbe(file=str(tmp_path)), specialists, 0)


AUTHORS = {
    "files": {"molecule": "drug.txt", "protein": "protein.txt", "cell": "cell_line.txt"},
    "labels": {"molecule": "Molecule", "protein": "Protein", "cell": "Cell"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "drug.txt").write_text("=== drugs ===\nCCO\n\nCCN\nCCC\n")
    (tmp_path / "protein.txt").write_text("MKTAY\r\nMKV\r\nMA")
    (tmp_path / "cell_line.txt").write_text("ALB TTR\nCD4\n")
    return tmp_path


def test_the_authors_prompts_are_their_lines_one_by_one_in_a_users_turn(specialists: Specialists, folder: Path) -> None:
    reading = replace(specialists, encoders={})
    first, second = authors(AuthorsProbe(str(folder), None, **AUTHORS), reading, 0)
    molecule, protein, cell = (
        ("Molecule:", Entity("molecule", " CCO"), "\n"),
        ("Protein:", Entity("protein", " MKTAY"), "\n"),
        ("Cell:", Entity("cell", " ALB TTR"), "\n"),
    )
    assert first == (OPENING + molecule[0], *molecule[1:], *protein, *cell[:2], "\n" + CLOSING), "all are read as text"
    assert [item.value for item in second if isinstance(item, Entity)] == [" CCN", " MKV", " CD4"]
    perceiving = replace(
        small.specialists({"gene": "cell", "mol": "molecule"}),
        encoders={"molecule": small.TableEncoder("molecule", 16)},
    )
    (plain,) = authors(AuthorsProbe(str(folder), 1, **AUTHORS, opening="", closing=""), perceiving, 5)
    assert plain == ("Molecule: ", Entity("molecule", "CCO"), "\n", *cell)


def test_a_folder_that_is_not_the_authors_is_refused(specialists: Specialists, folder: Path) -> None:
    def ask(**settings: object) -> list[Prompt]:
        node: dict[str, Any] = {"folder": str(folder), "samples": 2, **AUTHORS, **settings}
        return authors(AuthorsProbe(**node), specialists, 0)

    assert len(ask()) == 2
    with pytest.raises(InputError, match=r"cell_line.txt holds 2 entities: expected probe.samples=3 or more"):
        ask(samples=3)
    with pytest.raises(ConfigError, match="probe=authors needs probe.folder: one that holds drug.txt"):
        ask(folder=None)
    with pytest.raises(ConfigError, match="probe.files names no file for cell"):
        ask(files={"molecule": "drug.txt", "protein": "protein.txt"})
    with pytest.raises(ConfigError, match="probe.labels has no word for cell"):
        ask(labels={"molecule": "Molecule", "protein": "Protein"})
    (folder / "protein.txt").unlink()
    with pytest.raises(ConfigError, match="has no protein.txt: expected one text a line"):
        ask()
    (folder / "protein.txt").write_text("\n")
    with pytest.raises(InputError, match="protein.txt holds 0 entities"):
        ask(samples=None)


def test_one_pass_scores_both_spaces(specialists: Specialists, tmp_path: Path) -> None:
    prompts = PROBES.get("mixed").function(ProbeSettings(samples=3), specialists, 0)
    assert probed_spaces(specialists, "delta") == probed_spaces(specialists, "factors") == ["factors", "delta"]
    record_signals(specialists, prompts, 2, ["factors", "delta"], "absolute", tmp_path)
    signals = load_signals(tmp_path)
    for space in ("factors", "delta"):
        expected = collect(specialists, prompts, 2, space)
        for expert in expected.experts:
            assert all(
                torch.equal(signals.scores[expert][key], value) for key, value in expected.scores[expert].items()
            )
            assert all(
                torch.equal(signals.responses[expert][m][:], expected.responses[expert][m]) for m in expected.modalities
            )


def test_dense_scores_too_large_to_keep_unasked_are_made_for_delta_alone(specialists: Specialists) -> None:
    assert [probed_spaces(specialists, space, most=1) for space in ("delta", "factors")] == [["delta"], ["factors"]]


@pytest.mark.parametrize("name", ["mixed", "single", "shuffled", "text"])
@pytest.mark.parametrize("space", ["factors", "delta"])
def test_signals_of_every_variant_survive_the_disk(
    specialists: Specialists, tmp_path: Path, name: str, space: str
) -> None:
    entry = PROBES.get(name)
    settings = TextProbe(file=written(tmp_path, SAMPLE)) if name == "text" else ProbeSettings(samples=1)
    prompts = entry.function(settings, specialists, 0)
    signals = collect(specialists, prompts, 2, space)
    record_signals(specialists, prompts, 2, [space], "absolute", tmp_path)
    loaded = load_signals(tmp_path)
    assert (loaded.experts, loaded.modalities, loaded.own) == (signals.experts, signals.modalities, signals.own)
    assert all((loaded.backbone[m][:] == signals.backbone[m]).all() for m in signals.modalities)
    for expert in signals.experts:
        assert all((loaded.responses[expert][m][:] == signals.responses[expert][m]).all() for m in signals.modalities)
        assert list(sorted(loaded.scores[expert])) == sorted(signals.scores[expert])
        assert all((loaded.scores[expert][key] == value).all() for key, value in signals.scores[expert].items())


def test_a_quantised_backbone_scores_the_asked_space_alone(specialists: Specialists) -> None:
    specialists.backbone.model.register_parameter(
        "packed", torch.nn.Parameter(torch.zeros(2, dtype=torch.uint8), requires_grad=False)
    )
    assert probed_spaces(specialists, "factors") == ["factors"]
