"""Which data sets a Holmes folder holds, what they are called, and what their YAML says."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from miscible.errors import DatasetError, SpecError
from miscible.probe.contract import SourceOptions, open_datasets
from miscible.probe.dataset import ProbeDataset
from probe.datasets.holmes_data import tasks, write_holmes, write_task


def read(path: Path) -> tuple[ProbeDataset, ...]:
    return open_datasets([f"holmes:{path}"])


def test_names(tmp_path: Path) -> None:
    task = tasks()[0]
    version = tmp_path / "data" / "v1"
    write_task(version, task)
    assert [d.name for d in read(version / task.name)] == [task.name]
    assert [d.name for d in read(version)] == [f"v1/{task.name}"]
    assert [d.name for d in read(tmp_path)] == [f"{tmp_path.name}/{task.name}"]
    write_task(tmp_path / "data" / "v2", task)
    shutil.copytree(version, tmp_path / "data" / ".hidden")
    shutil.copytree(version, tmp_path / "data" / "__MACOSX")
    names = [d.name for d in read(tmp_path / "data")]
    assert names == [f"data/v1/{task.name}", f"data/v2/{task.name}"]
    names = [d.name for d in read(tmp_path)]
    assert names == [f"{tmp_path.name}/v1/{task.name}", f"{tmp_path.name}/v2/{task.name}"]
    options = SourceOptions(relative_to=tmp_path / "data")
    assert open_datasets(["holmes:v2"], options)[0].name == f"v2/{task.name}"


def test_variants_of_one_folder_have_names(tmp_path: Path) -> None:
    bi = tasks()[2]
    folder = write_task(tmp_path / "v", bi)
    text = (folder / "config-none.yaml").read_text(encoding="utf-8")
    (folder / "config-none.yaml").rename(folder / "config-bi-none.yaml")
    cross = text.replace("SENTENCE_PAIR_BI", "SENTENCE_PAIR_CROSS")
    (folder / "config-cross-none.yaml").write_text(cross, encoding="utf-8")
    datasets = read(tmp_path / "v")
    assert [d.name for d in datasets] == [f"v/{bi.name}-bi", f"v/{bi.name}-cross"]
    assert [len(d.examples[0].inputs) for d in datasets] == [2, 1]
    assert {d.phenomenon for d in datasets} == {"next_sentence_prediction"}


def test_the_name_of_the_probe_places_an_unknown_folder(tmp_path: Path) -> None:
    folder = write_task(tmp_path / "v", tasks()[0])
    folder.rename(tmp_path / "v" / "xyz")
    dataset = read(tmp_path / "v")[0]
    assert (dataset.name, dataset.phenomenon, dataset.competence) == (
        "v/xyz", "tense", "semantics",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("SENTENCE", "WORDS", r"config-none.yaml, line \d+: probe_task_type"),
        ("NONE", "NOTHING", r"config-none.yaml, line \d+: control_task_type"),
        ("num_labels: 2", "num_labels: 0", r"config-none.yaml, line \d+: num_labels"),
        ("num_labels: 2", "num_labels: two", r"config-none.yaml, line \d+: num_labels"),
        ("num_labels: 2", "num_labels: 2.0", r"config-none.yaml, line \d+: num_labels"),
        ("num_labels: 2", "", r"config-none.yaml, line \d+: num_labels"),
        ("num_labels: 2", "num_labels: [2", r"config-none.yaml, line \d+: not valid YAML"),
        ("num_labels: 2", "num_labels: !!python/name:os.system", "the tag .* is not allowed"),
    ],
)
def test_malformed_configurations(tmp_path: Path, old: str, new: str, message: str) -> None:
    folder = write_task(tmp_path, tasks()[0])
    path = folder / "config-none.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(SpecError, match=message):
        read(folder)
    path.write_text("- a list", encoding="utf-8")
    with pytest.raises(SpecError, match=r"config-none.yaml: .* not a mapping"):
        read(folder)


def test_what_is_missing(tmp_path: Path) -> None:
    folder = write_task(tmp_path / "v", tasks()[0])
    for path, message in (
        (tmp_path / "x", "no such folder"),
        (folder / "samples.csv", "no such folder"),
    ):
        with pytest.raises(DatasetError, match=message):
            read(path)
    with pytest.raises(DatasetError, match="'holmes' needs a path"):
        open_datasets(["holmes"])
    (folder / "samples.csv").unlink()
    with pytest.raises(DatasetError, match=r"config-none.yaml: there is no samples.csv beside"):
        read(tmp_path)
    (folder / "config-none.yaml").unlink()  # the controls alone are no data set
    with pytest.raises(DatasetError, match=r"no config-\*.yaml with the control_task_type NONE"):
        read(tmp_path)


def test_the_path_in_the_configuration_leads_nowhere(tmp_path: Path) -> None:
    folder = write_task(tmp_path / "v", tasks()[0])
    path = folder / "config-none.yaml"
    text = path.read_text(encoding="utf-8").replace("/nowhere", "../../../etc")
    path.write_text(text, encoding="utf-8")
    assert len(read(folder)[0].examples) == 30


def test_a_zip_is_read_like_its_folder(tmp_path: Path) -> None:
    version = write_holmes(tmp_path / "v1")
    archive = Path(shutil.make_archive(str(tmp_path / "v1"), "zip", version.parent, version.name))
    plain, packed = read(version), read(archive)
    assert [d.name for d in packed] == [d.name for d in plain]
    assert [d.key for d in packed] == [d.key for d in plain]
    damaged = next(version.rglob("samples.csv"))
    damaged.write_text("nothing\n1\n")
    archive = Path(shutil.make_archive(str(tmp_path / "v1"), "zip", version.parent, version.name))
    with pytest.raises(DatasetError) as caught:
        read(archive)
    assert str(caught.value.where).startswith(f"{archive}/v1/")


def test_a_zip_that_leads_outside_writes_nothing(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("../../config-none.yaml", "probe_name: x")
    with pytest.raises(DatasetError, match="leads outside"):
        read(tmp_path / "bad.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.zip"]
