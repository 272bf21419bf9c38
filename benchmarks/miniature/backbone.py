"""Llama-3.1-8B-Instruct in miniature: its config's fields, its special tokens at their ids, a chat template."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS, VOCABULARY = 128000, 128256  # what is no special token comes first
LAYERS, HIDDEN = 3, 16
FIRST = [
    *("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>"),
    *("<|finetune_right_pad_id|>", "<|reserved_special_token_2|>", "<|start_header_id|>", "<|end_header_id|>"),
    *("<|eom_id|>", "<|eot_id|>", "<|python_tag|>"),
]
CHAT = (
    "{{- bos_token }}{%- if not date_string is defined %}"
    "{%- if strftime_now is defined %}{%- set date_string = strftime_now('%d %b %Y') %}"
    "{%- else %}{%- set date_string = 'today' %}{%- endif %}{%- endif %}"
    "{%- if messages[0]['role'] == 'system' %}"
    "{%- set system = messages[0]['content'] | trim %}{%- set turns = messages[1:] %}"
    "{%- else %}{%- set system = '' %}{%- set turns = messages %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\\n\\nDate: ' + date_string + '\\n\\n' + system + '<|eot_id|>' }}"
    "{%- for turn in turns %}"
    "{{- '<|start_header_id|>' + turn['role'] + '<|end_header_id|>\\n\\n' + turn['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
)
FIELDS: dict[str, object] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009],
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "initializer_range": 0.02,
    "intermediate_size": 24,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "num_attention_heads": 2,
    "num_hidden_layers": LAYERS,
    "num_key_value_heads": 1,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 8.0,
        "high_freq_factor": 4.0,
        "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": VOCABULARY,
}
GENERATION = {"bos_token_id": 128000, "do_sample": True, "eos_token_id": [128001, 128008, 128009], "temperature": 0.6}
CORPUS = ["Molecule (SMILES): CC(=O)Nc1ccccc1 Final answer: Inhibits", "Protein (amino-acid sequence): MKTAYIAKQR"]


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, with words that no text holds up to the first special token."""
    inner = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.train_from_iterator(CORPUS, trainer)
    content = json.loads(inner.to_str())
    vocabulary = content["model"]["vocab"]
    vocabulary |= {f"<unused {index}>": index for index in range(len(vocabulary), WORDS)}
    filled = Tokenizer.from_str(json.dumps(content))
    filled.decoder = decoders.ByteLevel()
    names = [
        *FIRST,
        *(f"<|reserved_special_token_{number}|>" for number in range(3, 3 + VOCABULARY - WORDS - len(FIRST))),
    ]
    filled.add_special_tokens(names)
    filled.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", WORDS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=filled, bos_token="<|begin_of_text|>", eos_token="<|eot_id|>", chat_template=CHAT
    )


def save_backbone(folder: Path, seed: int = 0) -> Path:
    """Write the backbone; its weights are large enough that every layer changes its input visibly."""
    torch.manual_seed(seed)
    config = LlamaConfig(**{**FIELDS, "initializer_range": 0.2})
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(FIELDS, indent=2))
    (folder / "generation_config.json").write_text(json.dumps(GENERATION, indent=2))
    return folder
