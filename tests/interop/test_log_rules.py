# SPDX-License-Identifier: Apache-2.0
"""The rules of entries: a real log keeps them, and each change of it breaks one."""
import copy
import json
import pathlib

import pytest

import log_rules

RUN = pathlib.Path(__file__).parent.parent / "fuzz" / "history" / "run"
ENTRIES = [json.loads(line) for line in RUN.read_text().splitlines()]
ORIGIN = ENTRIES[0]["origin"]


def found(entries, kind="run", origin=ORIGIN):
    encoded = [log_rules.canonical(entry).encode() for entry in entries]
    return log_rules.findings(kind, encoded, origin)


def index_of(kind, number=0):
    return [i for i, entry in enumerate(ENTRIES) if entry["type"] == kind][number]


def amendment(step=20, time=None, **changes):
    return {"type": "amendment", "step": step, "changes": changes,
            "time": ENTRIES[-1]["time"] if time is None else time}


def at(entry, index):
    return lambda entries: entries.insert(index, entry)


def put(index, path, value):
    def change(entries):
        target = entries[index]
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value
    return change


def drop(index):
    return lambda entries: entries.pop(index)


END, STATE = len(ENTRIES) - 1, index_of("checkpoint", 2)
WRONG = {
    "no commitment": drop(0),
    "no seed": drop(1),
    "no initial tensors": drop(2),
    "no first checkpoint": drop(index_of("checkpoint")),
    "a step left out": drop(index_of("steps", 3)),
    "a step twice": at(ENTRIES[index_of("steps", 3)], index_of("steps", 3)),
    "a checkpoint twice": at(ENTRIES[STATE], STATE),
    "a planned checkpoint left out": drop(STATE),
    "a checkpoint as a state": lambda entries: entries[STATE].update(
        type="state", directory="audit/step0000000010", first_token=0),
    "two ends": at(ENTRIES[END], END),
    "an early end": lambda entries: entries.pop(index_of("checkpoint", 4)),
    "an unknown key": put(STATE, ("note",), ""),
    "another directory": put(STATE, ("directory",), "checkpoints/elsewhere"),
    "another token": put(STATE, ("first_token",), 0),
    "a better loss": put(STATE, ("metrics", "loss"), 0.5),
    "a benchmark": put(STATE, ("metrics", "mmlu"), 0.9),
    "no nonce": put(0, ("nonce",), ""),
    "another version": put(0, ("version",), "the official release"),
    "a name that turns": put(0, ("name",), "\u202eelttil"),
    "another training": put(0, ("training", "stages", 0, "optimizer", "learning_rate"), 1),
    "an amendment at no step": at(amendment(9999999, name="x"), END),
    "an amendment of the past": at(amendment(10, name="x"), END),
    "an amendment of what decides bits": at(amendment(training_digest="0" * 64), END),
    "an amendment of nothing": at(amendment(), END),
    "an amendment that changes nothing": at(amendment(name=ENTRIES[0]["name"]), END),
    "an amendment before the commitment's time": at(amendment(time=0, name="x"), END),
    "a plan that holds for what was before": at(
        amendment(10, plan=[{"every": "5%"}]), index_of("steps", 10)),
}


def test_a_real_log_keeps_the_rules():
    assert found(ENTRIES) == []
    for size in range(len(ENTRIES) + 1):  # of a run under way, every beginning
        assert found(ENTRIES[:size]) == []
    entries = copy.deepcopy(ENTRIES)
    entries.insert(END, amendment(version="0.2.0", plan=[{"every": "50%"}]))
    assert found(entries) == []


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG.keys())
def test_a_changed_log_breaks_one(change):
    entries = copy.deepcopy(ENTRIES)
    change(entries)
    assert found(entries)


def test_every_run_is_listed_once_and_ends_once():
    run = {"type": "run", "origin": "example.org/team/a", "commitment": "0" * 64, "time": 1}
    end = {"type": "end", "origin": "example.org/team/a", "size": 3, "root": "0" * 64}
    good = [[], [run], [run, end]]
    bad = [[end], [run, run], [run, end, end], [run, dict(run, time=2)], [dict(run, note="")],
           [dict(run, origin="example.org/other/a")], [dict(run, time="1")]]
    for entries in good:
        assert not found(entries, "list", "example.org/team"), entries
    for entries in bad:
        assert found(entries, "list", "example.org/team"), entries


def test_numbers_are_spelled_as_in_javascript():
    for value, text in ((0, "0"), (1e21, "1e+21"), (1e20, "100000000000000000000"), (1e-7, "1e-7"),
                        (0.000001, "0.000001"), (-1.5, "-1.5"), (123456.789, "123456.789"),
                        (5e-324, "5e-324"), (1.25e-9, "1.25e-9"), (2 ** 53, "9007199254740992")):
        assert log_rules.number_text(float(value)) == text
