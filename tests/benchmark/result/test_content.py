"""Digests of a source's files: what has changed is noticed, and named."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from shapeshd.benchmark.result.content import code_digests, content_digest, files_digest
from shapeshd.benchmark.sources.options import SourceOptions
from tests.support.fake_scores import Written


class Named(Written):
    """A source of a name and a kind."""

    def __init__(self, name: str, kind: str = "folder") -> None:
        super().__init__(name=name)
        self.kind = kind


def test_the_digest_of_a_source_is_that_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "g.py"
    file.write_bytes(b"def make(z): ...")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()

    def found(name: object) -> str | None:
        return content_digest(Named(str(name)))

    assert found(file) == found(f"{file}:make") == digest
    assert found("render:0:10") is None
    (tmp_path / "model_index.json").write_text("{}")
    before = found(tmp_path)
    assert before != digest
    file.write_bytes(b"other weights")
    assert found(tmp_path) != before
    file.write_bytes(b"def make(z): ...")
    assert found(tmp_path) == before
    file.rename(tmp_path / "h.py")
    assert found(tmp_path) not in (None, before)


def test_tar_files_are_told_from_others_of_their_names(tmp_path: Path) -> None:
    def found() -> str | None:
        return content_digest(Named(f"{tmp_path}/s-{{0..1}}.tar", "tar"))

    assert found() is None
    for number in range(2):
        (tmp_path / f"s-{number}.tar").write_bytes(b"images")
    before = found()
    assert before is not None
    (tmp_path / "s-1.tar").write_bytes(b"others")
    assert found() not in (None, before)


def pictures(folder: Path, count: int = 100) -> Path:
    (folder / "b").mkdir(parents=True)
    for number in range(count):
        path = folder / ("b" if number % 2 else ".") / f"{number}.png"
        path.write_bytes(b"image %d" % (1000 + number))
        os.utime(path, (1_000_000, 1_000_000))
    (folder / "score.json").write_text("of ours")  # no image
    (folder / ".hidden.png").write_text("none either")
    return folder


def changed(before: dict[str, Any] | None, now: dict[str, Any] | None) -> set[str]:
    assert before is not None
    assert now is not None
    return {key for key in before if before[key] != now[key]}


def test_a_folder_is_told_from_another_by_names_sizes_times_and_contents(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "images")
    source = Named(str(folder))
    before, digest = files_digest(source), content_digest(source)
    assert before is not None
    assert before["files"] == 100
    assert files_digest(Named(str(pictures(tmp_path / "copy")))) == before

    def after(change: Any) -> tuple[set[str], bool]:
        path = folder / "0.png"
        data, status = path.read_bytes(), path.stat()
        change(path)
        found = changed(before, files_digest(source)), content_digest(source) != digest
        path.write_bytes(data)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert files_digest(source) == before
        return found

    def keeps_its_time(path: Path) -> None:
        path.write_bytes(b"image 9999")
        os.utime(path, (1_000_000, 1_000_000))

    assert after(lambda path: path.write_bytes(b"longer than it was")) == (
        {"sizes", "times", "contents"}, True,
    )  # fmt: skip
    assert after(lambda path: os.utime(path)) == ({"times"}, False)
    assert after(keeps_its_time) == ({"contents"}, True)
    (folder / "0.png").rename(folder / "00.png")
    assert changed(before, files_digest(source)) == {"names"}
    (folder / "00.png").unlink()
    assert "files" in changed(before, files_digest(source))


def test_shards_are_looked_at_behind_the_file_that_shows_them_as_one(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    shard = tmp_path / "shards" / "shard-000000.h5"
    shard.write_bytes(b"images")
    whole = tmp_path / "dataset.h5"
    whole.write_bytes(b"a view")
    for name in (tmp_path, whole):
        before = files_digest(Named(str(name), "dataset"))
        shard.write_bytes(b"others")
        assert "contents" in changed(before, files_digest(Named(str(name), "dataset")))
        shard.write_bytes(b"images")


def test_what_code_loads_is_digested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    weights, repository = tmp_path / "w.pt", tmp_path / "repository"
    for folder in (repository / "torch_utils", repository / ".git"):
        folder.mkdir(parents=True)
    files = [weights, tmp_path / "sampler.py", repository / "torch_utils" / "ops.py"]
    for path in files:
        path.write_text("first")
    source = Named("cmd:python sampler.py --out=-", "command")
    options = SourceOptions(depends=("w.pt",), code_dir="repository")
    before = code_digests(source, options)
    assert set(before) == {"w.pt", "repository", "sampler.py"}
    for name, path in zip(("w.pt", "sampler.py", "repository"), files, strict=True):
        path.write_text("other")
        assert changed(before, code_digests(source, options)) == {name}
        path.write_text("first")
    (repository / ".git" / "index").write_text("of a commit")
    assert code_digests(source, options) == before
    assert set(code_digests(Named("sampler:make", "python"), SourceOptions())) == {"sampler.py"}
    assert not code_digests(Named("render:0:9", "dataset"), SourceOptions())


def test_a_link_that_leads_back_ends(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "images", 4)
    (folder / "b" / "again").symlink_to(folder)
    assert files_digest(Named(str(folder))) is not None
