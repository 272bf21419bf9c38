from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from safetensors.torch import save_file
from tests.report.synthetic import usual_sweep

from esmerge.report.figures import write_figures, write_layer_map
from esmerge.report.load import load_sweep
from esmerge.report.plots.methods import methods_figure
from esmerge.report.tidy.accuracies import methods_table
from esmerge.report.tidy.layers import layer_panels, layer_weights


def test_figures_are_written_and_are_no_blank_pages(one_seed: Path) -> None:
    paths = [path for path in write_figures(load_sweep(one_seed)).paths if path.suffix == ".png"]
    names = ["methods", "layer_weights", "retention", "agreement", "calibration"]
    assert [path.stem for path in paths] == names
    for path in paths:
        pixels = imread(path)
        assert min(pixels.shape[:2]) > 200 and pixels[..., :3].std() > 0.05


def test_each_panel_is_a_family_and_names_every_method_once(one_seed: Path) -> None:
    sweep = load_sweep(one_seed)
    figure = methods_figure(methods_table(sweep))
    panels = figure.axes
    assert [panel.get_title().split("\n(")[0] for panel in panels] == [
        "Cross-modal",
        "Drug\N{EN DASH}drug",
        "Retention",
    ]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == [row.title for row in sweep.rows]
    assert "Accuracy (%)" in figure.get_supxlabel()


def test_layer_weights_are_the_stored_coefficients(tmp_path: Path) -> None:
    save_file({"a.layer": torch.tensor([0.25, 0.5]), "b.layer": torch.tensor([0.75, 0.5])}, tmp_path / "c.safetensors")
    names, weights = layer_weights(tmp_path / "c.safetensors")
    np.testing.assert_array_equal(weights[names.index("b")], [0.75, 0.5])


def test_element_weights_are_averaged_over_a_layers_entries(tmp_path: Path) -> None:
    coefficients = {
        "a.layer": torch.tensor([0.5, 0.5, 0.5]),
        "a.model.layers.0.q.lora_A.weight": torch.tensor([[0.1, 0.2]]),
        "a.model.layers.0.q.lora_B.weight": torch.tensor([0.9]),
        "a.model.layers.1.q.lora_A.weight": torch.tensor([1.0], dtype=torch.bfloat16),
    }
    save_file(coefficients, tmp_path / "c.safetensors")
    _, weights = layer_weights(tmp_path / "c.safetensors")
    np.testing.assert_allclose(weights, [[1.2 / 3, 1.0, 0.5]], rtol=1e-6)  # layer 2 has no entries of its own


def test_one_panel_per_run_and_the_mean_over_seeds(tmp_path: Path) -> None:
    sweep = load_sweep(usual_sweep(tmp_path, seeds=(0, 1), n=20))
    panels = layer_panels(sweep)
    assert [title.split(", ")[-1] for title in panels] == ["mean of 2 seeds"] * 2
    runs = [layer_weights(tmp_path / f"es_layer_{seed}" / "coefficients.safetensors")[1] for seed in (0, 1)]
    np.testing.assert_allclose(next(iter(panels.values()))[1], np.mean(runs, axis=0))


@pytest.mark.parametrize(("experts", "layers"), [(2, 1), (3, 32), (5, 6)])
def test_any_number_of_experts_and_layers_can_be_drawn(tmp_path: Path, experts: int, layers: int) -> None:
    shares = [f"e{i}" for i in range(experts)], np.full((experts, layers), 1 / experts)
    assert write_layer_map(shares, "ES", tmp_path / "map.png").stat().st_size > 1000
