# SPDX-License-Identifier: Apache-2.0
"""The PyTorch form of Motif does what is known about the published models."""
import json
import math
import types

import pytest
import torch
from safetensors.torch import load_file, save_file

import motif_torch as motif

YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64)
IDS = [(7 * i * i + 3 * i) % 400 for i in range(40)]
RELEASED = dict(model_type="Motif", hidden_act="poly_norm", head_dim=128, vocab_size=219520,
                rms_norm_eps=1e-6, attn_rms_norm_eps=1e-5, k_ratio=1)
MOTIF_2_6B = dict(RELEASED, hidden_size=2048, num_hidden_layers=32, intermediate_size=8192,
                  num_attention_heads=16, num_key_value_heads=16, max_position_embeddings=4096,
                  rope_theta=10000.0, tie_word_embeddings=True)
MOTIF_2_12_7B = dict(RELEASED, hidden_size=4096, num_hidden_layers=40, intermediate_size=16384,
                     num_attention_heads=40, num_noise_heads=8, num_key_value_heads=16,
                     max_position_embeddings=131072, rope_theta=2e6, tie_word_embeddings=False,
                     rope_scaling=dict(rope_type="yarn", factor=2.0,
                                       original_max_position_embeddings=65536))


def random_model(directory, ratio=4, seed=1, tied=False, rope_scaling=None, dtype=torch.float64):
    motif.make_random(directory, ratio, seed, tied, rope_scaling)
    return motif.load(directory, dtype)


def with_tensors(model, changes):
    return motif.Model(model.config, {**model.tensors, **changes})


def near(a, b, limit):
    return float((a - b).abs().max() / b.abs().max()) < limit


# --- the published models -------------------------------------------------------------------------

def test_lambda_init():
    known = [-0.009915, 0.2, 0.355509, 0.470713, 0.556058]
    assert [round(motif.lambda_init(layer), 6) for layer in range(5)] == known
    assert round(motif.lambda_init(39), 6) == 0.799993


@pytest.mark.parametrize("keys, parameters, tensors, ratio", [
    (MOTIF_2_6B, 2_597_218_432, 514, 1), (MOTIF_2_12_7B, 12_703_860_896, 643, 4)])
def test_sizes_of_the_release(keys, parameters, tensors, ratio):
    config = motif.parse_config(keys)
    made = {name: torch.empty(shape, device="meta")
            for name, shape in motif.shapes(config).items()}
    assert (len(made), sum(t.numel() for t in made.values())) == (tensors, parameters)
    assert config.ratio == ratio
    assert sum(name.startswith("model.layers.7.") for name in made) == 16
    ids = torch.empty(5, dtype=torch.long, device="meta")
    assert motif.Model(config, made).logits(ids).shape == (5, 219520)


def test_shapes_of_the_release():
    shapes = motif.shapes(motif.parse_config(MOTIF_2_12_7B))
    known = {"q_proj.weight": (5120, 4096), "k_proj.weight": (2048, 4096),
             "v_proj.weight": (2048, 4096), "o_proj.weight": (4096, 8192), "lambda_q1": (128,),
             "subln.weight": (256,)}
    assert {name: shapes["model.layers.39.self_attn." + name] for name in known} == known


# --- the formulas, once more and one head at a time -----------------------------------------------

def attend(q, k, v):
    """softmax(causal(q k^T / sqrt D)) v, row by row."""
    rows = []
    for t in range(q.shape[0]):
        weights = torch.softmax(k[:t + 1] @ q[t] / math.sqrt(q.shape[1]), 0)
        rows.append(weights @ v[:t + 1])
    return torch.stack(rows)


def turn(x, config):
    """RoPE by complex numbers."""
    frequencies, factor = motif.rope_frequencies(config)
    angles = torch.arange(x.shape[0], dtype=torch.float32)[:, None] * frequencies
    half = x.shape[1] // 2
    cos, sin = angles.cos() * factor, angles.sin() * factor
    turned = torch.complex(x[:, :half], x[:, half:]) * torch.complex(cos.double(), sin.double())
    return torch.cat([turned.real, turned.imag], 1)


def head_by_head(model, layer, x, noise_weight=None):
    """The attention of Motif-2-12.7B as written down: group j, signal head s."""
    c = model.config
    w = {name.split("self_attn.")[1]: t for name, t in model.tensors.items()
         if f"layers.{layer}.self_attn." in name}
    d, g = c.head_dim, c.ratio

    def head(name, i):
        return x @ w[name][i * d:(i + 1) * d].T

    start = 0.8 - 0.6 * math.exp(-0.3 * (layer - 1))
    if noise_weight is None:
        noise_weight = (torch.exp(w["lambda_q1"] @ w["lambda_k1"])
                        - torch.exp(w["lambda_q2"] @ w["lambda_k2"]) + start)
    outputs = []
    for j in range(c.num_noise_heads):
        k1 = turn(head("k_proj.weight", 2 * j), c)
        k2 = turn(head("k_proj.weight", 2 * j + 1), c)
        v = torch.cat([head("v_proj.weight", 2 * j), head("v_proj.weight", 2 * j + 1)], 1)
        noise = attend(turn(head("q_proj.weight", (g + 1) * j + g), c), k2, v)
        for s in range(g):
            o = attend(turn(head("q_proj.weight", (g + 1) * j + s), c), k1, v)
            o = o - noise_weight * noise
            o = o / torch.sqrt((o * o).mean(1, keepdim=True) + c.attn_rms_norm_eps)
            outputs.append(o * w["subln.weight"] * (1 - start))
    return torch.cat(outputs, 1) @ w["o_proj.weight"].T


def attention_of(model, layer, x):
    prefix = f"model.layers.{layer}."
    w = {name[len(prefix):]: t for name, t in model.tensors.items() if name.startswith(prefix)}
    return model.attention(layer, w, x, motif.rope_tables(model.config, x.shape[0], x))


@pytest.mark.parametrize("rope_scaling", [None, YARN])
@pytest.mark.parametrize("ratio", [1, 2, 3, 4])
def test_attention_head_by_head(ratio, rope_scaling, tmp_path):
    model = random_model(tmp_path, ratio, rope_scaling=rope_scaling)
    x = torch.randn(30, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for layer in range(3):
        assert near(attention_of(model, layer, x), head_by_head(model, layer, x), 1e-12)


def test_without_noise_it_is_plain_attention(tmp_path):
    model = random_model(tmp_path, 3)
    x = torch.randn(20, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for layer in range(3):
        # exp(0) - exp(log(1 + init)) + init = 0
        prefix = f"model.layers.{layer}.self_attn.lambda_"
        one, dot = torch.zeros(16).double(), math.log(1 + motif.lambda_init(layer))
        one[0] = 1
        off = with_tensors(model, {prefix + "q1": 0 * one, prefix + "q2": one,
                                   prefix + "k2": one * dot})
        assert near(attention_of(off, layer, x), head_by_head(model, layer, x, 0.0), 1e-12)
        assert not near(attention_of(model, layer, x), head_by_head(model, layer, x, 0.0), 1e-2)


def test_stripes_may_share_a_pair(tmp_path):
    """Repeating a pair of keys and values for its stripes changes nothing."""
    shared = random_model(tmp_path / "model", 2)
    keys = json.loads((tmp_path / "model" / "config.json").read_text())
    changes = {}
    for name in shared.tensors:
        if "k_proj" in name or "v_proj" in name:
            changes[name] = shared.tensors[name][:32].repeat(2, 1)
    alike = with_tensors(shared, changes)
    keys["num_key_value_heads"] = 2
    halves = {name: t[:32] for name, t in changes.items()}
    single = motif.Model(motif.parse_config(keys), {**shared.tensors, **halves})
    assert near(single.logits(IDS), alike.logits(IDS), 1e-12)


# --- PolyNorm, norms and growth -------------------------------------------------------------------

def test_poly_norm_backward():
    """The closed form of the gradient."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(5, 24, dtype=torch.float64, generator=generator, requires_grad=True)
    dy = torch.randn(5, 24, dtype=torch.float64, generator=generator)
    weight = torch.tensor([0.2, -0.5, 0.7], dtype=torch.float64, requires_grad=True)
    bias = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    gradients = torch.autograd.grad(motif.poly_norm(x, weight, bias), [x, weight, bias], dy)
    dx, da = torch.zeros_like(x), []
    for n in (3, 2, 1):
        r = ((x ** (2 * n)).mean(1, keepdim=True) + 1e-6) ** -0.5
        a = weight[3 - n]
        inner = dy - x ** n * r * r * (dy * x ** n).mean(1, keepdim=True)
        dx = dx + a * r * n * x ** (n - 1) * inner
        da.append(((dy * x ** n).sum(1, keepdim=True) * r).sum())
    for actual, expected in zip(gradients, [dx, torch.stack(da), dy.sum()[None]]):
        assert near(actual, expected.detach(), 1e-12)


def test_norms_commute_with_duplication():
    x = torch.randn(3, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    twice, weight = torch.cat([x, x], 1), torch.tensor([0.2, -0.5, 0.7]).double()
    once = motif.poly_norm(x, weight, 0.1)
    assert near(motif.poly_norm(twice, weight, 0.1), torch.cat([once, once], 1), 1e-12)
    once = motif.rms_norm(x, 1.0, 1e-6)
    assert near(motif.rms_norm(twice, 1.0, 1e-6), torch.cat([once, once], 1), 1e-12)


def moved(tensors, source, target):
    """A layer's tensors for another place: lambda_init depends on it, the function must not."""
    old, new = motif.lambda_init(source), motif.lambda_init(target)
    out = dict(tensors)
    out["self_attn.subln.weight"] = tensors["self_attn.subln.weight"] * (1 - old) / (1 - new)
    dot = tensors["self_attn.lambda_q1"] @ tensors["self_attn.lambda_k1"]
    wanted = torch.log(torch.exp(dot) + old - new)
    out["self_attn.lambda_k1"] = tensors["self_attn.lambda_k1"] * wanted / dot
    return out


def test_a_layer_may_be_inserted(tmp_path):
    """A copy that adds nothing to the residual, and compensation in the layers behind it."""
    model = random_model(tmp_path)
    layers = [{name.split(".", 3)[3]: t for name, t in model.tensors.items()
               if name.startswith(f"model.layers.{i}.")} for i in range(3)]
    silent = {name: 0 * t if "o_proj" in name or "down_proj" in name else t
              for name, t in layers[1].items()}
    # The exponential must stay positive after the shift.
    layers[2]["self_attn.lambda_k1"] = layers[2]["self_attn.lambda_q1"]
    small = with_tensors(model, {"model.layers.2.self_attn.lambda_k1":
                                 layers[2]["self_attn.lambda_k1"]})
    grown = [layers[0], layers[1], silent, moved(layers[2], 2, 3)]
    keys = json.loads((tmp_path / "config.json").read_text())
    keys["num_hidden_layers"] = 4
    tensors = {name: t for name, t in model.tensors.items() if ".layers." not in name}
    for i, layer in enumerate(grown):
        tensors.update({f"model.layers.{i}.{name}": t for name, t in layer.items()})
    large = motif.Model(motif.parse_config(keys), tensors)
    assert near(large.logits(IDS), small.logits(IDS), 1e-11)


# --- the whole model ------------------------------------------------------------------------------

@pytest.mark.parametrize("ratio", [1, 4])
def test_it_is_causal(ratio, tmp_path):
    model = random_model(tmp_path, ratio)
    whole = model.logits(IDS)
    for length in (1, 7, 39):
        assert near(model.logits(IDS[:length]), whole[:length], 1e-12)
    other = model.logits(IDS[:-1] + [IDS[-1] + 1])
    assert torch.equal(other[:-1], whole[:-1]) and not torch.equal(other[-1], whole[-1])


@pytest.mark.parametrize("ratio, tied, rope_scaling", [
    (1, True, None), (3, False, None), (4, False, YARN), (4, True, None)])
def test_gradients(ratio, tied, rope_scaling, tmp_path):
    """Central differences along a random direction of each tensor."""
    model = random_model(tmp_path, ratio, 7, tied, rope_scaling)
    loss, gradients = model.loss_and_gradients(IDS)
    assert set(gradients) == set(load_file(str(tmp_path / "model.safetensors")))
    assert loss == model.loss(IDS)
    generator, step = torch.Generator().manual_seed(8), 3e-6
    for name, tensor in model.tensors.items():
        u = torch.randn(tensor.shape, dtype=torch.float64, generator=generator)
        above = with_tensors(model, {name: tensor + step * u}).loss(IDS)
        below = with_tensors(model, {name: tensor - step * u}).loss(IDS)
        difference, exact = float((above - below) / (2 * step)), float((gradients[name] * u).sum())
        assert abs(difference - exact) < 1e-6 * abs(exact) + 1e-8, name
        assert gradients[name].abs().max() > 1e-6, name


def test_fp32_is_near_fp64(tmp_path):
    wide = random_model(tmp_path, 4)
    narrow = motif.load(tmp_path)
    assert next(iter(narrow.tensors.values())).dtype == torch.float32
    assert near(narrow.logits(IDS).double(), wide.logits(IDS), 1e-5)
    for name, gradient in narrow.loss_and_gradients(IDS)[1].items():
        exact = wide.loss_and_gradients(IDS)[1][name]
        assert float((gradient - exact).norm() / exact.norm()) < 1e-4, name


# --- files ----------------------------------------------------------------------------------------

def test_random_models(tmp_path):
    for ratio in (1, 3):
        model = random_model(tmp_path / str(ratio), ratio, 9, tied=ratio == 1)
        assert model.config.ratio == ratio and 16 <= model.config.head_dim <= 32
        assert ("lm_head.weight" in model.tensors) == (ratio != 1)
        again = random_model(tmp_path / "again", ratio, 9, tied=ratio == 1)
        assert all(torch.equal(t, again.tensors[name]) for name, t in model.tensors.items())
        for name, t in model.tensors.items():
            for start in (0, 1, 1 / 3):
                assert ((t - start).abs() > 1e-6).double().mean() > 0.99, name


def test_noise_heads_may_be_written_down(tmp_path):
    model = random_model(tmp_path, 1)
    keys = json.loads((tmp_path / "config.json").read_text())
    assert "num_noise_heads" not in keys
    assert motif.parse_config({**keys, "num_noise_heads": 2}) == model.config


def test_rotary_buffers_are_skipped(tmp_path):
    model = random_model(tmp_path)
    path = str(tmp_path / "model.safetensors")
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
    save_file({**load_file(path), **extra}, path)
    assert torch.equal(motif.load(tmp_path, torch.float64).logits(IDS), model.logits(IDS))


@pytest.mark.parametrize("scaling", [
    YARN, dict(YARN, factor=2.0), dict(YARN, beta_fast=8, beta_slow=2, truncate=False),
    dict(YARN, attention_factor=0.9), dict(YARN, mscale=0.7, mscale_all_dim=1.2),
    dict(YARN, original_max_position_embeddings=65536)])
def test_yarn_is_that_of_transformers(scaling, tmp_path):
    rope = pytest.importorskip("transformers.modeling_rope_utils")
    for head_dim, theta in [(16, 1e4), (128, 2e6)]:
        keys = dict(MOTIF_2_12_7B, head_dim=head_dim, rope_theta=theta, rope_scaling=scaling)
        theirs = types.SimpleNamespace(
            rope_parameters={**scaling, "rope_theta": theta}, head_dim=head_dim, hidden_size=4096,
            num_attention_heads=40, max_position_embeddings=131072,
            standardize_rope_params=lambda: None)
        frequencies, factor = rope.ROPE_INIT_FUNCTIONS["yarn"](theirs, "cpu")
        ours = motif.rope_frequencies(motif.parse_config(keys))
        assert near(ours[0], frequencies, 1e-6) and ours[1] == pytest.approx(factor)
