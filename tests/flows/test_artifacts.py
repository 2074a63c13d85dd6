import asyncio
import base64
import io
import json
import re
from uuid import UUID

import pytest
from PIL import Image
from prefect import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterId

from flows.segment_archive import segment_archive
from flows.settings import Settings
from segmentation import Recipe, Ward

RECIPE = Recipe(sigma=1, scale=0.5, method=Ward(n_regions=3))


@pytest.fixture
def night(archive, tmp_path, prefect_api, dask_scheduler):
    """A finished run: its flow run, task runs, and artifacts by key, as the API tells them."""
    (archive / "<b>bold|x.png").write_bytes(b"no image")
    state = segment_archive(
        str(archive), str(tmp_path / "out"), RECIPE, settings=Settings(scheduler=dask_scheduler), return_state=True
    )
    run_id = state.state_details.flow_run_id
    return asyncio.run(_read(UUID(str(run_id))))


async def _read(run_id):
    only = FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))
    async with get_client() as client:
        for _ in range(100):  # task runs reach the API through events, a moment later
            task_runs = await client.read_task_runs(flow_run_filter=only)
            if all(run.state is not None and run.state.is_final() for run in task_runs):
                break
            await asyncio.sleep(0.1)
        artifacts = await client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
        )
        return await client.read_flow_run(run_id), task_runs, {artifact.key: artifact for artifact in artifacts}


def test_the_ui_shows_progress_summary_refusals_pictures_and_the_dashboard(night):
    flow_run, task_runs, artifacts = night
    assert set(artifacts) == {"progress", "summary", "refused-images", "contact-sheet", "dask-dashboard"}

    assert float(artifacts["progress"].data) == 100
    assert artifacts["progress"].description == "7 of 7 images, 2 refused"

    refused = artifacts["refused-images"].data
    rows = json.loads(refused) if isinstance(refused, str) else refused
    assert [row["image"] for row in rows] == ["<b>bold|x.png", "broken.png"]
    assert all("not an image" in row["reason"] for row in rows)

    summary = artifacts["summary"].data
    assert "**7 of 7 images computed**" in summary
    assert "| rejected | 2 |" in summary
    assert summary.count("%") == 5  # the worst of five segmented images
    for step in ("load", "smooth_and_rescale", "build_graph", "cluster", "render_contours", "store"):
        assert f"| {step} |" in summary

    picture = re.search(r"data:image/jpeg;base64,([^)]+)\)", artifacts["contact-sheet"].data)
    with Image.open(io.BytesIO(base64.b64decode(picture[1]))) as sheet:
        sheet.load()
        assert sheet.width > 400
    assert len(artifacts["contact-sheet"].data) < 400_000

    assert artifacts["dask-dashboard"].data.count("127.0.0.1") >= 1

    assert {"method:ward", "label:ward", "source:archive"} <= set(flow_run.tags)
    names = sorted(run.name for run in task_runs)
    steps = ("build graph", "cluster", "load", "render contours", "smooth and rescale", "store")
    assert names == sorted(f"{step} {number:05d}" for step in steps for number in range(7))
    assert all(run.state.is_completed() and not run.tags for run in task_runs)
