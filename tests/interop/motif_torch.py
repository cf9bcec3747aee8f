# SPDX-License-Identifier: Apache-2.0
"""Motif's decoder in plain PyTorch on the CPU: a second opinion, written from its published form.

    model = load(directory)                     config.json and model.safetensors
    model.logits(ids)                           [T, V]
    loss, gradients = model.loss_and_gradients(ids)
    make_random(directory, ratio=4, seed=1, tied=False)

T positions, H hidden size, D head size, g signal heads per noise head. It computes in the type of
its tensors (fp32, or float64 for a reference), one sequence at a time, with whole attention
matrices: slow and short. Angles are fp32 in either case.
"""
import json
import math
import pathlib
from dataclasses import dataclass

import torch
from safetensors.torch import load_file, save_file

POLY_NORM_EPS = 1e-6


@dataclass
class Config:
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int  # signal and noise together
    num_noise_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    attn_rms_norm_eps: float
    rope_theta: float
    rope_scaling: dict
    max_position_embeddings: int
    tie_word_embeddings: bool

    @property
    def ratio(self):
        return self.num_attention_heads // self.num_noise_heads - 1


def parse_config(keys):
    """Only keys that the release writes; its class defaults belong to another model."""
    heads = keys["num_attention_heads"]
    optional = dict(num_noise_heads=heads // 2, rope_scaling=None, tie_word_embeddings=False,
                    head_dim=keys["hidden_size"] // heads)
    config = Config(**{name: keys[name] if keys.get(name) is not None else optional[name]
                       for name in Config.__dataclass_fields__})
    noise, pairs = config.num_noise_heads, config.num_key_value_heads // 2
    assert keys.get("model_type") == "Motif" and keys.get("hidden_act") == "poly_norm"
    assert keys.get("k_ratio", 1) == 1 and not keys.get("use_bias")
    assert heads % noise == 0 and config.num_key_value_heads % 2 == 0
    assert (heads - noise) % pairs == 0 and noise % pairs == 0
    return config


def shapes(config):
    """Every tensor of a checkpoint, by its name."""
    c, width = config, 2 * config.head_dim
    heads, signal = c.num_attention_heads, c.num_attention_heads - c.num_noise_heads
    out = {"model.embed_tokens.weight": (c.vocab_size, c.hidden_size),
           "model.norm.weight": (c.hidden_size,)}
    if not c.tie_word_embeddings:
        out["lm_head.weight"] = (c.vocab_size, c.hidden_size)
    layer = {"input_layernorm.weight": (c.hidden_size,),
             "post_attention_layernorm.weight": (c.hidden_size,),
             "self_attn.q_proj.weight": (heads * c.head_dim, c.hidden_size),
             "self_attn.k_proj.weight": (c.num_key_value_heads * c.head_dim, c.hidden_size),
             "self_attn.v_proj.weight": (c.num_key_value_heads * c.head_dim, c.hidden_size),
             "self_attn.o_proj.weight": (c.hidden_size, signal * width),
             **{f"self_attn.lambda_{name}": (c.head_dim,) for name in ("q1", "k1", "q2", "k2")},
             "self_attn.subln.weight": (width,),
             "mlp.gate_proj.weight": (c.intermediate_size, c.hidden_size),
             "mlp.up_proj.weight": (c.intermediate_size, c.hidden_size),
             "mlp.down_proj.weight": (c.hidden_size, c.intermediate_size),
             "mlp.act_fn.weight": (3,), "mlp.act_fn.bias": (1,)}
    for i in range(c.num_hidden_layers):
        out.update({f"model.layers.{i}.{name}": shape for name, shape in layer.items()})
    return out


def lambda_init(layer):
    """layer counts from 0; the shipped form is shifted by one against the paper's."""
    return 0.8 - 0.6 * math.exp(-0.3 * (layer - 1))


def rms_norm(x, weight, eps):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def poly_norm(x, weight, bias):
    def normed(z):
        return z * torch.rsqrt(z.pow(2).mean(-1, keepdim=True) + POLY_NORM_EPS)
    cubic, square, linear = weight
    return cubic * normed(x ** 3) + square * normed(x ** 2) + linear * normed(x) + bias


def yarn_frequencies(plain, config):
    """arXiv 2309.00071: (frequencies, factor of cosines and sines).

    Pairs that turn more than beta_fast times within the original context keep their frequency,
    those that turn less than beta_slow times are slowed down by the factor, and a ramp joins them.
    """
    scaling, dim = config.rope_scaling, config.head_dim
    original = scaling["original_max_position_embeddings"]
    factor = scaling.get("factor") or config.max_position_embeddings / original

    def pair_with(turns):
        return dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(config.rope_theta))

    low = pair_with(scaling.get("beta_fast") or 32)
    high = pair_with(scaling.get("beta_slow") or 1)
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    if low == high:
        high += 0.001
    ramp = ((torch.arange(dim // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)

    def magnitude(weight):
        return 0.1 * weight * math.log(factor) + 1 if factor > 1 else 1.0

    attention = scaling.get("attention_factor")
    if attention is None:
        attention = magnitude(1)
        if scaling.get("mscale") and scaling.get("mscale_all_dim"):
            attention = magnitude(scaling["mscale"]) / magnitude(scaling["mscale_all_dim"])
    return plain / factor * ramp + plain * (1 - ramp), attention


def rope_frequencies(config):
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    plain = 1.0 / config.rope_theta ** exponents
    scaling = config.rope_scaling or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    assert kind in ("default", "yarn"), kind
    return yarn_frequencies(plain, config) if kind == "yarn" else (plain, 1.0)


def rope_tables(config, length, like):
    frequencies, factor = rope_frequencies(config)
    angles = torch.arange(length, dtype=torch.float32)[:, None] * frequencies  # [T, D/2]
    tables = (angles.cos() * factor, angles.sin() * factor)
    return [table[:, None].to(like) for table in tables]  # [T, 1, D/2]


def rotate(x, cos, sin):
    """NeoX layout: element i turns with element i + D/2."""
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def causal_softmax(scores):
    """[..., T, T], the rows being queries."""
    length = scores.shape[-1]
    later = torch.ones(length, length, dtype=torch.bool, device=scores.device).triu(1)
    return scores.masked_fill(later, -math.inf).softmax(-1)


class Model:
    """tensors: those of shapes(config), by name."""

    def __init__(self, config, tensors):
        self.config, self.tensors = config, {}
        for name, shape in shapes(config).items():
            assert tuple(tensors[name].shape) == shape, (name, tuple(tensors[name].shape), shape)
            self.tensors[name] = tensors[name]

    def to(self, dtype):
        return Model(self.config, {name: t.to(dtype) for name, t in self.tensors.items()})

    def forward(self, ids):
        x = self.tensors["model.embed_tokens.weight"][torch.as_tensor(ids)]  # [T, H]
        tables = rope_tables(self.config, x.shape[0], x)
        for i in range(self.config.num_hidden_layers):
            x = self.block(i, x, tables)
        x = rms_norm(x, self.tensors["model.norm.weight"], self.config.rms_norm_eps)
        tied = self.config.tie_word_embeddings
        head = self.tensors["model.embed_tokens.weight" if tied else "lm_head.weight"]
        return x @ head.T

    def block(self, i, x, tables):
        prefix, eps = f"model.layers.{i}.", self.config.rms_norm_eps
        w = {name[len(prefix):]: t for name, t in self.tensors.items() if name.startswith(prefix)}
        x = x + self.attention(i, w, rms_norm(x, w["input_layernorm.weight"], eps), tables)
        return x + self.mlp(w, rms_norm(x, w["post_attention_layernorm.weight"], eps))

    def attention(self, i, w, x, tables):
        c, length = self.config, x.shape[0]
        ratio, pairs = c.ratio, c.num_key_value_heads // 2
        # A stripe of query heads is g signal heads and their noise head; one of keys is the signal
        # key and the noise key; the two values of a pair are one value of twice the width. With
        # more noise heads than pairs, neighbouring stripes share one, as in grouped queries.
        q = (x @ w["self_attn.q_proj.weight"].T).view(length, -1, c.head_dim)
        k = (x @ w["self_attn.k_proj.weight"].T).view(length, -1, c.head_dim)
        v = (x @ w["self_attn.v_proj.weight"].T).view(length, pairs, 2 * c.head_dim)
        q = rotate(q, *tables).view(length, pairs, c.num_noise_heads // pairs, ratio + 1, -1)
        k = rotate(k, *tables).view(length, pairs, 2, -1)
        scale = c.head_dim ** -0.5
        signal = torch.einsum("tpnsd,upd->pnstu", q[:, :, :, :ratio], k[:, :, 0]) * scale
        noise = torch.einsum("tpnd,upd->pntu", q[:, :, :, ratio], k[:, :, 1]) * scale
        signal = torch.einsum("pnstu,upv->tpnsv", causal_softmax(signal), v)
        noise = torch.einsum("pntu,upv->tpnv", causal_softmax(noise), v)
        difference = signal - self.noise_weight(i, w) * noise[:, :, :, None]
        out = rms_norm(difference, w["self_attn.subln.weight"], c.attn_rms_norm_eps)
        out = out * (1 - lambda_init(i))
        return out.reshape(length, -1) @ w["self_attn.o_proj.weight"].T

    @staticmethod
    def noise_weight(i, w):
        """lambda, one per layer."""
        first = (w["self_attn.lambda_q1"] * w["self_attn.lambda_k1"]).sum().exp()
        second = (w["self_attn.lambda_q2"] * w["self_attn.lambda_k2"]).sum().exp()
        return first - second + lambda_init(i)

    @staticmethod
    def mlp(w, x):
        gate = poly_norm(x @ w["mlp.gate_proj.weight"].T, w["mlp.act_fn.weight"],
                         w["mlp.act_fn.bias"])
        return (gate * (x @ w["mlp.up_proj.weight"].T)) @ w["mlp.down_proj.weight"].T

    def logits(self, ids):
        with torch.no_grad():
            return self.forward(ids)

    def loss(self, ids):
        """The mean cross entropy of every token but the first."""
        ids = torch.as_tensor(ids)
        return torch.nn.functional.cross_entropy(self.forward(ids)[:-1], ids[1:])

    def loss_and_gradients(self, ids):
        """The loss, and its gradient by the name of the tensor."""
        model = Model(self.config, {name: t.detach().clone().requires_grad_()
                                    for name, t in self.tensors.items()})
        loss = model.loss(ids)
        gradients = torch.autograd.grad(loss, list(model.tensors.values()))
        return loss.detach(), dict(zip(model.tensors, gradients))


def load(directory, dtype=torch.float32):
    """Tensors of other names, such as the rotary buffers of old files, are left out."""
    directory = pathlib.Path(directory)
    config = parse_config(json.loads((directory / "config.json").read_text()))
    return Model(config, load_file(str(directory / "model.safetensors"))).to(dtype)


def random_tensor(name, shape, generator):
    """Nothing is at the value it would have before training."""
    normal = torch.randn(shape, generator=generator)
    if "lambda_" in name:
        return 0.4 * normal
    if name.endswith("act_fn.weight"):
        return 1 / 3 + 0.2 * normal
    if name.endswith("act_fn.bias"):
        return 0.1 + 0.1 * normal.abs()
    if len(shape) == 1:
        return 1 + 0.2 * normal
    if "gate_proj" in name:
        normal = 0.3 * normal  # so small that PolyNorm's epsilon shows
    return normal / math.sqrt(shape[1])


def make_random(directory, ratio, seed, tied, rope_scaling=None):
    """A small model with the release's keys in config.json, and epsilons that show."""
    keys = dict(
        architectures=["MotifForCausalLM"], model_type="Motif", hidden_act="poly_norm",
        vocab_size=400, hidden_size=48, intermediate_size=112, num_hidden_layers=3,
        num_attention_heads=2 * (ratio + 1), num_noise_heads=2, num_key_value_heads=4, head_dim=16,
        k_ratio=1, rms_norm_eps=1e-4, attn_rms_norm_eps=1e-3, rope_theta=10000.0,
        rope_scaling=rope_scaling, max_position_embeddings=256, tie_word_embeddings=tied,
        absolute_position_embedding=False, attention_dropout=0.0, bfloat16=False, bos_token_id=1,
        eos_token_id=0, dtype="float32", fused_rope=False, initializer_range=2e-5,
        sliding_window=None, use_bias=False, use_cache=True, use_sliding_window=False)
    if ratio == 1:
        del keys["num_noise_heads"]  # half of the heads, when nothing is said
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(keys, indent=2) + "\n")
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: random_tensor(name, shape, generator)
               for name, shape in shapes(parse_config(keys)).items()}
    save_file(tensors, str(directory / "model.safetensors"), metadata={"format": "pt"})
