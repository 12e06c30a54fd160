"""What is said of the machine. Nothing here is timed."""

import json

from fastframe.bench import machine


def test_machine_says_everything_and_fits_in_json():
    found = machine.machine()
    assert json.loads(json.dumps(found)) == found
    assert all(found[key] for key in ("cpu", "cores", "kernel", "python", "compiler", "fastframe", "implementation", "date"))
    assert found["memcpy_stumble"] > 0


def test_versions_of_what_is_installed():
    assert list(machine.package_versions(["pytest", "no-such-package"])) == ["pytest"]


def test_settings_read_as_in_a_shell():
    assert machine.environment_text({"A": "1", "B": "x=y"}) == "A=1 B=x=y"
