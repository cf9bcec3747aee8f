# SPDX-License-Identifier: Apache-2.0
"""Frequencies of rotary positions and what rope_scaling makes of them, in double."""
import math
import numpy as np
from arithmetic import exact_ln, exact_power


def frequencies(config):
    """The frequency of each pair, and what cosines and sines are multiplied by."""
    width, theta = config["head_dim"], config["rope_theta"]
    i = np.arange(width // 2)
    f = exact_power(theta, -2.0 * i / width)
    scaling = config["rope_scaling"] or {"rope_type": "default"}
    kind, factor = scaling["rope_type"], scaling.get("factor")
    if kind == "linear":
        return f / factor, 1.0
    if kind == "llama3":
        original = scaling["original_max_position_embeddings"]
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        length = 2 * math.pi / f
        smooth = (original / length - low) / (high - low)
        between = (1 - smooth) * f / factor + smooth * f
        kept, stretched = length < original / high, length > original / low
        return np.select([kept, stretched], [f, f / factor], between), 1.0
    if kind == "yarn":
        return yarn(f, i, width, theta, {
            "original_max_position_embeddings": config["max_position_embeddings"]} | scaling)
    return f, 1.0


def yarn(f, i, width, theta, scaling):
    """Peng et al., 2023."""
    factor, original = scaling["factor"], scaling["original_max_position_embeddings"]

    def pair(turns):  # the pair that turns so often within the original length
        return width * exact_ln(original / (turns * 2 * math.pi)) / (2 * exact_ln(theta))

    def grown(m):
        return 0.1 * m * exact_ln(factor) + 1 if factor > 1 else 1.0

    low, high = pair(scaling.get("beta_fast", 32)), pair(scaling.get("beta_slow", 1))
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    ramp = np.clip((i - low) / (high - low if high != low else 0.001), 0, 1)
    attention = scaling.get("attention_factor")
    if attention is None and scaling.get("mscale") and scaling.get("mscale_all_dim"):
        attention = grown(scaling["mscale"]) / grown(scaling["mscale_all_dim"])
    return f / factor * ramp + f * (1 - ramp), grown(1.0) if attention is None else attention
