"""Floor ``majority``: counted by hand, and run by a process that loads little else."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tests.baselines.toys import accuracy, benchmark, example, predict, run_python

from esmerge.core.prompts import Entity

RUN_ALONE = """
import json, sys
from esmerge.baselines.floors.majority import MajoritySettings, majority
from esmerge.core.prompts import Benchmark, Entity, Example

labels = (" no", " yes")
train = tuple(Example(str(n), (Entity("molecule", "CCO"),), labels, int(n % 3 > 0)) for n in range(6))
questions = Benchmark("tiny", "Tiny", "cross_modal", labels, train, (), train[:2], "0")
predictions = majority(MajoritySettings(), questions, 0)
print(json.dumps([predictions["prediction"].tolist(), sorted(sys.modules)]))
"""


def test_majority_is_the_commonest_training_label() -> None:
    drug = [Entity("molecule", "CCO")]
    train = [example(f"a{n}", drug, int(n < 5)) for n in range(8)]
    test = [example(f"b{n}", drug, int(n < 1)) for n in range(4)]
    frame = predict("majority", benchmark(train, test))
    assert set(frame["prediction"]) == {"yes"} and accuracy(frame) == 0.25
    assert frame["score"].tolist() == pytest.approx([6 / 10] * 4)  # (5 + 1) / (8 + 2)
    assert np.exp(frame["score:yes"]).tolist() == pytest.approx([6 / 10] * 4)


def test_it_loads_neither_a_model_nor_chemistry_nor_most_of_the_package() -> None:
    answers, modules = json.loads(run_python(RUN_ALONE))
    assert answers == ["yes", "yes"]
    loaded = [name for name in modules if name.split(".")[0] == "esmerge"]
    assert "esmerge.baselines.floors.majority" in loaded and len(loaded) < 15, loaded
    assert not {"torch", "transformers", "rdkit", "sklearn"} & set(modules)
