# SPDX-License-Identifier: Apache-2.0
"""Bills of materials against CycloneDX's own schema."""
import json

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from support import BUILD, ROOT, naite, run


def expect_valid(text):
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert wrong is None, wrong


def test_bill_of_the_build():
    text = run(ROOT / "tools" / "bill_of_materials", BUILD).decode()
    expect_valid(text)
    bill = json.loads(text)
    names = {c["name"]: c for c in bill["components"]}
    # Linked, header-only, and a tool; each with its version and a licence.
    for name, scope in [("libssl3", "required"), ("libtomlplusplus-dev", "excluded"),
                        ("cmake", "excluded")]:
        assert names[name]["scope"] == scope
        assert names[name]["version"] and names[name]["licenses"]
    assert text == run(ROOT / "tools" / "bill_of_materials", BUILD).decode()


def test_bill_of_a_checkpoint(tmp_path):
    """Every source of the text with its licence and shards, the tokenizer, the program."""
    training = tmp_path / "run"
    naite("train", ROOT / "tests" / "recipes" / "tiny.toml", "--run", training,
          "--stop-after-step", "0")
    (checkpoint,) = (training / "checkpoints").iterdir()
    text = (checkpoint / "bom.cdx.json").read_text()
    expect_valid(text)
    bill = json.loads(text)
    manifest = json.loads((training / "data" / "manifest.json").read_text())
    source, tokenizer = bill["components"]
    assert source["name"] == "licence" and source["type"] == "data"
    assert source["licenses"] == [{"license": {"name": "Apache-2.0"}}]
    properties = {p["name"]: p["value"] for p in source["properties"]}
    assert properties["naite:origin"] == "this repository"
    assert properties["naite:train_tokens"] == str(manifest["sources"][0]["train"]["tokens"])
    shards = {c["name"]: c["hashes"][0]["content"] for c in source["components"]}
    shard = manifest["sources"][0]["train"]["shards"][0]
    assert shards[shard["file"]] == shard["sha256"]
    assert tokenizer["hashes"][0]["content"] == manifest["tokenizer_sha256"]
    assert bill["metadata"]["tools"]["components"][0]["name"] == "naite"


def test_the_schema_notices():
    bill = json.loads(run(ROOT / "tools" / "bill_of_materials", BUILD))
    bill["components"][0]["type"] = "wood"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is not None
