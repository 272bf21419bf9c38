"""Chains under a convolution: what is padded, cut or refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from esmerge.core.errors import ConfigError, InputError
from esmerge.data.sequences import STANDARD
from esmerge.specialists.encoders.motif_convolution import MotifScanner, MotifSettings, motif_convolution, one_hot

SETTINGS = MotifSettings(motif=4, longest=64)


def features(values: list[str], motif_settings: MotifSettings = SETTINGS) -> torch.Tensor:
    encoder = motif_convolution(motif_settings)
    torch.manual_seed(0)
    with torch.no_grad():
        return encoder.trunk(16)(encoder.prepare(values))


@settings(max_examples=20, deadline=None)
@given(st.text(STANDARD, min_size=1, max_size=40), st.integers(1, 60))
def test_a_proteins_features_do_not_depend_on_its_neighbours_length(value: str, other: int) -> None:
    assert torch.allclose(features([value])[0], features([value, "W" * other])[0], atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.text(STANDARD + "XU", min_size=1, max_size=60))
def test_indicators_say_which_letter_stands_where(value: str) -> None:
    (rows,) = one_hot([value], SETTINGS)
    assert rows.shape == (21, max(8, len(value)))
    letters = ["".join(STANDARD[i] for i in np.flatnonzero(column)) for column in rows[:20].T.numpy()]
    assert letters == [letter if letter in STANDARD else "" for letter in value] + [""] * (rows.shape[1] - len(value))
    assert rows[20].tolist() == [1.0] * len(value) + [0.0] * (rows.shape[1] - len(value))


def test_each_half_is_pooled_by_itself_as_a_plain_loop_does_it() -> None:
    torch.manual_seed(1)
    trunk, value = MotifScanner(4, 3), "MKTAYIAKQRCWW"
    residues = one_hot([value], SETTINGS)
    with torch.no_grad():
        windows = [
            torch.relu((trunk.scan.weight * residues[0, :20, start : start + 4]).sum(dim=(1, 2)) + trunk.scan.bias)
            for start in range(len(value) - 3)
        ]
        half = len(windows) // 2
        pooled = torch.cat([torch.stack(part).amax(0) for part in (windows[:half], windows[half:])])
        assert torch.allclose(trunk(residues)[0], torch.relu(trunk.mix(pooled)), atol=1e-5)


def test_a_chain_longer_than_the_window_is_read_up_to_it() -> None:
    head = "MKTAYIAKQR" * 7
    first, second = features([head[:64], head[:64] + "W" * 50])
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("value", "message"),
    [("MK1TA", "'1' at position 3"), ("mkta", "'m' at position 1"), ("MK TA", "' ' at position 3"), ("", "is empty")],
)
def test_a_letter_that_is_no_amino_acid_is_refused_by_name_and_place(value: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        features(["MKTAY", value])


def test_a_window_shorter_than_two_motifs_is_refused() -> None:
    with pytest.raises(ConfigError, match="longest=7: expected a number from 8"):
        MotifSettings(motif=4, longest=7)
