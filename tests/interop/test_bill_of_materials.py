# SPDX-License-Identifier: Apache-2.0
"""Bills of materials against CycloneDX's own schema."""
import json

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from support import BUILD, ROOT, run


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


def test_the_schema_notices():
    bill = json.loads(run(ROOT / "tools" / "bill_of_materials", BUILD))
    bill["components"][0]["type"] = "wood"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is not None
