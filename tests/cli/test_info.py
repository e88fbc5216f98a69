"""unet-live info: what a bug report needs."""

import json

import torch


def test_info_tells_what_a_bug_report_needs(unet_live):
    """Versions, devices, what was chosen of them, and the shipped models, in both forms."""
    code, out, _ = unet_live("info", "--json")
    facts = json.loads(out)
    assert code == 0
    assert set(facts) == {"system", "python", "packages", "devices", "chosen", "speeds", "models"}
    assert facts["packages"]["torch"] == torch.__version__
    assert facts["speeds"][0]["number_type"] == "float32"
    assert any(speed["number_type"] in facts["chosen"] for speed in facts["speeds"])
    lines = unet_live("info")[1].splitlines()
    assert any(line.startswith("python") for line in lines)
    speeds = lines.index("speeds")
    assert all("256 x 256" in line for line in lines[speeds + 1 : speeds + 1 + len(facts["speeds"])])
    assert lines[-1].startswith("models")
