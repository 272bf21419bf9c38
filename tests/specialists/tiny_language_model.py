"""A tiny language model with a tokenizer of its own, and small tables, all made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEXT = [
    'A drug molecule is given.\nMolecule (SMILES): Is it large? Reply with "Yes" or "No".\nFinal answer: Yes No',
    'A protein is given.\nProtein (amino-acid sequence): What is it folded of? "Alpha", "Beta"\nFinal answer:',
    "Cell (genes by expression): CD3D CD3E LYZ CST3 MS4A1 Monocyte T B Does the molecule interact with the protein?",
]
GENES = {"T": ["CD3D", "CD3E", "IL7R"], "Monocyte": ["LYZ", "CST3", "CD14"]}


def save_checkpoint(folder: Path) -> None:
    """A random Llama of two layers and a byte-level BPE tokenizer, as a Hugging Face folder."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=["<start>", "<end>"])
    bpe.train_from_iterator(TEXT, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<start>", eos_token="<end>")
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)


def write_tables(root: Path, rows: int = 60) -> None:
    """One table for each modality, and pairs of molecules and proteins in the shape of the Human benchmark."""
    rng = np.random.default_rng(0)
    root.mkdir(parents=True, exist_ok=True)
    smiles = ["C" * (1 + row // 2) + ("O" if row % 2 else "N") for row in range(rows)]
    folds = ["a" if row % 2 else "b" for row in range(rows)]
    chains = ["M" + "".join(rng.choice(list("AEL" if fold == "a" else "VTY"), 40)) for fold in folds]
    types = ["T cell" if row % 2 else "Monocyte" for row in range(rows)]
    cells = [" ".join([f"G{row}", *rng.permutation(GENES[kind.split()[0]])]) for row, kind in enumerate(types)]
    molecules = pd.DataFrame({"SMILES": smiles, "weight": [str(len(text)) for text in smiles], "note": "heavy"})
    molecules.to_csv(root / "m.csv", index=False)
    pd.DataFrame({"sequence": chains, "fold": folds, "last": [chain[-1] for chain in chains]}).to_csv(
        root / "p.csv", index=False
    )
    pd.DataFrame({"genes": cells, "type": types}).to_csv(root / "c.csv", index=False)
    (root / "dti_human").mkdir(exist_ok=True)
    pairs = pd.DataFrame({"SMILES": smiles, "sequence": chains, "label": np.arange(rows) % 2})
    pairs["split"] = np.repeat(["train", "val", "test"], rows // 3)
    pairs.to_csv(root / "dti_human" / "human_random.csv", index=False)


def lesson(modality: str, table: str, entity: str, answer: str, **more: Any) -> dict[str, Any]:
    """A lesson's config; its prompt is put in the style of the real ones."""
    prompt = f"A {modality} is given: {{{modality}}}\nReply with {' or '.join(more['labels'])}.\nFinal answer:"
    return {"expert": modality, "modality": modality, "table": table, "entity": entity, "answer": answer,
            "prompt": prompt, **more}  # fmt: skip


def lessons() -> dict[str, dict[str, Any]]:
    """Lessons for each modality and each way to find the answer; one modality has two, with different answers."""
    return {
        "size": lesson("molecule", "m.csv", "SMILES", "weight", above=15, labels=["No", "Yes"]),
        "fold": lesson(
            "protein", "p.csv", "sequence", "fold", classes={"a": "Coil", "b": "Beta"}, labels=["Coil", "Beta"]
        ),
        "ends": lesson(
            "protein",
            "p.csv",
            "sequence",
            "last",
            classes={"A": "Alanine", "E": "Other"} | dict.fromkeys("LVTY", "Neither"),
            labels=["Alanine", "Other", "Neither"],
        ),
        "kind": lesson("cell", "c.csv", "genes", "type", contains="T cell", labels=["Monocyte", "T"], words=3),
    }


def config(checkpoint: Path, root: Path) -> dict[str, Any]:
    """Specialists that are taught for a moment."""
    return {
        "name": "tiny",
        "kind": "language_model",
        "experts": ["molecule", "protein", "cell"],
        "checkpoint": str(checkpoint),
        "root": str(root),
        "encoders": {"molecule": "fingerprint", "protein": "kmers"},
        "exam": 12,
        "encoder": {"steps": 20, "batch": 8, "width": 16, "tokens": 2},
        "alignment": {"steps": 4, "batch": 4},
        "lora": {"rank": 2, "alpha": 4.0, "steps": 4, "batch": 4},
        "finetuning": {"steps": 2, "batch": 4, "rank": 2, "alpha": 4.0},
        "lessons": lessons(),
    }
