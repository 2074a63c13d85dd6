import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.cli import run_command
from flows.recipes import recipe_from
from flows.settings import Settings
from segmentation.errors import ParameterError
from segmentation.io.lock import store_lock

COMMAND = [sys.executable, "-m", "flows.cli"]


@pytest.fixture
def filled(archive, tmp_path, prefect_api, dask_scheduler, capsys):
    root = tmp_path / "out"
    assert run_command(run_arguments(archive, root, dask_scheduler)) == 1
    capsys.readouterr()
    return root


def run_arguments(source, root, scheduler, *more):
    plain = ["run", str(source), str(root), "--method", "ward", "--regions", "3", "--scale", "0.5", "--sigma", "1"]
    return [*plain, "--scheduler", scheduler, *more]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--regions", "0"], r"--regions: got '0'; different numbers, each >= 1, are expected"),
        (["--regions", "8,8"], r"--regions: got '8,8'; different numbers, each >= 1, are expected"),
        (["--sigma", "-1"], r"sigma: input should be greater than or equal to 0, got -1.0"),
        (["--sigma", "nan"], r"sigma: input should be .*got nan"),
        (["--scale", "0"], r"scale: input should be greater than 0, got 0.0"),
        (["--scale", "1.5"], r"scale: input should be less than or equal to 1, got 1.5"),
        (["--set", "beta=.inf"], r"method.beta: input should be a finite number, got inf"),
        (["--set", "beta"], r"--set: got 'beta'; NAME=VALUE is expected"),
        (["--set", "betta=3"], r"method.betta: no such parameter; did you mean 'beta'\?"),
        (["--method", "wards"], r"wards"),
        (["--regions", "four"], r"--regions: got 'four'; a number, auto, or several as 8,16,32, are expected"),
        (["--method", "kmeans", "--regions", "auto"], r"method.n_clusters: .*integer.*, got 'auto'"),
        (["--method", "hierarchy", "--set", "threshold=.nan"], r"threshold: input should be a finite number, got nan"),
        (["--method", "hierarchy", "--regions", "4", "--set", "threshold=0.3"], r"n_regions is 4: .* leave it out"),
        (["--mask", "absent"], r"--mask: absent does not exist"),
        (["--label", "../x"], r"--label: got '../x'; letters, digits"),
        (["--workers", "-2"], r"workers: input should be greater than or equal to 0, got -2"),
        (["--colour", "red"], r"colour"),
        (["--scheduler", "host"], r"scheduler: string should match pattern .*got 'host'"),
    ],
)
def test_wrong_parameters_end_with_code_2_before_anything_is_written(archive, tmp_path, capsys, arguments, message):
    import re

    root = tmp_path / "out"
    assert run_command(["run", str(archive), str(root), *arguments]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert error.startswith("regionflow: ")
    assert not root.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scale: 0.5\nscal: 0.2\n", "scal: no such parameter; did you mean 'scale'?"),
        ("scale: 0.5\nscale: 0.2\n", "the key 'scale' is given twice"),
        ("method: wards\n", "unknown method 'wards'; choose spectral, ward, kmeans"),
        ("method: {method: ward, n_region: 3}\n", "did you mean 'n_regions'?"),
        ("- 1\n", "a mapping of parameters is expected"),
        ("scale: [\n", "line 2"),
        ("mask_shape: 3\n", "no such parameter"),
    ],
)
def test_a_wrong_recipe_file_ends_with_code_2_and_names_the_fault(archive, tmp_path, capsys, text, message):
    config = tmp_path / "recipe.yaml"
    config.write_text(text)
    assert run_command(["run", str(archive), str(tmp_path / "out"), "--config", str(config)]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_other_files_is_not_taken_for_a_store(archive, capsys):
    assert run_command(["run", str(archive), str(archive)]) == 2
    assert "holds other files" in capsys.readouterr().err


def test_a_source_that_does_not_exist_is_named(tmp_path, capsys):
    assert run_command(["run", str(tmp_path / "absent"), str(tmp_path / "out")]) == 2
    assert "absent does not exist" in capsys.readouterr().err


def test_the_report_is_json_on_request(archive, tmp_path, capsys, prefect_api, dask_scheduler):
    assert run_command(run_arguments(archive, tmp_path / "out", dask_scheduler, "--json")) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["states"] == {"segmented": 5, "rejected": 1, "failed": 0}
    assert report["exit_code"] == 1


def test_the_summary_counts_names_what_was_refused_and_says_where_to_look(
    archive, tmp_path, capsys, prefect_api, dask_scheduler
):
    run_command(run_arguments(archive, tmp_path / "out", dask_scheduler))
    output = capsys.readouterr()
    assert "6 images: 6 new" in output.err
    assert "5 segmented, 1 rejected, 0 failed" in output.out
    assert "broken.png" in output.out
    assert "gallery/index.html" in output.out


def test_a_sound_archive_ends_with_code_0_and_a_second_run_says_there_is_nothing_to_do(
    archive, tmp_path, capsys, prefect_api, dask_scheduler
):
    (archive / "broken.png").unlink()
    arguments = run_arguments(archive, tmp_path / "out", dask_scheduler)
    assert run_command(arguments) == 0
    assert run_command(arguments) == 0
    assert "Nothing to do: 5 images already done as ward." in capsys.readouterr().out


def test_quiet_is_quiet(archive, tmp_path, capsys, prefect_api, dask_scheduler):
    run_command(run_arguments(archive, tmp_path / "out", dask_scheduler, "--quiet"))
    output = capsys.readouterr()
    assert output.out == ""
    assert "images" not in output.err


def test_a_held_store_ends_with_code_3(archive, tmp_path, capsys, prefect_api, dask_scheduler):
    with store_lock(tmp_path / "out"):
        assert run_command(run_arguments(archive, tmp_path / "out", dask_scheduler)) == 3
    assert "another run" in capsys.readouterr().err


def test_a_scheduler_that_does_not_answer_ends_with_code_4(archive, tmp_path, capsys, prefect_api, monkeypatch):
    monkeypatch.setattr("flows.dask_cluster.CONNECT_TIMEOUT_S", 1)
    assert run_command(run_arguments(archive, tmp_path / "out", "tcp://127.0.0.1:9")) == 4
    assert "tcp://127.0.0.1:9" in capsys.readouterr().err


def test_status_counts_and_names_what_was_refused(filled, capsys):
    assert run_command(["status", str(filled)]) == 0
    text = capsys.readouterr().out
    assert "broken.png" in text
    assert "ward" in text
    assert run_command(["status", str(filled), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"]["ward"]["segmented"] == 5


def test_verify_ends_with_code_1_if_anything_is_not_as_recorded(filled, capsys):
    assert run_command(["verify", str(filled)]) == 0
    assert "as recorded" in capsys.readouterr().out
    next((filled / "contours").rglob("*.png")).unlink()
    assert run_command(["verify", str(filled), "--json"]) == 1
    (fault,) = json.loads(capsys.readouterr().out)["faults"]
    assert fault["problem"] == "is missing"


def test_the_gallery_is_written_anew(filled, capsys):
    page = filled / "gallery" / "index.html"
    page.unlink()
    assert run_command(["gallery", str(filled)]) == 0
    assert page.exists()


@pytest.mark.parametrize("name", ["geojson", "coco", "csv", "png"])
def test_exports_go_below_the_store_or_where_asked(filled, tmp_path, capsys, name):
    assert run_command(["export", str(filled), name]) == 0
    assert any((filled / "export" / name).iterdir())
    assert run_command(["export", str(filled), name, "--to", str(tmp_path / "there"), "--label", "ward"]) == 0
    assert any((tmp_path / "there").iterdir())


@pytest.mark.parametrize("command", ["status", "verify", "gallery", "export"])
def test_commands_on_a_folder_without_results_say_so(tmp_path, capsys, command):
    more = ["csv"] if command == "export" else []
    assert run_command([command, str(tmp_path), *more]) == 2
    assert "holds no results" in capsys.readouterr().err


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from flows.cli import run_command; run_command(['--help'])\n"
        "heavy = {'prefect', 'dask', 'distributed', 'sklearn', 'skimage', 'scipy', 'zarr', 'pyarrow', 'numpy'}\n"
        "print(heavy & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "set()\n"
    for command in ("run", "demo", "status", "verify", "gallery", "export"):
        assert command in done.stdout


def test_an_interrupt_ends_with_code_130_and_the_next_run_goes_on(archive, tmp_path, prefect_api, capsys):
    from PIL import Image

    for number in range(24):
        Image.effect_noise((200, 200), 50 + number).save(archive / f"noise-{number:02d}.png")
    root = tmp_path / "out"
    arguments = ["run", str(archive), str(root), "--method", "spectral", "--regions", "12", "--scale", "0.5"]
    arguments += ["--set", "eigen_solver=arpack"]
    arguments += ["--workers", "1"]
    environment = {**os.environ, "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300"}
    process = subprocess.Popen(
        [*COMMAND, *arguments], stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    wait_for(lambda: any(root.glob("runs/*/records/*.parquet")), process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the embedded server and the workers as well
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "run again to go on" in error
    assert "Traceback" not in error
    done = len(list(root.glob("images/*/*.ome.zarr")))
    assert 0 < done < 29
    run_command(["status", str(root)])
    assert "did not finish: interrupted" in capsys.readouterr().out
    assert run_command([*arguments, "--json"]) == 1


def wait_for(condition, process, timeout_s=240):
    until = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, "the run ended before it was interrupted"
        assert time.monotonic() < until
        time.sleep(0.05)


def test_the_installed_command_answers():
    script = Path(sys.executable).with_name("regionflow")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0.1.0"


def test_a_store_of_a_newer_version_is_left_alone(filled, archive, dask_scheduler, capsys):
    path = next(filled.glob("runs/*/run.json"))
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    before = {entry: entry.read_bytes() for entry in filled.rglob("*") if entry.is_file()}
    (archive / "broken.png").unlink()
    for command in (run_arguments(archive, filled, dask_scheduler, "--seed", "7"), ["status", str(filled)]):
        assert run_command(command) == 4
        assert "written by a newer regionflow (format 99, this one knows 1); update it" in capsys.readouterr().err
    assert {entry: entry.read_bytes() for entry in filled.rglob("*") if entry.is_file()} == before


def test_a_store_whose_records_are_damaged_is_left_alone_and_named(filled, archive, dask_scheduler, capsys):
    index = filled / "tables" / "index.parquet"
    index.write_bytes(index.read_bytes()[:-20])
    before = {entry: entry.read_bytes() for entry in filled.rglob("*") if entry.is_file()}
    assert run_command(run_arguments(archive, filled, dask_scheduler, "--seed", "7")) == 4
    assert "index.parquet: not a readable Parquet file" in capsys.readouterr().err
    assert {entry: entry.read_bytes() for entry in filled.rglob("*") if entry.is_file()} == before


@pytest.mark.parametrize("address", ["tcp://10.0.0.5:8786", "tcp://scheduler.lab:8786", "tcp://[2001:db8::1]:8786"])
def test_a_plain_connection_to_another_machine_is_refused(archive, tmp_path, capsys, address):
    assert run_command(["run", str(archive), str(tmp_path / "out"), "--scheduler", address]) == 2
    error = capsys.readouterr().err
    assert "scheduler: " in error
    assert "use tls://" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:8786", "tcp://[::1]:8786", "tcp://localhost:8786", "tls://far:1"])
def test_encrypted_connections_and_those_on_this_machine_are_not(address):
    assert Settings(scheduler=address).scheduler == address


@pytest.mark.parametrize(("text", "expected"), [("012", 12), ("1:30", None), ("0x10", None)])
def test_whole_numbers_of_a_recipe_are_decimal(tmp_path, text, expected):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"seed: {text}\n")
    if expected is None:
        with pytest.raises(ParameterError, match="seed"):
            recipe_from(path)
    else:
        assert recipe_from(path).seed == expected
