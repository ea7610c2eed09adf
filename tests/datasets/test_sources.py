"""Folders, lists and names become photographs, each once, whatever they are called."""

import os
from pathlib import Path

import pytest

from dpiqa_lab import LabError
from dpiqa_lab.datasets.sources import find_photographs

ODD = [
    "a,b.jpg",
    'say "a".jpg',
    "two\nlines.png",
    "café.JPG",
    " spaces .tif",
    "#1.jpg",
    "z/r\r.gif",
]


def _names(sources):
    return [found.name for found in find_photographs(sources)[1]]


def _touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_a_folder_gives_its_photographs_in_the_order_of_their_names(tmp_path):
    _touch(tmp_path, "b.jpg", "a/2.png", "a/1.PNG", "a/notes.txt", "a.csv", "c/d/e/f.webp")
    folder, found = find_photographs(tmp_path)
    assert folder == tmp_path
    assert [f.name for f in found] == ["a/1.PNG", "a/2.png", "b.jpg", "c/d/e/f.webp"]
    assert all(f.path == tmp_path / f.name for f in found)
    with pytest.raises(LabError, match="no photographs in"):
        find_photographs([tmp_path / "a.csv"])


def test_links_are_followed_once_and_never_in_circles(tmp_path):
    root, other = tmp_path / "root", tmp_path / "other"
    _touch(root, "x/1.jpg", "y/2.jpg")
    _touch(other, "3.jpg", "sub/4.jpg")
    _touch(tmp_path, "outside.jpg")
    for link, target in {
        "x/up": root, "y/above": tmp_path, "a-link": root / "x", "linked": other,
        "itself": "itself", "x/to-y": root / "y", "y/to-x": root / "x",
    }.items():  # fmt: skip
        (root / link).symlink_to(target)
    (other / "back").symlink_to(root)
    (other / "again").symlink_to(other / "sub")
    assert _names(root) == ["linked/3.jpg", "linked/sub/4.jpg", "x/1.jpg", "y/2.jpg"]


def test_lists_name_the_same_photographs_as_the_folder(tmp_path):
    import csv

    _touch(tmp_path, *ODD)
    expected = _names(tmp_path)
    assert sorted(expected) == sorted(ODD)
    with (tmp_path / "list.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([["mos", "name"], *([1, name] for name in expected)])
    assert _names(tmp_path / "list.csv") == expected
    one_line = [name for name in expected if "\n" not in name]
    (tmp_path / "list.txt").write_text("\n".join([*one_line, one_line[0], ""]), newline="")
    assert _names(tmp_path / "list.txt") == one_line
    (tmp_path / "plain.csv").write_text("café.JPG;5\n#1.jpg;4\n", encoding="utf-8-sig")
    assert _names(tmp_path / "plain.csv") == ["café.JPG", "#1.jpg"]
    (tmp_path / "short.csv").write_text("mos,path\n1,a.jpg\n2\n")
    with pytest.raises(LabError, match=r"short\.csv: row 3 has no 'path' \(1 such rows\)"):
        find_photographs(tmp_path / "short.csv")


def test_a_list_in_latin_1_finds_a_file_named_in_utf_8(tmp_path):
    _touch(tmp_path, "café.jpg")
    (tmp_path / "list.txt").write_bytes("café.jpg\n".encode("latin-1"))
    assert _names(tmp_path / "list.txt") == ["café.jpg"]


def test_a_name_in_latin_1_on_the_disk_is_found_and_written_as_utf_8(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    try:
        Path(os.fsdecode(path)).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    ((name, found),) = find_photographs(tmp_path)[1]
    assert name == "caf\\udce9.jpg"
    assert os.fsencode(found) == path
    (tmp_path / "list.txt").write_bytes(b"caf\xe9.jpg\r\n")
    assert find_photographs(tmp_path / "list.txt")[1] == [(name, found)]
    _touch(tmp_path, "caf\\udce9.jpg")
    with pytest.raises(LabError, match="two files are called"):
        find_photographs(tmp_path)


def test_several_sources_are_named_from_the_current_folder(tmp_path, monkeypatch):
    _touch(tmp_path, "a/1.jpg", "b/1.jpg", "2.jpg")
    monkeypatch.chdir(tmp_path)
    folder, found = find_photographs(["b", "2.jpg", "a", "b/1.jpg"])
    assert folder == tmp_path
    assert [f.name for f in found] == ["b/1.jpg", "2.jpg", "a/1.jpg"]
    assert _names(["nothing.jpg"]) == ["nothing.jpg"]  # told when it is read
    for missing in ("nowhere", "list.csv"):
        with pytest.raises(LabError, match=f"{missing}: no"):
            find_photographs([missing])
