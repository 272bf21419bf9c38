"""The training benchmark on tiny shapes: that all read and learn the same, not how quick it is."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from benchmarks.speed import training
from benchmarks.speed.models import backbone

from esmerge.model.loss import answer_loss
from esmerge.model.prompt_encoder import PromptEncoder

TINY = ["--layers=2", "--hidden=64", "--words=50", "--length=24", "--batch-size=3", "--batches=1", "--repeats=1",
        "--threads=1", "--dtype=float32", "--rank=2"]  # fmt: skip


def test_a_row_with_all_contenders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "measurement", lambda module, argv: training.measured(training.arguments(argv)))
    assert training.main([*TINY, f"--out={tmp_path / 'speed.csv'}"]) == 0
    (row,) = pd.read_csv(tmp_path / "speed.csv").to_dict("records")
    for kind, ratio in (("train", "training_ratio"), ("score", "scoring_ratio")):
        quotient = row[f"{kind}_tokens_per_second"] / row[f"plain_{kind}_tokens_per_second"]
        assert row[ratio] == pytest.approx(quotient, rel=0.02)
    assert "training / plain" in capsys.readouterr().out


def test_our_loss_is_that_of_the_plain_loop() -> None:
    options = training.arguments(TINY)
    body, data = backbone(options), training.sequences(options)
    ids, mask, labels = training._padded(data, training.answers_at)
    plain = body.model(input_ids=ids, attention_mask=mask, labels=labels).loss
    loss = answer_loss(training._prompt_encoder(body), [training._taught(sequence) for sequence in data])
    assert float(loss) == pytest.approx(float(plain), rel=1e-5)
    assert int((labels >= 0).sum()) == training.ASKED * len(data)


def test_the_same_labels_are_scored() -> None:
    options = training.arguments(TINY)
    body, data = backbone(options), training.sequences(options)
    ids, mask, _ = training._padded(data, lambda length: [], left=True)
    with torch.no_grad():
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        last = body.model(input_ids=ids, attention_mask=mask, position_ids=positions).logits[:, -1].log_softmax(-1)
    body.tokenizer = training.IdTokenizer(body.tokenizer)
    questions = [training.question(row, sequence) for row, sequence in enumerate(data)]
    loglik = training.score(PromptEncoder(body, {}), questions, 2).loglik
    assert torch.allclose(loglik.float(), last[:, 1:3], atol=1e-4)
