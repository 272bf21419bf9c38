"""The released protein encoder: outputs recorded from its authors' code, its files in every form, and refusals.

The recorded outputs were computed by github.com/ColinFX/Prot2Text-V2 at commit 0d75d46 with transformers 4.40.2.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from benchmarks.miniature.prot2text_v2 import (
    INNER,
    WIDTH,
    TinyRelease,
    encoder_weights,
    esm_config,
    projector_weights,
    save_release,
)
from safetensors.torch import save_file
from tests.conftest import composed
from tests.standalone.tiny import save_backbone
from torch import Tensor
from torch.nn import functional

from esmerge.core.errors import AdapterError, BenchError, ConfigError, InputError
from esmerge.experiment.unpacking.plan import plan_unpacking
from esmerge.experiment.unpacking.request import read_unpacking
from esmerge.experiment.unpacking.write import unpack
from esmerge.specialists.encoders.prot2text_v2 import PARTS, Prot2TextSettings, prot2text_v2, token_ids
from esmerge.specialists.soft_tokens.released import choose_released

GOLDEN: dict[str, list[list[float]]] = json.loads(
    (Path(__file__).parent / "golden_prot2text_v2.json").read_text(encoding="utf-8")
)
HIDDEN = 6
CPU = torch.device("cpu")


def save_parts(
    folder: Path, encoder: Mapping[str, Tensor], projector: Mapping[str, Tensor], **config: object
) -> Prot2TextSettings:
    """Parts as ``esmerge unpack`` leaves them, with ESM-2's config beside them."""
    folder.mkdir(exist_ok=True)
    save_file(dict(encoder), folder / "encoder.safetensors")
    save_file(dict(projector), folder / "projector.safetensors")
    (folder / "config.json").write_text(json.dumps(esm_config(**config).to_dict()))
    return Prot2TextSettings(path=str(folder))


@pytest.fixture
def parts(tmp_path: Path) -> Prot2TextSettings:
    return save_parts(tmp_path / "parts", encoder_weights(), projector_weights(HIDDEN))


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TinyRelease]:
    root = tmp_path_factory.mktemp("release")
    backbone = save_backbone(root / "backbone")
    return backbone, save_release(backbone, root / "files")


def unpacked(release: tuple[Path, TinyRelease], out: Path) -> Path:
    backbone, files = release
    words = ("release=prot2text_v2", f"checkpoint={files.base}", f"adapter={files.adapter}")
    return unpack(
        plan_unpacking(*read_unpacking(composed(*words, f"backbone={backbone}", f"out={out}", config="unpack")))
    )


@pytest.mark.parametrize("sequence", GOLDEN)
def test_the_authors_code_gives_the_same(parts: Prot2TextSettings, sequence: str) -> None:
    soft_tokens = prot2text_v2(parts).load(CPU)(sequence)
    torch.testing.assert_close(soft_tokens, torch.tensor(GOLDEN[sequence]), rtol=0, atol=2e-6)
    assert len(soft_tokens) == len(sequence) + 2


def test_the_parts_are_those_of_the_release() -> None:
    layout = composed("release=prot2text_v2", config="unpack").release
    assert dict(layout.parts) == PARTS


def test_tokens() -> None:
    assert token_ids("LC") == [0, 4, 23, 2]
    assert token_ids("J") == [0, 3, 2], "ESM-2 has no token for I or L"
    assert len({*token_ids("ACDEFGHIKLMNPQRSTVWYXBUZO")}) == 27


def test_every_form_of_the_release_gives_the_trained_encoder(release: tuple[Path, TinyRelease], tmp_path: Path) -> None:
    out, files = unpacked(release, tmp_path / "out"), release[1]
    forms = [
        Prot2TextSettings(path=str(out), config=str(files.esm)),
        Prot2TextSettings(path=str(out / "parts"), config=str(files.esm / "config.json")),
        Prot2TextSettings(path=str(files.whole)),
    ]
    direct = save_parts(tmp_path / "direct", files.encoder, files.projector)
    expected = prot2text_v2(direct).load(CPU)("MKTAYIAKQR")
    for settings in forms:
        encoder = prot2text_v2(settings)
        assert encoder.hidden() == 16
        torch.testing.assert_close(encoder.load(CPU)("MKTAYIAKQR"), expected, rtol=0, atol=0)
    assert prot2text_v2(forms[0]).digest() == prot2text_v2(forms[1]).digest(), "content counts, not where it lies"


def test_a_release_whose_config_was_unpacked_needs_no_other(release: tuple[Path, TinyRelease], tmp_path: Path) -> None:
    out, files = unpacked(release, tmp_path / "out"), release[1]
    with pytest.raises(ConfigError, match=r"nothing beside .* describes the ESM-2 in it: give encoder\.config=FOLDER"):
        prot2text_v2(Prot2TextSettings(path=str(out))).load(CPU)
    (out / "parts" / "config.json").write_text((files.whole / "config.json").read_text())
    assert prot2text_v2(Prot2TextSettings(path=str(out))).load(CPU)("MK").shape == (4, 16)


def test_soft_tokens_have_length_one_and_depend_on_their_neighbours(parts: Prot2TextSettings) -> None:
    encode = prot2text_v2(parts).load(CPU)
    first, second = encode("MKTAYIAKQR"), encode("MKTAYIAKQW")
    torch.testing.assert_close(first.norm(dim=1), torch.ones(12))
    assert (first[:4] - second[:4]).abs().max() > 1e-3
    torch.testing.assert_close(encode("MKTAYIAKQR"), first, rtol=0, atol=0)


def test_bfloat16_is_near(parts: Prot2TextSettings) -> None:
    exact = prot2text_v2(parts).load(CPU)("MKTAYIAKQR")
    rounded = prot2text_v2(Prot2TextSettings(path=parts.path, dtype="bfloat16")).load(CPU)("MKTAYIAKQR")
    assert rounded.dtype == torch.bfloat16 and exact.dtype == torch.float32
    assert functional.cosine_similarity(rounded.float(), exact).min() > 0.99


def test_what_a_digest_depends_on(tmp_path: Path) -> None:
    encoder, projector = encoder_weights(), projector_weights(HIDDEN)
    forms = {
        "weights": save_parts(tmp_path / "a", encoder, projector),
        "encoder": save_parts(tmp_path / "b", encoder_weights(seed=4), projector),
        "projector": save_parts(tmp_path / "c", encoder, projector_weights(HIDDEN, seed=4)),
        "config": save_parts(tmp_path / "d", encoder, projector, layer_norm_eps=1e-3),
        "dtype": Prot2TextSettings(path=str(tmp_path / "a"), dtype="bfloat16"),
    }
    digests = {name: prot2text_v2(settings).digest() for name, settings in forms.items()}
    assert len(set(digests.values())) == len(forms)
    copy = save_parts(tmp_path / "e", encoder, projector)
    assert prot2text_v2(copy).digest() == digests["weights"]


@pytest.mark.parametrize(
    ("sequence", "message"),
    [
        ("", "protein sequence is empty"),
        ("MK1A", "'1' at position 3"),
        ("mk", "'m' at position 1"),
        ("M" * 1022, r"has 1022 residues, and the encoder reads at most 1021 .*benchmark\.protein_window=1021"),
    ],
)
def test_proteins_that_are_not_read(sequence: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prot2text_v2(Prot2TextSettings(path="unread")).check(sequence)


def test_the_longest_protein_is_a_setting() -> None:
    assert prot2text_v2(Prot2TextSettings(path="unread", longest=3)).check("MKT") == "MKT"
    with pytest.raises(InputError, match="at most 3"):
        prot2text_v2(Prot2TextSettings(path="unread", longest=3)).check("MKTA")


Change = Callable[[dict[str, Tensor], dict[str, Tensor]], object]
DENSE = "encoder.layer.1.output.dense.bias"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e, p: e.update(extra=torch.ones(2)), r"the encoder of the release.*\n  extra has no place\n"),
        (lambda e, p: e.pop(DENSE), rf"encoder.*\n  {DENSE} is missing\n"),
        (lambda e, p: e.update({DENSE: torch.ones(3)}), rf"encoder.*\n  {DENSE} is \(3,\), expected \({WIDTH},\)\n"),
        (lambda e, p: (e.pop(DENSE), e.update(extra=torch.ones(2))), r"extra has no place\n.*is missing\n"),
        (lambda e, p: p.update(fc3=torch.ones(2)), r"the projector of the release.*\n  fc3 has no place\n"),
        (lambda e, p: p.pop("fc1.bias"), r"projector.*\n  fc1\.bias is missing\n"),
        (
            lambda e, p: p.update({"fc1.weight": torch.ones(INNER, 3)}),
            rf"projector.*\n  fc1\.weight is \({INNER}, 3\), expected \({INNER}, {WIDTH}\)\n",
        ),
    ],
)
def test_every_tensor_has_its_place(tmp_path: Path, change: Change, message: str) -> None:
    encoder, projector = encoder_weights(), projector_weights(HIDDEN)
    change(encoder, projector)
    with pytest.raises(AdapterError, match=f"(?s){message}"):
        prot2text_v2(save_parts(tmp_path / "parts", encoder, projector)).load(CPU)


def test_what_nothing_reads_may_be_there_or_not(parts: Prot2TextSettings, tmp_path: Path) -> None:
    unread = ("contact_head", "position_embeddings", "inv_freq")
    encoder = {n: t for n, t in encoder_weights().items() if not any(word in n for word in unread)}
    projector = {n: t for n, t in projector_weights(HIDDEN).items() if n.startswith("fc")}
    fewer = save_parts(tmp_path / "fewer", encoder, projector)
    torch.testing.assert_close(prot2text_v2(fewer).load(CPU)("MKT"), prot2text_v2(parts).load(CPU)("MKT"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 40}, "describes no ESM-2: vocab_size=40"),
        ({"position_embedding_type": "absolute"}, "position_embedding_type=absolute"),
        ({"num_attention_heads": 3}, "ESM-2.s config is not valid: .*multiple of the number of attention"),
        ({"num_attention_heads": 4}, r"contact_head\.regression\.weight is \(1, 4\), expected \(1, 8\)"),
    ],
)
def test_configs_of_other_encoders(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    settings = save_parts(tmp_path / "parts", encoder_weights(), projector_weights(HIDDEN), **changes)
    with pytest.raises(BenchError, match=message):
        prot2text_v2(settings).load(CPU)


def test_folders_that_hold_no_encoder(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"lacks encoder\.safetensors, projector\.safetensors: expected the folder"):
        prot2text_v2(Prot2TextSettings(path=str(tmp_path))).hidden()
    (tmp_path / "encoder.safetensors").write_bytes(b"no tensors")
    (tmp_path / "projector.safetensors").write_bytes(b"no tensors")
    with pytest.raises(AdapterError, match="is not a safetensors file"):
        prot2text_v2(Prot2TextSettings(path=str(tmp_path))).hidden()


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ("prot2text_v2", r"encoders\.protein\.path is not set: give the folder that esmerge unpack wrote"),
        ("kmers", r"encoders\.protein='kmers': expected a released encoder, one of .*prot2text_v2"),
        ({"path": "x"}, r"encoders\.protein=None: expected a released encoder"),
        ({"name": "prot2text_v2", "bits": 3}, r"encoders\.protein\.bits is not a setting"),
        (
            {"name": "prot2text_v2", "path": "x", "dtype": "float16"},
            r"dtype='float16': expected one of float32, bfloat16",
        ),
        ({"name": "prot2text_v2", "path": "x", "longest": 0}, r"longest=0: expected a number from 1"),
    ],
)
def test_what_a_config_may_not_say(node: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_released(node, "encoders.protein")
