"""The tidy tables of the figures, against numbers that the stored runs were made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from tests.report.synthetic import LABELS, RECORDS, add_run, predictions, seal, usual_sweep

from esmerge.coefficients.types import LayerDistances
from esmerge.evaluation.answers import read_answers
from esmerge.evaluation.metrics import point_values
from esmerge.report.figures import RECIPES, write_figures
from esmerge.report.load import load_sweep
from esmerge.report.stored_answers import StoredAnswers
from esmerge.report.tidy.accuracies import cost_points, methods_table, retention_table, sensitivity_table
from esmerge.report.tidy.answers import MOST_AGREEING, agreement_table, best_shown, bins, calibration_table, scored
from esmerge.report.tidy.signals import distances_table, elements_table, module_of

MEASURED = LayerDistances(("a", "b"), ("x", "y"), (0, 1), torch.tensor([[[1.0, 3.0], [2, 2]], [[0, 1], [5, 4]]]))


def test_distances_of_a_probe_are_read_once_for_each_seed(tmp_path: Path) -> None:
    for seed in (0, 1):
        for granularity in ("layer", "joint"):
            run = add_run(
                tmp_path, f"{granularity}{seed}", "es", 0.6, seed=seed, n=20, granularity=granularity, probe="mixed"
            )
            run.write_layer_distances(MEASURED.rows())
    table = distances_table(load_sweep(tmp_path))
    assert len(table) == 2 * 2 * 2 * 2 and set(table["probe"]) == {"textbook, mixed"}
    first = table[(table["seed"] == "0") & (table["expert"] == "b") & (table["modality"] == "y")]
    assert first["own"].all() and list(first["distance"]) == [5, 4] and list(first["increment"]) == [5, -1]
    assert not table[(table["expert"] == "b") & (table["modality"] == "x")]["own"].any()


def test_elements_are_quantiles_of_a_modules_entries(tmp_path: Path) -> None:
    run = add_run(tmp_path, "joint", "es", 0.6, n=20, granularity="joint")
    values = torch.rand(300, 400, generator=torch.Generator().manual_seed(0))
    coefficients = {
        "a.layer": torch.ones(2),
        "a.base.layers.0.self_attn.q_proj.lora_A.weight": torch.full((4, 5), 0.25),
    }
    coefficients |= {"a.base.layers.0.self_attn.q_proj.lora_B.weight": torch.full((5, 4), 0.75)}
    save_file({**coefficients, "a.base.layers.1.mlp.up_proj.delta": values}, run.coefficients)
    table = elements_table(load_sweep(tmp_path)).set_index(["module", "layer"])
    assert table.loc[("q_proj", 0), ["q25", "q50", "q75"]].tolist() == [0.25, 0.5, 0.75]
    np.testing.assert_allclose(table.loc[("up_proj", 1), ["q05", "q50", "q95"]].tolist(), [0.05, 0.5, 0.95], atol=0.02)
    assert module_of("base.layers.3.self_attn.k_proj.lora_B.weight") == "k_proj"


def test_methods_and_retention_agree_with_the_table(one_seed: Path) -> None:
    sweep = load_sweep(one_seed)
    methods = methods_table(sweep)
    ties = methods[(methods["title"] == "TIES (delta)") & methods["panel"].str.startswith("Retention")]
    singles = ties[ties["benchmark"] != ""]["value"]
    assert len(singles) == 2 and ties[ties["benchmark"] == ""]["value"].item() == pytest.approx(singles.mean())
    retention = retention_table(sweep).set_index("title")
    assert retention.loc["TIES (delta)", "x"] == pytest.approx(singles.mean())
    assert len(retention) == len(sweep.rows)


def test_costs_are_the_sum_of_measuring_and_merging(tmp_path: Path) -> None:
    run = add_run(tmp_path, "average", "average", 0.6, n=20)
    cost = {"seconds": 1.5, "memory": None}
    run.write_costs({"measuring": cost, "merging": cost})
    add_run(tmp_path, "base", "base", 0.5, n=20)
    assert cost_points(load_sweep(tmp_path))[["title", "x", "kind"]].to_numpy().tolist() == [["Average", 3.0, "merge"]]


def test_sensitivity_groups_runs_that_differ_in_one_number(tmp_path: Path) -> None:
    for temperature in (0.1, 0.5):
        for scale in (1.0, 2.0):
            config = {"granularity": {"temperature": temperature}, "method": {"scale": scale, "name": "es"}}
            add_run(tmp_path, f"es{temperature}{scale}", "es", 0.6 + 0.1 * scale, n=50, config=config)
    table = sensitivity_table(load_sweep(tmp_path))
    assert table.groupby("setting").size().to_dict() == {"granularity.temperature": 4, "method.scale": 4}
    scales = table[(table["setting"] == "method.scale") & (table["method"] == "ES-Merging, temperature=0.5")]
    assert dict(zip(scales["value"], scales["y"].round(3), strict=True)) == {1.0: 0.7, 2.0: 0.8}


def test_agreement_counts_equal_answers_but_not_unparsable_ones(tmp_path: Path) -> None:
    for name, answers in {"average": "yynn", "ties": "yyny"}.items():
        run = add_run(tmp_path, name, name, 0.5, n=4, suite={"d": ("D", "cross_modal")})
        labels = ["yes" if letter == "y" else "no" for letter in answers]
        run.write_predictions("d", predictions(0.5, 4, "").assign(prediction=["", *labels[1:]]))
        seal(run)
    table = agreement_table(load_sweep(tmp_path)).set_index(["title", "other"])
    assert table.loc[("Average", "TIES"), "agreement"] == pytest.approx(2 / 4)  # alike: second and third
    assert (table["n"] == 4).all()


def test_calibration_error_is_that_of_the_metrics(tmp_path: Path) -> None:
    frame = predictions(0.7, 200, "any")
    frame.loc[:5, "prediction"] = ""
    run = add_run(tmp_path, "average", "average", 0.7, n=200, suite={"d": ("D", "cross_modal")})
    run.write_predictions("d", frame)
    answers = StoredAnswers(tmp_path).answers("average", "d")
    assert answers is not None
    table = bins(scored(answers))
    error = ((table["confidence"] - table["accuracy"]).abs() * table["n"]).sum() / table["n"].sum()
    assert error == pytest.approx(point_values(read_answers(frame, LABELS))["ece"])


def test_generated_answers_have_no_calibration(tmp_path: Path) -> None:
    run = add_run(tmp_path, "average", "average", 0.5, n=4, suite={"d": ("D", "cross_modal")})
    run.write_predictions("d", predictions(0.5, 4, "").assign(**{"score:no": np.nan, "score:yes": np.nan}))
    seal(run)
    sweep = load_sweep(tmp_path)
    assert len(sweep.rows) == 1 and calibration_table(sweep).empty


def test_a_figure_is_drawn_or_its_absence_explained(tmp_path: Path) -> None:
    sweep = usual_sweep(tmp_path, n=20)
    figures = write_figures(load_sweep(sweep))
    assert set(figures.absent) == {"layer_distances", "element_coefficients", "cost", "sensitivity"}
    assert set(figures.captions) | set(figures.absent) == {recipe.name for recipe in RECIPES} | {
        "methods",
        "layer_weights",
    }
    assert {path.name for path in figures.paths} == {f"{n}.{form}" for n in figures.captions for form in ("png", "svg")}
    text = "\n".join(figures.lines())
    assert "not drawn: layer_distances, which needs runs of ES-Merging" in text and "figures/agreement.png" in text


def test_a_dashed_line_is_spoken_of_only_where_a_merge_is_drawn(tmp_path: Path) -> None:
    add_run(tmp_path, "base", "base", 0.5, n=20)
    assert "Dashed" not in write_figures(load_sweep(tmp_path)).captions["retention"]
    add_run(tmp_path, "ties", "ties", 0.6, n=20)
    caption = write_figures(load_sweep(tmp_path)).captions["retention"]
    assert caption.endswith("Dashed: no merge lies above this line or to its right.")


def test_a_control_is_not_the_probe_itself(tmp_path: Path) -> None:
    run = add_run(tmp_path, "noise", "es_noise", 0.5, n=4, record=RECORDS["es_noise"])
    run.write_layer_distances(MEASURED.rows())
    assert distances_table(load_sweep(tmp_path)).empty
    assert isinstance(run.read_layer_distances(), pd.DataFrame)


def test_of_many_methods_the_best_are_shown_and_the_caption_says_so(tmp_path: Path) -> None:
    count = MOST_AGREEING + 2
    for place in range(count):
        config = {"method": {"scale": place}}
        add_run(tmp_path, f"average{place}", "average", 0.5 + 0.5 * place / count, n=60, config=config)
    sweep = load_sweep(tmp_path)
    best = best_shown(sweep, MOST_AGREEING)
    assert [row.key for row in best] == [f"average{place}" for place in range(2, count)]
    assert set(agreement_table(sweep)["title"]) == {row.title for row in best}
    assert f"The {MOST_AGREEING} most accurate of {count} methods." in write_figures(sweep).captions["agreement"]


def test_agreement_is_over_the_questions_that_both_were_asked(tmp_path: Path) -> None:
    for name, n in (("average", 6), ("ties", 4)):
        run = add_run(tmp_path, name, name, 0.5, n=n, suite={"d": ("D", "cross_modal")})
        frame = predictions(0.5, n, "").assign(prediction=["yes"] * n)
        run.write_predictions("d", frame.iloc[::-1] if name == "ties" else frame)  # in another order
        seal(run)
    table = agreement_table(load_sweep(tmp_path)).set_index(["title", "other"])
    assert table.loc[("Average", "TIES"), ["agreement", "n"]].tolist() == [1.0, 4]
