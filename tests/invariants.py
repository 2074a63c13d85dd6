"""What must hold of a store after any fault: one function, for a folder or an ``s3://`` URL.

It reads the files by itself, with fsspec, pyarrow and zarr, and shares with the product only what an image's name, a
recipe and a key are: a mistake in the product's own reading does not hide here.
"""

import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from segmentation.io.sources import image_id
from segmentation.params import Recipe
from segmentation.planning import label_key

_PLACES = {".lock", ".staging", "contours", "export", "gallery", "images", "runs", "tables"}
_STATES = ("segmented", "rejected", "failed")


def check_store(root, listed=None, *, exit_code=None, source=None):
    """Hold a store against the invariants; raise AssertionError with everything that does not hold.

    Parameters
    ----------
    root : path or str
        A folder, or an ``s3://bucket/prefix`` URL (endpoint and credentials from the environment).
    listed : iterable of str, optional
        Names of all images that the last run found below its source: each must have ended in exactly one way, and
        the counts must add up. Needs an `exit_code` of 0 or 1.
    exit_code : int, optional
        What the last run ended with. 0 and 1 say that it came to its end: then index, region tables and gallery
        must be those of the records, and nothing may be left over. With any other code, or None, only that is
        checked which must hold at any moment.
    source : path, optional
        The folder of images, unchanged since the last run: recorded digests must be those of its files.

    Returns
    -------
    counts : Counter
        Current records by state, for further assertions.
    """
    check = _Check(_read_all(root), finished=exit_code in (0, 1))
    check.layout()
    check.read_records()
    check.outputs()
    check.regions()
    if check.finished:
        check.index()
        check.leftovers()
        check.gallery()
        check.last_run(exit_code)
    if listed is not None:
        assert check.finished, "a list can only be held against a run that came to its end"
        check.listed(sorted(listed))
    if source is not None:
        check.digests(Path(source))
    assert not check.wrong, "\n".join([f"{len(check.wrong)} claims do not hold:", *check.wrong])
    return Counter(row["state"] for row in check.current.values())


def _read_all(root):
    """Return every file of the store: its name below it, and its bytes."""
    if "://" not in str(root):
        root = Path(root)
        return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    system, base = fsspec.core.url_to_fs(str(root), skip_instance_cache=True, use_listings_cache=False)
    return {name[len(base) :].strip("/"): system.cat_file(name) for name in system.find(base)}


class _Check:
    """One look at one store; what does not hold is collected in `wrong`."""

    def __init__(self, files, *, finished):
        self.files = files
        self.finished = finished
        self.wrong = []
        self.runs = {}  # name -> {subject: row}, oldest first
        self.current = {}  # subject -> row
        self.lists = {}  # (*subject, key) -> outputs, of all runs
        self.labels = {}  # subject -> label map

    def claim(self, holds, message):
        if not holds:
            self.wrong.append(message)
        return holds

    def below(self, pattern):
        return sorted(name for name in self.files if re.fullmatch(pattern, name))

    def rows(self, name):
        try:
            return pq.read_table(pa.BufferReader(self.files[name])).to_pylist()
        except (pa.ArrowInvalid, KeyError) as error:
            self.wrong.append(f"{name}: {error!r}")
            return []

    def json(self, name):
        try:
            return json.loads(self.files[name])
        except (ValueError, KeyError) as error:
            self.wrong.append(f"{name}: {error!r}")
            return {}

    def layout(self):
        """No name is outside what a store is made of; no partial file stands outside staging."""
        for name in self.files:
            self.claim(name.split("/")[0] in _PLACES, f"{name}: not a place of the store")
            self.claim(name.startswith(".staging/") or ".partial-" not in name, f"{name}: partial, outside .staging")

    def read_records(self):
        """Records are readable, sensible, unique in their run; replay them to those that count."""
        names = sorted({name.split("/")[1] for name in self.below(r"runs/[^/]+/.*")})
        numbers = [name.split("-")[0] for name in names]
        self.claim(len(set(numbers)) == len(numbers), f"runs: numbers are used twice: {numbers}")
        for run in names:
            own = {}
            for name in self.below(rf"runs/{re.escape(run)}/records/[^/]+\.parquet"):
                for row in self.rows(name):
                    subject = (row["id"], row["label"])
                    self.sensible(row, name)
                    if subject in own:  # a batch that ran twice: its results must be the same
                        same = all(own[subject][field] == row[field] for field in ("state", "key", "outputs"))
                        self.claim(same, f"{name}: {subject} is recorded twice in one run, differently")
                    own[subject] = row
            self.runs[run] = own
            self.replay(run, own)

    def sensible(self, row, name):
        about = f"{name}: {row['source']} ({row['label']})"
        self.claim(row["state"] in _STATES, f"{about}: state {row['state']!r}")
        real_name = row["source_raw"].decode("utf-8", "surrogateescape")
        self.claim(row["id"] == image_id(real_name), f"{about}: its id is not that of its name")
        if row["state"] == "segmented":
            self.claim(row["digest"] and row["key"] and row["n_regions"] > 0, f"{about}: segmented, not described")
            if row["run"] == name.split("/")[1]:  # else it was only touched, and its files are those of that run
                paths = {file["path"] for file in row["outputs"]}
                self.claim(paths, f"{about}: segmented without outputs")
                self.claim(row["contour"] in paths, f"{about}: its picture is no output")
        else:
            self.claim(row["reason"] and row["step"], f"{about}: refused without a reason or a step")
            self.claim(not row["outputs"], f"{about}: refused, yet with outputs")

    def replay(self, run, own):
        """The latest record counts; what a run withdrew or whose picture it replaced does not."""
        withdrawn = {
            (row["id"], row["label"])
            for name in self.below(rf"runs/{re.escape(run)}/withdrawn/[^/]+\.parquet")
            for row in self.rows(name)
        }
        for subject in list(self.current):
            if subject in withdrawn or (subject[0], "") in withdrawn:
                del self.current[subject]
        for subject, row in own.items():
            if row["outputs"]:
                self.lists[*subject, row["key"]] = row["outputs"]
        self.current.update(own)
        segmented = [row for row in self.current.values() if row["state"] == "segmented"]
        newest = {}
        for row in sorted(segmented, key=lambda row: row["run"]):
            newest[row["id"]] = row["digest"]
        for subject, row in list(self.current.items()):
            if row["state"] == "segmented" and row["digest"] != newest[row["id"]]:
                del self.current[subject]

    def outputs(self):
        """Every output of every current result is there, as recorded; its label map is whole and its own."""
        for subject, row in self.current.items():
            if row["state"] != "segmented":
                continue
            about = f"{row['source']} ({row['label']})"
            whole = self.claim((*subject, row["key"]) in self.lists, f"{about}: no list of its files")
            for file in self.lists.get((*subject, row["key"]), ()):
                data = self.files.get(file["path"])
                as_recorded = data is not None and (len(data), hashlib.sha256(data).hexdigest()) == (
                    file["size"],
                    file["sha256"],
                )
                whole &= self.claim(as_recorded, f"{about}: {file['path']} is missing or not as recorded")
            if whole:
                self.label_map(subject, row, about)

    def label_map(self, subject, row, about):
        image = f"images/{row['id'].rsplit('-', 1)[1][:2]}/{row['id']}.ome.zarr"
        place = f"{image}/labels/{row['label']}"
        mine = {name[len(place) + 1 :]: data for name, data in self.files.items() if name.startswith(f"{place}/")}
        make = default_buffer_prototype().buffer.from_bytes
        group = zarr.open_group(MemoryStore({name: make(data) for name, data in mine.items()}), mode="r")
        labels, own = group["0"][...], group.attrs["regionflow"]
        self.labels[subject] = labels
        digest = hashlib.sha256(labels.astype(labels.dtype.newbyteorder("<")).tobytes()).hexdigest()
        self.claim(digest == own["label_sha256"], f"{about}: its labels are not those that were stored")
        self.claim(labels.shape == (row["height"], row["width"]), f"{about}: labels of shape {labels.shape}")
        found = set(np.unique(labels).tolist()) - {0}
        self.claim(found == set(range(1, row["n_regions"] + 1)), f"{about}: {row['n_regions']} regions, but {found}")
        key = label_key(row["digest"], row["mask_digest"], Recipe.model_validate(own["recipe"]))
        self.claim(own["key"] == f"sha256:{row['key']}", f"{about}: the key beside the labels is another")
        self.claim(key == row["key"], f"{about}: the key is not that of digest, mask and recipe")
        stored = self.json(f"{image}/zarr.json").get("attributes", {}).get("regionflow", {}).get("source", {})
        self.claim(stored.get("sha256") == row["digest"], f"{about}: the stored picture is another")
        listed = self.json(f"{image}/labels/zarr.json").get("attributes", {}).get("ome", {}).get("labels", [])
        self.claim(row["label"] in listed, f"{about}: not in its image's list of labels")
        paths = {file["path"] for file in self.lists[*subject, row["key"]]}
        extra = {f"{place}/{name}" for name in mine} - paths
        self.claim(not extra, f"{about}: files that its record does not know: {sorted(extra)}")

    def regions(self):
        """Every region of every current result has one row; a finished store has no other rows."""
        merged = [row for name in self.below(r"tables/regions/[^/]+\.parquet") for row in self.rows(name)]
        for name in self.below(r"tables/regions/[^/]+\.parquet"):
            order = [(row["id"], row["label"], row["region"]) for row in self.rows(name)]
            self.claim(order == sorted(order), f"{name}: rows are out of order")
            strangers = {row[0] for row in order if row[0].rsplit("-", 1)[1][:2] != Path(name).stem}
            self.claim(not strangers, f"{name}: rows that belong into other files: {strangers}")
        unmerged = [
            row
            for run in self.runs
            if f"runs/{run}/indexed" not in self.files
            for name in self.below(rf"runs/{re.escape(run)}/regions/[^/]+\.parquet")
            for row in self.rows(name)
        ]
        tables = [_by_result(merged), _by_result(unmerged)]
        for subject, row in self.current.items():
            if row["state"] == "segmented":
                self.region_rows(subject, row, *(table.get((*subject, row["key"]), []) for table in tables))
        if self.finished:
            current = {(*subject, row["key"]) for subject, row in self.current.items() if row["state"] == "segmented"}
            self.claim(set(tables[0]) <= current, f"region rows without a record: {set(tables[0]) - current}")

    def region_rows(self, subject, row, merged, unmerged):
        about = f"{row['source']} ({row['label']})"
        expected = list(range(1, row["n_regions"] + 1))
        found = sorted(line["region"] for line in merged)
        if not self.finished and not merged:  # a batch that ran twice left its rows twice until they are merged
            merged, found = unmerged, sorted({line["region"] for line in unmerged})
        self.claim(found == expected, f"{about}: region rows {found}, {row['n_regions']} regions recorded")
        if subject in self.labels and found == expected:
            areas = np.bincount(self.labels[subject].ravel().astype(int))
            same = all(line["area"] == areas[line["region"]] for line in merged)
            self.claim(same, f"{about}: areas in the region table are not those of the labels")

    def index(self):
        """The index has a row for every current record, in order, which says the same, and no other."""
        rows = self.rows("tables/index.parquet")
        order = [(row["source_raw"], row["label"]) for row in rows]
        self.claim(order == sorted(order), "tables/index.parquet: rows are out of order")
        subjects = [(row["id"], row["label"]) for row in rows]
        self.claim(len(set(subjects)) == len(subjects), "tables/index.parquet: a row is there twice")
        self.claim(
            set(subjects) == set(self.current),
            f"tables/index.parquet: rows too many {set(subjects) - set(self.current)}, "
            f"missing {set(self.current) - set(subjects)}",
        )
        for subject, row in zip(subjects, rows, strict=True):
            recorded = dict(self.current.get(subject, {}))
            recorded.pop("outputs", None)
            self.claim(not recorded or recorded == row, f"tables/index.parquet: {subject} is not as recorded")

    def leftovers(self):
        """Nothing is staged, every label that an image lists is there, every run is closed.

        An image or label without a record may stay from a run that died before its commit: nobody takes it for done.
        """
        self.claim(not self.below(r"\.staging/.*"), f"left in staging: {self.below(r'.staging/.*')}")
        for name in self.below(r"images/../[^/]+\.ome\.zarr/labels/zarr\.json"):
            for label in self.json(name).get("attributes", {}).get("ome", {}).get("labels", []):
                there = f"{name.removesuffix('zarr.json')}{label}/zarr.json" in self.files
                self.claim(there, f"{name}: lists {label}, which is not there")
        for run, own in self.runs.items():
            self.claim(not own or f"runs/{run}/indexed" in self.files, f"runs/{run}: not closed")
            self.claim(not self.below(rf"runs/{re.escape(run)}/regions/.*"), f"runs/{run}: region tables not merged")

    def gallery(self):
        """The page is there, with the data it names, and no other data."""
        data = self.below(r"gallery/data-[0-9a-f]{16}\.js")
        page = self.files.get("gallery/index.html", b"").decode()
        if self.claim(page and len(data) == 1, f"gallery: page of {len(page)} characters, data {data}"):
            digest = hashlib.sha256(self.files[data[0]]).hexdigest()[:16]
            self.claim(data[0] == f"gallery/data-{digest}.js", f"{data[0]}: its name is not that of its content")
            self.claim(f"data-{digest}.js" in page, "gallery/index.html: names other data")

    def last_run(self, exit_code):
        """The last run's own account adds up, and its exit code is that of its counts."""
        if not self.claim(self.runs, "no run, yet an exit code"):
            return
        name = max(self.runs)
        account = self.json(f"runs/{name}/run.json")
        if not self.claim("finished" in account, f"runs/{name}: no end is recorded, yet exit code {exit_code}"):
            return
        states = account["states"]
        self.claim(set(states) == set(_STATES), f"runs/{name}: states {states}")
        self.claim(sum(states.values()) == account["listed"], f"runs/{name}: {states} of {account['listed']} listed")
        complete = states["segmented"] == account["listed"]
        self.claim(
            account["exit_code"] == (0 if complete else 1), f"runs/{name}: code {account['exit_code']}, {states}"
        )
        own = [row for row in self.current.values() if row["run"] == name]
        computed = account["computed"] + account.get("repaired", 0)
        self.claim(len(own) == computed, f"runs/{name}: computed {computed}, records {len(own)}")

    def listed(self, names):
        """Every listed image ended in one way under each label of the last run; the exit code says how."""
        account = self.json(f"runs/{max(self.runs)}/run.json")
        ended = Counter()
        for label in account["label"].split(", "):
            for name in names:
                row = self.current.get((image_id(name), label))
                if self.claim(row is not None, f"{name!r} ({label}): listed, without a record"):
                    ended[row["state"]] += 1
        n_asked = len(names) * len(account["label"].split(", "))
        self.claim(sum(ended.values()) == n_asked, f"{n_asked} label maps are asked for, records say {dict(ended)}")
        whole = ended["segmented"] == n_asked
        self.claim((account["exit_code"] == 0) == whole, f"exit code {account['exit_code']}, yet {dict(ended)}")

    def digests(self, source):
        """The recorded digests are those of the files."""
        for row in self.current.values():
            name = row["source_raw"].decode("utf-8", "surrogateescape")
            path = source / name if source.is_dir() else source
            if row["digest"] and path.is_file():
                same = hashlib.sha256(path.read_bytes()).hexdigest() == row["digest"]
                self.claim(same, f"{row['source']}: the recorded digest is not that of the file")


def _by_result(rows):
    found = {}
    for row in rows:
        found.setdefault((row["id"], row["label"], row["key"]), []).append(row)
    return found
