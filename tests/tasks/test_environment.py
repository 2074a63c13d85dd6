import subprocess
import sys

from tasks.environment import differences, environment


def test_the_same_code_gives_the_same_digest_in_every_process():
    code = "from tasks.environment import environment; print(environment()['regionflow code'])"
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert there == environment()["regionflow code"]


def test_an_absent_library_is_a_difference():
    assert differences({"numpy": "2.0", "zarr": "3.1"}, {"numpy": "2.0"}) == ["zarr absent (3.1 here)"]


def test_equal_environments_do_not_differ():
    assert differences(environment(), environment()) == []
