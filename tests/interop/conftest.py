# SPDX-License-Identifier: Apache-2.0
import pytest

from support import FIGURES, TEXT, naite

# A recipe that learns the few lines of support.TEXT by heart in seconds.
RECIPE = """
[run]
name = "interop"
[tokenizer]
vocab_size = 400
[[data.source]]
name = "lines"
path = "corpus.txt"
document = "line"
[data]
sequence_length = 64
validation = 0.1
deduplicate = false
[model]
model_type = "{model_type}"
hidden_size = 64
num_hidden_layers = 3
num_attention_heads = 4
num_key_value_heads = 2
intermediate_size = 160
max_position_embeddings = 256
tie_word_embeddings = {tied}
initializer_range = 0.05
[train]
tokens = 40960
batch_tokens = 512
micro_batch_tokens = 256
precision = "{precision}"
[optimizer]
name = "adamw"
learning_rate = 5e-3
[checkpoint]
every = "50%"
[sample]
prompts = ["나이테는", "Growth rings"]
max_tokens = 16
"""


def train(directory, **keys):
    (directory / "corpus.txt").write_text("\n".join(TEXT))
    recipe = directory / "recipe.toml"
    recipe.write_text(RECIPE.format(**keys))
    naite("train", recipe, "--run", directory / "run", "--threads", "2")
    return directory / "run"


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("llama"), model_type="llama", tied="false",
                 precision="fp32")


@pytest.fixture(scope="session")
def trained_qwen3(tmp_path_factory):
    return train(tmp_path_factory.mktemp("qwen3"), model_type="qwen3", tied="true",
                 precision="bf16")


def pytest_terminal_summary(terminalreporter):
    for name, (value, limit) in FIGURES.items():
        terminalreporter.write_line(f"{name}: {value:.2g} at most, limit {limit:g}")
