# SPDX-License-Identifier: Apache-2.0
"""The entries of a run's log and of a publisher's log of runs, checked against docs/LEDGER.md,
"Entries", sharing no code with Naite. c2sp_check.py calls it with --entries."""
import base64
import binascii
import hashlib
import json
import math
import re
import struct

MAX = 1 << 53
EMPTY, COMMITTED, SEEDED, INITIALISED, UNDER_WAY, OVER = range(6)
UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160"
    "\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff0-\ufffb\ufffe\uffff\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]")


class Wrong(Exception):
    """What is wrong with an entry, in words."""


def require(condition, words):
    if not condition:
        raise Wrong(words)


# --- RFC 8785 -------------------------------------------------------------------------------------

def number_text(value):
    """ECMA-262, Number::toString, from Python's shortest digits."""
    if value == 0:
        return "0"
    if value < 0:
        return "-" + number_text(-value)
    mantissa, _, exponent = f"{value!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        return digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return "0." + "0" * -point + digits
    rest = "." + digits[1:] if len(digits) > 1 else ""
    return f"{digits[0]}{rest}e{'+' if point > 0 else '-'}{abs(point - 1)}"


def canonical(value):
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return "{" + ",".join(f"{canonical(key)}:{canonical(value[key])}" for key in keys) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return number_text(float(value))


def parse(data):
    try:
        value = json.loads(data.decode("utf-8"))
        text = canonical(value).encode("utf-8")
    except (ValueError, RecursionError, OverflowError):
        raise Wrong("no JSON that has a canonical form") from None
    require(text == data, "not canonical JSON")
    require(isinstance(value, dict), "no object")
    return value


# --- forms of values ------------------------------------------------------------------------------

def is_count(value, least=0, most=MAX):
    whole = isinstance(value, (int, float)) and not isinstance(value, bool)
    return whole and value == int(value) and least <= value <= most


def is_line(value, most=1024):
    return isinstance(value, str) and len(value.encode()) <= most and not UNSEEN.search(value)


def is_name(value):
    return (is_line(value, 128) and value != "" and value[0] not in ".-" and "/" not in value
            and "\\" not in value)


def matches(pattern):
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def is_decimal(value):
    return matches("0|[1-9][0-9]{0,18}")(value) and int(value) < 1 << 63


is_digest = matches("[0-9a-f]{64}")
is_bits = matches("[0-9a-f]{16}")
is_percentage = matches("[0-9.]{1,15}%")
is_version = matches(r"(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})")
is_commit = matches("unknown|[0-9a-f]{40}(-dirty)?")


def is_time(value):
    return is_count(value, -MAX)


def is_object(value):
    return isinstance(value, dict)


def is_list(value):
    return isinstance(value, list) and len(value) > 0


def is_positive(value):
    return is_count(value, 1)


def anything(_):
    return True


STORED = {"step": is_count, "first_token": is_count, "end_token": is_count, "directory": is_line,
          "manifest": is_digest, "weights": is_digest, "state": is_digest, "metrics": is_object}
CHANGEABLE = {"name": is_name, "manifest_sha256": is_digest, "recipe_sha256": is_digest,
              "plan": is_list, "version": is_version, "source_commit": is_commit}

# type: first and last phase in which it may stand, keys, keys that may be absent
RUN = {
    "commitment": (EMPTY, EMPTY, {
        "format": lambda v: is_count(v, 1, 1), "origin": is_line, "vkey": is_line,
        "model_key": matches(r"(?s).*"), "nonce": matches("[0-9a-f]{32}"), "time": is_time,
        "name": is_name, "training": is_object, "training_digest": is_digest,
        "arithmetic": is_line, "architecture": is_line, "parameters": is_positive,
        "steps": is_positive, "tokens": is_positive, "tokenizer_sha256": is_digest,
        "tokenizer_config_sha256": is_digest, "data_digest": is_digest,
        "manifest_sha256": is_digest, "recipe_sha256": is_digest, "plan": is_list,
        "branch": anything, "version": is_version, "source_commit": is_commit}, {}),
    "seed": (COMMITTED, COMMITTED, {"kind": matches("trainer|beacon"), "seed": is_decimal},
             {"value": matches("([0-9a-f]{2}){1,512}"), "cosignatures": is_list}),
    "initial": (SEEDED, SEEDED,
                {"first": is_count, "total": is_positive, "tensors": is_object}, {}),
    "checkpoint": (INITIALISED, UNDER_WAY, STORED, {}),
    "state": (UNDER_WAY, UNDER_WAY, STORED, {}),
    "steps": (UNDER_WAY, UNDER_WAY, {"first": is_positive, "steps": is_list}, {}),
    "amendment": (COMMITTED, UNDER_WAY,
                  {"step": is_count, "changes": is_object, "time": is_time}, {}),
    "end": (UNDER_WAY, UNDER_WAY, {"step": is_positive, "state": is_digest, "time": is_time}, {}),
    "abandoned": (COMMITTED, UNDER_WAY,
                  {"step": is_count, "reason": is_line, "time": is_time}, {}),
}
LIST = {
    "run": (EMPTY, OVER, {"origin": is_line, "commitment": is_digest, "time": is_time}, {}),
    "end": (EMPTY, OVER, {"origin": is_line, "size": is_positive, "root": is_digest}, {}),
}


def check_keys(value, needed, optional=()):
    for key in needed:
        require(key in value, f"the key {key} is missing")
    for key, item in value.items():
        fits = needed.get(key) or dict(optional).get(key)
        require(fits is not None, f"an unknown key {key!r}")
        require(fits(item), f"{key} must not be {str(item)[:60]!r}")


def check_form(entry, rules, phase):
    require(isinstance(entry.get("type"), str) and entry["type"] in rules, "an unknown type")
    first, last, needed, optional = rules[entry["type"]]
    check_keys({key: value for key, value in entry.items() if key != "type"}, needed, optional)
    require(first <= phase <= last, f"{entry['type']} cannot stand here")


# --- the log of a run -----------------------------------------------------------------------------

class Run:
    """What the entries so far say."""

    def __init__(self):
        self.commitment = self.seed = None
        self.amended, self.amendments, self.plans = {}, [], []
        self.initial, self.total, self.initialised = [], None, False
        self.steps, self.stored, self.over, self.ended, self.time = [], [], False, False, None

    def phase(self):
        if self.commitment is None:
            return EMPTY
        if self.over:
            return OVER
        if self.seed is None:
            return COMMITTED
        if not self.initialised:
            return SEEDED
        return UNDER_WAY if self.stored else INITIALISED

    def add(self, data):
        entry = parse(data)
        check_form(entry, RUN, self.phase())
        kind = "stored" if entry["type"] in ("checkpoint", "state") else entry["type"]
        getattr(self, "add_" + kind)(entry)

    def first_step(self):
        return (self.commitment["branch"] or {"step": 0})["step"]

    def last_step(self):
        return self.first_step() + len(self.steps)

    def last_checkpoint(self):
        return next((s for s in reversed(self.stored) if s["type"] == "checkpoint"), None)

    def tell_time(self, entry):
        require(self.time is None or entry["time"] >= self.time, "the time goes back")
        self.time = entry["time"]

    def check_plan(self, plan):
        require(isinstance(plan, list) and len(plan) == len(self.stages()), "another plan's stages")
        for stage in plan:
            require(isinstance(stage, dict), "no plan")
            check_keys(stage, {"every": is_percentage}, {"audit_every": is_percentage})

    def stages(self):
        stages = self.commitment["training"].get("stages")
        return stages if isinstance(stages, list) else []

    def add_commitment(self, entry):
        name, _, rest = entry["vkey"].partition("+")
        require(name == entry["origin"], "the key has another name than the log")
        publisher, _, leaf = name.rpartition("/")
        require(publisher and leaf, "the origin is not PUBLISHER/NAME")
        try:
            key = base64.b64decode(rest.partition("+")[2], validate=True)
        except binascii.Error:
            key = b""
        require(len(key) == 33 and key[0] == 1, "no Ed25519 key")
        require(name.startswith("unsigned.invalid/") == (entry["model_key"] == ""),
                "a key for checkpoints and no publisher, or the other way round")
        digest = hashlib.sha256(canonical(entry["training"]).encode()).hexdigest()
        require(digest == entry["training_digest"], "training_digest is another one")
        branch = entry["branch"]
        require(branch is None or isinstance(branch, dict), "no branch")
        if branch is not None:
            check_keys(branch, {"step": lambda v: is_count(v, 0, entry["steps"]),
                                "state_digest": is_digest,
                                "recipe_digest": lambda v: v == "" or is_digest(v)},
                       {"from": is_line, "weights_digest": anything, "grown": anything,
                        "tokens": anything,
                        "seed": anything, "arithmetic": anything, "origin": anything})
        self.commitment, self.amended = entry, dict(entry)
        self.check_plan(entry["plan"])
        self.plans = [(self.first_step() - 1, entry["plan"])]
        self.tell_time(entry)

    def add_seed(self, entry):
        require((entry["kind"] == "beacon") == ("value" in entry), "a value and no beacon")
        require(entry["kind"] == "beacon" or "cosignatures" not in entry, "cosigned for nothing")
        self.seed = entry

    def add_initial(self, entry):
        known, names = len(self.initial), sorted(entry["tensors"], key=str.encode)
        self.total = entry["total"] if self.total is None else self.total
        require(entry["first"] == known and entry["total"] == self.total, "first or total")
        require(len(names) == min(300, self.total - known), "tensors in other portions")
        require(not self.initial or not names or self.initial[-1].encode() < names[0].encode(),
                "tensors out of order")
        require(all(map(is_digest, entry["tensors"].values())), "no digest of a tensor")
        require(not any(map(UNSEEN.search, names)), "a name that cannot be seen")
        self.initial += names
        self.initialised = len(self.initial) == self.total

    def add_steps(self, entry):
        require(entry["first"] == self.last_step() + 1, "steps out of order")
        require(len(entry["steps"]) <= 400, "too many steps for an entry")
        require(self.last_step() + len(entry["steps"]) <= self.commitment["steps"],
                "more steps than planned")
        for step in entry["steps"]:
            require(isinstance(step, list) and len(step) == 3 and is_bits(step[0])
                    and is_bits(step[1]) and is_digest(step[2]), "no step")
        self.steps += entry["steps"]

    def add_stored(self, entry):
        step, is_checkpoint = entry["step"], entry["type"] == "checkpoint"
        low = self.stored[-1]["step"] + 1 if self.stored else self.first_step()
        high = self.last_step() if self.stored else self.first_step()
        require(low <= step <= high, "a state out of order, or a second one of a step")
        before = self.last_checkpoint()
        first = before["end_token"] if is_checkpoint and before else 0
        require(entry["first_token"] == first <= entry["end_token"], "first_token or end_token")
        number = f"step{step:010d}"
        name = (rf"checkpoints/stage[1-9][0-9]{{0,4}}-{number}-tokens{entry['end_token']:016d}"
                if is_checkpoint else f"audit/{number}")
        require(re.fullmatch(name, entry["directory"]), "another directory than the step's")
        check_keys(entry["metrics"], {"loss": anything, "validation": anything})
        self.check_metrics(entry)
        self.stored.append(entry)

    def check_metrics(self, entry):
        step, loss = entry["step"], entry["metrics"].get("loss")
        if step > self.first_step():
            bits = int(self.steps[step - self.first_step() - 1][0], 16)
            require(loss == struct.unpack(">d", bits.to_bytes(8, "big"))[0], "another loss")
        require(step > 0 or loss is None, "a loss before the first step")
        validation = entry["metrics"].get("validation")
        for measured in (validation or {}).values():
            require(set(measured) == {"loss", "bits_per_byte"}
                    and all(isinstance(v, (int, float)) and math.isfinite(v)
                            for v in measured.values()), "no measurement")
        before = self.last_checkpoint()
        require(entry["type"] == "checkpoint" or validation is None
                or (before and validation == before["metrics"].get("validation")),
                "a state that was measured")

    def add_amendment(self, entry):
        low = max([self.stored[-1]["step"] if self.stored else self.first_step()]
                  + [amendment["step"] for amendment in self.amendments])
        at = entry["step"]
        require(low <= at <= self.last_step() or (not self.stored and at == 0),
                "an amendment at no step that the run could go on from")
        changes = entry["changes"]
        require(len(self.amendments) < 1000, "too many amendments")
        require(changes, "an amendment of nothing")
        check_keys(changes, {}, CHANGEABLE)
        for key, value in changes.items():
            require(self.amended[key] != value, f"{key} was that before")
        if "plan" in changes:
            self.check_plan(changes["plan"])
            self.plans.append((at, changes["plan"]))
        self.amended.update(changes)
        self.amendments.append(entry)
        self.tell_time(entry)

    def add_end(self, entry):
        newest = self.stored[-1]
        require(entry["step"] == self.last_step() == self.commitment["steps"], "an early end")
        require(newest["type"] == "checkpoint" and newest["step"] == entry["step"]
                and newest["state"] == entry["state"], "the end of another state")
        self.tell_time(entry)
        self.over = self.ended = True

    def add_abandoned(self, entry):
        require(entry["step"] == self.last_step(), "abandoned at another step")
        self.tell_time(entry)
        self.over = True

    # Which states there must be.

    def check_states(self):
        """Every state is planned, and up to the newest one all that are planned are there."""
        if not self.stored:
            return
        first, newest = self.first_step(), self.stored[-1]["step"]
        wanted = {}
        for (after, plan), (until, _) in zip(self.plans, self.plans[1:] + [(newest, None)]):
            for step, kind in planned(self.stages(), plan).items():
                if max(first, after) < step <= min(until, newest):
                    wanted[step] = kind
        wanted[first] = "checkpoint"
        found = {entry["step"]: entry["type"] for entry in self.stored}
        for step in sorted(set(wanted) | set(found)):
            require(wanted.get(step) == found.get(step),
                    f"after step {step} the plan has {wanted.get(step)}, the log "
                    f"{found.get(step)}")


def share_of(text):
    return float(text[:-1]) / 100


def steps_every(share, first, total):
    """Each multiple of the share of the steps, rounded up, but for the first and the last one."""
    share, steps, index = max(share, 1 / total), [], 1
    while index * share < 1 - 1e-9:
        step = first + math.ceil(index * share * total - 1e-6)
        if (steps[-1] if steps else first) < step < first + total:
            steps.append(step)
        index += 1
    return steps


def planned(stages, plan):
    """Step to kind, of all stages under one plan."""
    out, first = {}, 0
    for stage, when in zip(stages, plan):
        train = stage["train"]
        total = -(-train["tokens"] // train["batch_tokens"])
        checkpoints = set(steps_every(share_of(when["every"]), first, total)) | {first + total}
        averaging = stage.get("averaging")
        if averaging:
            decay = math.ceil(stage["schedule"]["decay_ratio"] * total - 1e-6)
            checkpoints |= {step for step in steps_every(share_of(averaging["every"]), first, total)
                            if step > first + total - decay}
        for step in steps_every(share_of(when.get("audit_every", "100%")), first, total):
            out[step] = "state"
        out.update(dict.fromkeys(checkpoints, "checkpoint"))
        first += total
    return out


# --- the log of runs ------------------------------------------------------------------------------

def check_list(entries, publisher):
    begun, ended = set(), set()
    for entry in map(parse, entries):
        check_form(entry, LIST, EMPTY)
        origin = entry["origin"]
        require(origin.startswith(publisher + "/"), "a run of another publisher")
        if entry["type"] == "run":
            require(origin not in begun, "a run that is listed twice")
            begun.add(origin)
        else:
            require(origin in begun and origin not in ended, "an end without its run, or a second")
            ended.add(origin)


def check_run(entries, origin):
    run = Run()
    for index, entry in enumerate(entries):
        try:
            run.add(entry)
        except Wrong as wrong:
            raise Wrong(f"entry {index}: {wrong}") from None
    require(run.commitment is None or run.commitment["origin"] == origin,
            "a commitment of another log")
    run.check_states()
    return run


def findings(kind, entries, origin):
    """One line for what is wrong, if anything is. `kind` is "run" or "list"."""
    try:
        check_run(entries, origin) if kind == "run" else check_list(entries, origin)
    except Wrong as wrong:
        return [str(wrong)]
    return []
