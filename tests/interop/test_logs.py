# SPDX-License-Identifier: Apache-2.0
"""A run's event files in TensorBoard: scalars and text samples, also of a run that was killed."""
import json
import subprocess
import time

from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from conftest import RECIPE
from support import BUILD, TEXT


def test_tensorboard_reads_a_run(trained_run):
    log = [json.loads(line) for line in (trained_run / "log.jsonl").read_text().splitlines()]
    events = EventMultiplexer().AddRunsFromDirectory(str(trained_run)).Reload()
    (name,) = events.Runs()
    scalars = {tag: events.Scalars(name, tag) for tag in events.Runs()[name]["scalars"]}
    losses = {entry["step"]: entry["loss"] for entry in log if "loss" in entry}
    assert losses
    matching = [tag for tag, points in scalars.items()
                if len(points) == len(losses)
                and all(abs(point.value - losses.get(point.step, 1e9)) < 1e-4 for point in points)]
    assert matching, sorted(scalars)
    texts = events.PluginRunToTagToContent("text")[name]
    assert texts
    tensor = events.Tensors(name, sorted(texts)[0])[0].tensor_proto
    assert tensor.string_val[0].decode()


def steps_in(run):
    log = run / "log.jsonl"
    return log.read_text().count('"loss"') if log.exists() else 0


def test_tensorboard_has_each_step_once_after_kills(tmp_path):
    (tmp_path / "corpus.txt").write_text("\n".join(TEXT))
    (tmp_path / "recipe.toml").write_text(
        RECIPE.format(model_type="llama", tied="false", precision="fp32"))
    command = [BUILD / "naite", "train", tmp_path / "recipe.toml", "--run", tmp_path / "run",
               "--threads", "1", "--set", "checkpoint.every=\"25%\""]
    for steps in (15, 35, 55):  # of 80; states are stored after 20, 40, 60: steps are done twice
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while steps_in(tmp_path / "run") < steps and child.poll() is None:
            time.sleep(0.005)
        child.kill()
        child.wait()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    events = EventMultiplexer().AddRunsFromDirectory(str(tmp_path / "run")).Reload()
    (name,) = events.Runs()
    tags = [tag for tag in events.Runs()[name]["scalars"] if len(events.Scalars(name, tag)) > 60]
    assert tags
    for tag in tags:
        assert [point.step for point in events.Scalars(name, tag)] == list(range(1, 81)), tag
