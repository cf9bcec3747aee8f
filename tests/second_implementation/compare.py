# SPDX-License-Identifier: Apache-2.0
"""compare.py NAITE FOLDER [NAME ...]: NAITE trains each variant of base.toml into FOLDER, train.py
trains it again, sampling.py continues texts with some. Then every mutant must end in other digests,
or texts. NAMEs of variants and mutants restrict it to those; "mutants" are all of them."""
import pathlib
import shutil
import subprocess
import sys
import time
from mutants import MUTANTS

HERE = pathlib.Path(__file__).parent
DENSE = ["model.model_type='llama'", "model.num_attention_heads=4", "model.num_key_value_heads=2"]
MOTIF = ["model.model_type='motif'", "model.num_attention_heads=8", "model.num_noise_heads=2",
         "model.num_key_value_heads=4"]
TIED = ["model.tie_word_embeddings=true"]
LLAMA3 = ["model.rope_scaling={rope_type='llama3', factor=8.0, low_freq_factor=1.0, "
          "high_freq_factor=4.0, original_max_position_embeddings=20}"]
YARN = ["model.rope_theta=100.0",
        "model.rope_scaling={rope_type='yarn', factor=4.0, original_max_position_embeddings=2000}"]
TRI = ["model.model_type='tri'", "model.global_attention_freq=2", "model.sliding_window=9",
       "model.attn_scale=0.3", "model.floor_scale=4.0"]
WINDOW = ["model.model_type='mistral'", "model.sliding_window=9", "data.attention='full'"]
FP32, BF16 = ["train.precision='fp32'"], ["train.precision='bf16'"]
MUON = ["optimizer.name='muon'", "optimizer.muon.qk_clip=0.02"]
VARIANTS = {
    "dense-bf16-adamw": DENSE + BF16,
    "dense-bf16-muon": DENSE + BF16 + MUON + TIED + ["train.gradient_groups=4"],
    "dense-fp32-adamw": DENSE + FP32 + TIED + ["schedule.kind='cosine'"],
    "dense-fp32-muon": DENSE + FP32 + MUON,
    "motif-bf16-adamw": MOTIF + BF16 + TIED,
    "motif-bf16-muon": MOTIF + BF16 + MUON + ["schedule.decay='inverse_square_root'"],
    "motif-fp32-adamw": MOTIF + FP32 + ["schedule.decay='cosine'", "train.gradient_groups=4"],
    "motif-fp32-muon": MOTIF + FP32 + MUON + TIED,
    "biases-bf16-adamw": DENSE + BF16 + ["model.model_type='qwen2'"] + LLAMA3,
    "head-norms-fp32-adamw": DENSE + FP32 + ["model.model_type='qwen3'"] + YARN,
    "window-fp32-muon": DENSE + FP32 + MUON + WINDOW + ["train.trainable=['*proj*', '*norm*']"],
    "tri-bf16-muon": DENSE + BF16 + MUON + TRI,
}
SAMPLED = ("dense-bf16-adamw", "motif-fp32-muon", "tri-bf16-muon")


def train(naite, run, settings):
    shutil.rmtree(run, ignore_errors=True)
    command = [naite, "train", HERE / "base.toml", "--run", run, "--threads", "1"]
    for setting in settings:
        command += ["--set", setting]
    subprocess.run(command, check=True, capture_output=True)


def python(*command):
    result = subprocess.run([sys.executable, *command], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return result.returncode, result.stdout.strip()


def check_mutant(naite, work, variant, file, old, new):
    """None if the mutant ends in other digests or texts, else what is wrong."""
    copy = work / "mutant"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(HERE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    text = (copy / file).read_text()
    if text.count(old) != 1:
        return f"{file} has its line {text.count(old)} times"
    (copy / file).write_text(text.replace(old, new))
    if file == "sampling.py":
        code, output = python(copy / file, naite, work / variant)
    else:
        code, output = python(copy / "train.py", work / variant, "--digests")
    if code == 0:
        return "ends in the same"
    return None if code == 3 else output[-300:]


def main(naite, work, wanted):
    failed = 0
    start = time.monotonic()
    for name, settings in VARIANTS.items():
        if wanted and name not in wanted:
            continue
        train(naite, work / name, settings)
        for command in ([HERE / "train.py"], [HERE / "sampling.py", naite])[:1 + (name in SAMPLED)]:
            code, output = python(*command, work / name)
            print(f"{name:21} {'same' if code == 0 else 'DIFFERS'}: {output}", flush=True)
            failed += code != 0
    print(f"{time.monotonic() - start:.0f} s", flush=True)
    noticed = 0
    for name, variant, *change in MUTANTS:
        if wanted and name not in wanted and "mutants" not in wanted:
            continue
        wrong = check_mutant(naite, work, variant, *change)
        noticed += wrong is None
        failed += wrong is not None
        if wrong:
            print(f"mutant {name} ({variant}): {wrong}", flush=True)
    print(f"{noticed} of {len(MUTANTS)} mutants are noticed; "
          f"{time.monotonic() - start:.0f} s in all")
    return failed


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[2]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    sys.exit(1 if main(pathlib.Path(sys.argv[1]).absolute(), folder, sys.argv[3:]) else 0)
