"""What every report has before anything was measured."""

import json

from fastframe.bench import family


def test_a_new_report_has_its_keys_and_nobody_in_it():
    settings = {"turns": 3}
    report = family.new_report("echo", quick=True, settings=settings)
    machine = report.pop("machine")
    assert machine["cores"] > 0
    nothing = {"versions": {}, "contenders": {}, "does": {}, "left_out": []}
    assert report == {"benchmark": "echo", "quick": True, "settings": settings, **nothing}
    settings["turns"] = 4
    assert report["settings"] == {"turns": 3}


def test_every_key_is_explained():
    words = family.__doc__.partition("measures:")[2].split()
    assert [key for key in family.new_report("echo", quick=False, settings={}) if key not in words] == []


def test_two_reports_share_nothing_and_fit_in_json():
    first, second = (family.new_report("echo", quick=False, settings={}) for _ in range(2))
    first["left_out"].append("go: not here")
    first["contenders"]["c"] = "base"
    assert (second["left_out"], second["contenders"]) == ([], {})
    assert json.loads(json.dumps(first)) == first
