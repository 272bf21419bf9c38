"""The scoring benchmark on tiny shapes: that the same is asked of all, not how quick it is."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from benchmarks.speed.models import backbone
from benchmarks.speed.rows import append
from benchmarks.speed.scoring import arguments, collated, contenders, examples, main

TINY = ["--layers=1", "--hidden=64", "--words=50", "--prompts=5", "--length=8", "--batch-size=2", "--new-tokens=3",
        "--repeats=1", "--threads=1"]  # fmt: skip


def test_a_row_for_every_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "speed.csv"
    for labels in (["2", "3"], ["1", "1", "1"]):
        assert main([*TINY, f"--out={out}", "--labels", *labels]) == 0
    rows = pd.read_csv(out)
    assert rows["labels"].tolist() == ["2 3", "1 1 1"] and rows["layers"].tolist() == [1, 1]
    quotients = rows["generate_seconds"] / rows["scoring_seconds"]
    assert (rows["faster_than_generate"] / quotients).between(0.9, 1.1).all()
    output = capsys.readouterr().out
    assert "aim: at least 5" in output and "aim: at most 1.3" in output and "examples/s" in output


def test_the_bare_pass_reads_as_many_tokens_as_scoring() -> None:
    options = arguments([*TINY, "--labels", "2", "4"])
    body, questions = backbone(options), examples(options)
    lengths = sorted(len(question.prompt[0].split()) for question in questions)
    assert lengths[0] == 6 and lengths[-1] == 8
    masks = [batch.mask for batch in collated(body, questions, 2, with_labels=True)]
    assert sum(int(mask.sum()) for mask in masks) == sum(lengths) + 5 * (1 + 3)
    batch_sizes: list[int] = []
    hook = body.model.register_forward_pre_hook(
        lambda module, args, kwargs: batch_sizes.append(kwargs["inputs_embeds"].shape[0]), with_kwargs=True
    )
    contenders(options, body, questions)["scoring"]()
    hook.remove()
    assert batch_sizes == [2, 4, 2, 4, 1, 2]  # prompts, and two labels of each


def test_what_all_prompts_begin_with_is_read_once_unless_it_is_not_told_apart() -> None:
    options = arguments([*TINY, "--length=40", "--shared=20", "--labels", "1", "1"])
    body, questions = backbone(options), examples(options)
    assert len({question.prompt[0] for question in questions}) == 1
    assert sorted(sum(len(str(part).split()) for part in example.prompt) for example in questions)[::4] == [30, 40]
    shapes: list[tuple[int, int]] = []
    hook = body.model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["inputs_embeds"].shape[:2])), with_kwargs=True
    )
    passes = contenders(options, body, questions)
    passes["scoring"]()
    scoring_shapes, shapes[:] = list(shapes), []
    passes["whole"]()
    hook.remove()
    assert scoring_shapes == [(1, 20)] + [(rows, width - 20) for rows, width in shapes]


def test_a_table_of_other_columns_is_left_alone_and_the_row_is_not_lost(tmp_path: Path) -> None:
    out = tmp_path / "speed.csv"
    out.write_text("a,b\n1,2\n")
    for rows in (1, 2):
        with pytest.warns(UserWarning, match="other columns: the row is in .*speed-2.csv"):
            append(out, {"c": rows})
        assert pd.read_csv(tmp_path / "speed-2.csv")["c"].tolist() == list(range(1, rows + 1))
    assert out.read_text() == "a,b\n1,2\n"


def test_a_shape_that_cannot_be_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(["--hidden=100"])
    assert "argument --hidden: 100: expected a multiple of 64" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        arguments(["--shared=96"])
    assert "--shared 96: expected less than the shortest prompt's 96 tokens" in capsys.readouterr().err
