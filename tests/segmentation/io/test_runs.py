from segmentation.io.runs import list_runs, read_run, start_run, write_run


def test_runs_count_up_whatever_the_clock_says(tmp_path):
    (tmp_path / "runs" / "000041-29990101T000000Z").mkdir(parents=True)
    run = start_run(tmp_path, {"label": "ward"})
    assert run.startswith("000042-")
    assert [path.name for path in sorted((tmp_path / "runs").iterdir())][-1] == run


def test_a_run_keeps_what_was_written_last(tmp_path):
    run = start_run(tmp_path, {"label": "ward"})
    write_run(tmp_path, run, {**read_run(tmp_path, run), "finished": "later"})
    (description,) = list_runs(tmp_path)
    assert (description["label"], description["finished"]) == ("ward", "later")
    assert "started" in description


def test_a_run_that_died_before_it_was_described_is_listed(tmp_path):
    (tmp_path / "runs" / "000001-x").mkdir(parents=True)
    assert list_runs(tmp_path) == [{"run": "000001-x"}]
