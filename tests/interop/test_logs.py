# SPDX-License-Identifier: Apache-2.0
"""A run's event files in TensorBoard: scalars and text samples."""
import json

from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer


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
