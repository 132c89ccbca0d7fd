"""The transformers that Hugging Face's library has too: what it calls their settings and weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
KINDS = ("weight", "bias")
TEXTS, TOKENS = "ForSequenceClassification", "ForTokenClassification"  # how their classes with heads for labels are called
MUST = object()  # stands where a setting has no default


@dataclass(frozen=True, eq=False)
class Family:
    """One architecture; mappings go from our names to theirs.

    model: our YAML file. prefix: before their names where a head is saved too. settings: name in config.json and default,
    or MUST. fixed: ours that are always so. required: theirs that have only this value here, their default too; declared:
    those whose default is another. embeddings: modules with a weight; norms: with weight and bias. layer: their name of
    layer {}; layers: modules in it, several where they are joined to one of ours. tied: the token embedding once more,
    before the output. head, head_bias: of objective mlm; gelu_head: it has a GELU whatever the model has. labelled: the
    layers of a head for whole texts, labelled_hidden: the activation of its dense one; without a dense one it is a matrix
    without a bias, on the last token. transposed: matrices of layers are [in, out]. by_head: queries, keys and values lie
    together for each head. after_padding: positions count from pad_token_id + 1.
    """

    model: str
    prefix: str
    settings: Mapping[str, tuple[str, Any]]
    fixed: Mapping[str, Any]
    embeddings: Mapping[str, str]
    norms: Mapping[str, str]
    layer: str
    layers: Mapping[str, tuple[str, ...]]
    tied: str
    required: Mapping[str, Any] = field(default_factory=dict)
    declared: Mapping[str, Any] = field(default_factory=dict)
    head: Mapping[str, str] = field(default_factory=dict)
    head_bias: str = ""
    gelu_head: bool = False
    labelled: Mapping[str, str] = field(default_factory=dict)
    labelled_hidden: str | None = "tanh"
    transposed: bool = False
    by_head: bool = False
    after_padding: bool = False

    def names(self, layers: int, without: str = "") -> dict[str, tuple[str, ...]]:
        """Every tensor of our model and the tensors of theirs it is made of. without: the embedding that there is none of."""
        found = {f"{ours}.weight": (f"{theirs}.weight",) for ours, theirs in self.embeddings.items() if ours != without}
        found |= {f"{ours}.{kind}": (f"{theirs}.{kind}",) for ours, theirs in self.norms.items() for kind in KINDS}
        for index in range(layers):
            place = self.layer.format(index)
            for ours, theirs in self.layers.items():
                for kind in KINDS:
                    found[f"stack.layers.{index}.{ours}.{kind}"] = tuple(f"{place}.{part}.{kind}" for part in theirs)
        return found

    def head_names(self) -> dict[str, str]:
        """Every tensor of the head of objective mlm and theirs."""
        found = {f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in self.head.items() for kind in KINDS}
        return found | {"bias": self.head_bias} if found else {}

    def labelled_names(self, per_token: bool) -> dict[str, str]:
        """Every tensor of the head of a task with labels and theirs. per_token: of task tag, not of one for whole texts."""
        layers = {"linear": "classifier"} if per_token else {f"head.{ours}": theirs for ours, theirs in self.labelled.items()}
        kinds = KINDS if per_token or self.labelled_hidden else KINDS[:1]
        return {f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in layers.items() for kind in kinds}

    def joined(self, ours: str, theirs: list[Tensor], heads: int) -> Tensor:
        """One tensor of ours from those of theirs."""
        parts = [self._turned(ours, tensor) for tensor in theirs]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        return whole.unflatten(0, (heads, 3, -1)).transpose(0, 1).flatten(0, 2) if self._mixed(ours) else whole

    def parted(self, ours: str, tensor: Tensor, parts: int, heads: int) -> list[Tensor]:
        """Those of theirs that one tensor of ours is made of."""
        tensor = tensor.unflatten(0, (3, heads, -1)).transpose(0, 1).flatten(0, 2) if self._mixed(ours) else tensor
        return list(self._turned(ours, tensor).chunk(parts))

    def _turned(self, ours: str, tensor: Tensor) -> Tensor:
        return tensor.T if self.transposed and ours.startswith("stack.layers.") and tensor.ndim == 2 else tensor

    def _mixed(self, ours: str) -> bool:
        return self.by_head and ".qkv." in ours


def bias_of(weight: str) -> str:
    """The name of the bias that goes with a weight."""
    return f"{weight.removesuffix('weight')}bias"


SHARED = {"positions": "learned", "bias": True, "qk_norm": False}
BERT = Family(
    model="transformer",
    prefix="bert.",
    settings={
        "dim": ("hidden_size", MUST),
        "layers": ("num_hidden_layers", MUST),
        "heads": ("num_attention_heads", MUST),
        "hidden": ("intermediate_size", MUST),
        "max_length": ("max_position_embeddings", MUST),
        "segments": ("type_vocab_size", 2),
        "activation": ("hidden_act", "gelu"),
        "dropout": ("hidden_dropout_prob", 0.1),
        "eps": ("layer_norm_eps", 1e-12),
        "init_std": ("initializer_range", 0.02),
    },
    fixed={**SHARED, "norm": "post"},
    required={"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False},
    embeddings={
        "embedding.token": "embeddings.word_embeddings",
        "embedding.position": "embeddings.position_embeddings",
        "embedding.segment": "embeddings.token_type_embeddings",
    },
    norms={"embedding.norm": "embeddings.LayerNorm"},
    layer="encoder.layer.{}",
    layers={
        "attention.qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
        "attention.out": ("attention.output.dense",),
        "attention_norm": ("attention.output.LayerNorm",),
        "feed_forward.inner": ("intermediate.dense",),
        "feed_forward.outer": ("output.dense",),
        "feed_forward_norm": ("output.LayerNorm",),
    },
    tied="cls.predictions.decoder.weight",
    head={"dense": "cls.predictions.transform.dense", "norm": "cls.predictions.transform.LayerNorm"},
    head_bias="cls.predictions.bias",
    labelled={"hidden": "bert.pooler.dense", "linear": "classifier"},
)
ROBERTA = replace(
    BERT,
    prefix="roberta.",
    fixed={**BERT.fixed, "segments": 1},  # whatever type_vocab_size says, its tokenizer tells no segments apart
    tied="lm_head.decoder.weight",
    head={"dense": "lm_head.dense", "norm": "lm_head.layer_norm"},
    head_bias="lm_head.bias",
    gelu_head=True,
    labelled={"hidden": "classifier.dense", "linear": "classifier.out_proj"},
    after_padding=True,
)
DISTILBERT = replace(
    BERT,
    prefix="distilbert.",
    settings={
        "dim": ("dim", MUST),
        "layers": ("n_layers", MUST),
        "heads": ("n_heads", MUST),
        "hidden": ("hidden_dim", MUST),
        "max_length": ("max_position_embeddings", MUST),
        "activation": ("activation", "gelu"),
        "dropout": ("dropout", 0.1),
        "init_std": ("initializer_range", 0.02),
    },
    fixed={**BERT.fixed, "segments": 0, "eps": 1e-12},
    required={},
    embeddings={name: theirs for name, theirs in BERT.embeddings.items() if name != "embedding.segment"},
    layer="transformer.layer.{}",
    layers={
        "attention.qkv": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        "attention.out": ("attention.out_lin",),
        "attention_norm": ("sa_layer_norm",),
        "feed_forward.inner": ("ffn.lin1",),
        "feed_forward.outer": ("ffn.lin2",),
        "feed_forward_norm": ("output_layer_norm",),
    },
    tied="vocab_projector.weight",
    head={"dense": "vocab_transform", "norm": "vocab_layer_norm"},
    head_bias="vocab_projector.bias",
    labelled={"hidden": "pre_classifier", "linear": "classifier"},
    labelled_hidden="relu",
)
GPT2 = Family(
    model="gpt",
    prefix="transformer.",
    settings={
        "dim": ("n_embd", MUST),
        "layers": ("n_layer", MUST),
        "heads": ("n_head", MUST),
        "hidden": ("n_inner", None),
        "max_length": ("n_positions", MUST),
        "activation": ("activation_function", "gelu_new"),
        "dropout": ("resid_pdrop", 0.1),
        "eps": ("layer_norm_epsilon", 1e-5),
        "init_std": ("initializer_range", 0.02),
    },
    fixed={**SHARED, "norm": "pre", "logit_cap": None},
    required={"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False},
    embeddings={"embedding.token": "wte", "embedding.position": "wpe"},
    norms={"stack.norm": "ln_f"},
    layer="h.{}",
    layers={
        "attention_norm": ("ln_1",),
        "attention.qkv": ("attn.c_attn",),
        "attention.out": ("attn.c_proj",),
        "feed_forward_norm": ("ln_2",),
        "feed_forward.inner": ("mlp.c_fc",),
        "feed_forward.outer": ("mlp.c_proj",),
    },
    tied="lm_head.weight",
    labelled={"linear": "score"},
    labelled_hidden=None,
    transposed=True,
)
ROTARY = {"positions": "rotary", "bias": True, "norm": "pre", "qk_norm": False}
ESM = replace(
    BERT,
    prefix="esm.",
    settings={ours: theirs for ours, theirs in BERT.settings.items() if ours not in ("segments", "activation")},
    fixed={**ROTARY, "segments": 0, "activation": "gelu"},
    required={"token_dropout": False, "is_folding_model": False, "is_decoder": False, "add_cross_attention": False},
    declared={"position_embedding_type": "rotary", "emb_layer_norm_before": False},
    embeddings={"embedding.token": "embeddings.word_embeddings"},
    norms={"stack.norm": "encoder.emb_layer_norm_after"},
    layers={
        **BERT.layers,
        "attention_norm": ("attention.LayerNorm",),
        "feed_forward_norm": ("LayerNorm",),
    },
    tied="lm_head.decoder.weight",
    head={"dense": "lm_head.dense", "norm": "lm_head.layer_norm"},
    head_bias="lm_head.bias",
    labelled=ROBERTA.labelled,
)
GPT_NEOX = Family(
    model="gpt",
    prefix="gpt_neox.",
    settings={
        "dim": ("hidden_size", MUST),
        "layers": ("num_hidden_layers", MUST),
        "heads": ("num_attention_heads", MUST),
        "hidden": ("intermediate_size", MUST),
        "max_length": ("max_position_embeddings", 2048),
        "activation": ("hidden_act", "gelu"),
        "dropout": ("hidden_dropout", 0.0),
        "eps": ("layer_norm_eps", 1e-5),
        "init_std": ("initializer_range", 0.02),
    },
    fixed={**ROTARY, "logit_cap": None},
    required={"attention_bias": True},
    declared={
        "use_parallel_residual": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0},
    },
    embeddings={"embedding.token": "embed_in"},
    norms={"stack.norm": "final_layer_norm"},
    layer="layers.{}",
    layers={
        "attention_norm": ("input_layernorm",),
        "attention.qkv": ("attention.query_key_value",),
        "attention.out": ("attention.dense",),
        "feed_forward_norm": ("post_attention_layernorm",),
        "feed_forward.inner": ("mlp.dense_h_to_4h",),
        "feed_forward.outer": ("mlp.dense_4h_to_h",),
    },
    tied="embed_out.weight",
    labelled={"linear": "score"},
    labelled_hidden=None,
    by_head=True,
)
# by model_type in config.json
FAMILIES = {
    "bert": BERT,
    "roberta": ROBERTA,
    "camembert": ROBERTA,
    "xlm-roberta": ROBERTA,
    "distilbert": DISTILBERT,
    "gpt2": GPT2,
    "esm": ESM,
    "gpt_neox": GPT_NEOX,
}
