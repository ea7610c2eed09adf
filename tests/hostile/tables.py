"""Label files, refused ones and odd ones that are right, for a folder of twelve photographs."""

import os
import re
from pathlib import Path

from tests.conftest import photographs

N = 12
NAMES = [f"p{i:03d}.png" for i in range(N)]


def make_root(root: Path) -> list[str]:
    """Twelve photographs and an unlabelled one; the lines of their CSV, headed."""
    table = photographs(root, N, size=32)
    return ["name,mos", *(f"{row.name},{row.mos}" for row in table.itertuples(index=False))]


def row(i, text):
    """The CSV with line ``i`` (as an editor counts, from 1) replaced."""
    return lambda root, lines: "\n".join([*lines[: i - 1], text, *lines[i:]]) + "\n"


def _raw(change):
    return lambda root, lines: change("\n".join(lines) + "\n")


def _head(text):
    return lambda root, lines: "\n".join([text, *lines[1:]]) + "\n"


def _hundred_thousand(root, lines):
    many = [f"{NAMES[i % N]}{i}.png,50" for i in range(100_000)]
    many[76_541] = "p.png,fifty"
    return "\n".join(["name,mos", *many]) + "\n"


def _after_blank_lines(root, lines):
    broken = f'\n\n"a\nb.png",50\n{lines[5].split(",")[0]},NaN\n'
    return "\n".join(lines[:5]) + broken  # line 6 is blank, 7 and 8 are one row


def _link_out(root, lines):
    outside = root.parent / "outside.png"
    outside.write_bytes((root / NAMES[0]).read_bytes())
    (root / "link.png").symlink_to(outside)
    return "\n".join([*lines, "link.png,50"])


def _folder_link_out(root, lines):
    outside = root.parent / "elsewhere"
    photographs(outside, 2, size=32, seed=1)
    (root / "sub").symlink_to(outside)
    return "\n".join([*lines, "sub/p000.png,50"])


def _absolute(root, lines):
    outside = root.parent / "elsewhere"
    photographs(outside, 2, size=32, seed=1)
    return "\n".join([*lines, f"{outside}/p000.png,50"])


def _dots(root, lines):
    photographs(root.parent / "elsewhere", 2, size=32, seed=1)
    return "\n".join([*lines, "../elsewhere/p000.png,50"])


def _pipe(root, lines):
    os.mkfifo(root / "pipe.png")
    return "\n".join([*lines, "pipe.png,50"])


def _group(root, lines):
    headed = [f"{line},{i // 2}" for i, line in enumerate(lines[1:])]
    headed[3] = headed[3].rsplit(",", 1)[0] + ","
    return "\n".join(["name,mos,group", *headed])


def _wide(root, lines):
    return "\n".join([",".join(f"column{i}" for i in range(5000)), *lines[1:]])


# What, the CSV's content (a function of root and lines, text or bytes), what the lab says, and
# options of the reader.
REFUSED = [
    ("NaN as a score", row(4, "p002.png,NaN"), r"scores\.csv row 4: p002\.png: NaN", {}),
    ("infinite score", row(4, "p002.png,inf"), r"row 4: p002\.png: inf", {}),
    ("score beyond floats", row(4, "p002.png,-1e999"), r"row 4: p002\.png: -1e999", {}),
    ("no score", row(4, "p002.png,"), r"row 4: p002\.png: nan", {}),
    ("a word as score", row(4, "p002.png,good"), r"row 4: p002\.png: good", {}),
    ("score off the scale", row(4, "p002.png,101"), r"outside 0 to 100(.|\n)*row 4: p002\.png", {}),
    ("decimal comma", row(4, 'p002.png,"3,5"'), r"row 4: p002\.png: 3,5", {}),
    ("decimal commas", _raw(lambda t: re.sub(r"\.(\d)", r",\1", t)), "decimal commas", {}),
    ("no name", row(4, ",50"), r"labels without a name(.|\n)*row 4", {}),
    ("one name twice", row(4, "p001.png,50"), r"labelled twice(.|\n)*p001\.png", {}),
    ("no such column", _head("file,mos"), r"no column 'name'; its columns are 'file', 'mos'", {}),
    ("five thousand columns", _wide, r"no column 'name', 'mos'.*and 4,980 more", {}),
    ("two columns of one name", _head("name,mos, mos"), "two columns are named 'mos'", {}),
    ("an empty file", lambda root, lines: "", "not a readable table", {}),
    ("a header alone", lambda root, lines: "name,mos\n", "the labels have no rows", {}),
    ("Latin-1", _raw(lambda t: t.replace("p005", "é").encode("latin-1")), "row 7 is not in", {}),
    ("UTF-16", _raw(lambda t: t.encode("utf-16")), "row 1 is not in UTF-8", {}),
    ("an open quote", row(4, '"p002.png,50'), r"not a readable table \(.*EOF", {}),
    ("a row too long", row(4, "p002.png,50,60,70"), r"fields in line 4, saw 4", {}),
    ("NUL in a name", row(4, "p0\x0002.png,50"), r"names that no file can have(.|\n)*row 4", {}),
    ("a name too long", row(4, f"{'x' * 5000}.png,50"), r"no file can have(.|\n)*row 4", {}),
    ("a path out by dots", _dots, r"photographs outside(.|\n)*elsewhere/p000\.png", {}),
    ("an absolute path out", _absolute, r"photographs outside(.|\n)*elsewhere/p000\.png", {}),
    ("a system file", row(4, "/etc/passwd,50"), r"photographs outside(.|\n)*/etc/passwd", {}),
    ("a link out", _link_out, r"photographs outside(.|\n)*link\.png", {}),
    ("a folder's link out", _folder_link_out, r"photographs outside(.|\n)*sub/p000\.png", {}),
    ("a pipe", _pipe, r"pipe\.png: not a file but a pipe", {}),
    ("one bad row of 100,000", _hundred_thousand, r"scores\.csv row 76543: p\.png: fifty", {}),
    ("a bad row after blank lines", _after_blank_lines, r"scores\.csv row 9: p004\.png: NaN", {}),
    ("a photograph that is missing", row(4, "gone.png,50"), r"gone\.png: no such file", {}),
    ("terminal codes", row(4, "\x1b[2J\u202egnp.png,50"), r"\\x1b\[2J\\u202egnp\.png: no such", {}),
    ("a row without a group", _group, r"without a group(.|\n)*row 5", {"group_column": "group"}),
    ("a web page", lambda root, lines: "<!DOCTYPE html>\n<p>404</p>\n", r"no column 'name'", {}),
    ("unknown parts", _raw(lambda t: t.replace("\n", ",<b>\n").replace("mos,<b>", "mos,split")),
     r"unknown splits \['<b>'\]", {}),
    ("endless scale", lambda root, lines: "\n".join(lines), "mos_range must be two numbers",
     {"mos_range": (0, float("inf"))}),
    ("scale upside down", lambda root, lines: "\n".join(lines), "lowest first",
     {"mos_range": (5, 1)}),
    ("scale of one point", lambda root, lines: "\n".join(lines), "lowest first",
     {"mos_range": (5, 5)}),
    ("a folder as CSV", None, r"scores\.csv: no such label file", {}),
]  # fmt: skip


def _renamed(new, quoted):
    def make(root, lines):
        (root / NAMES[2]).rename(root / new)
        return "\n".join([*lines[:3], f"{quoted},50", *lines[4:]]) + "\n"

    return make


def _latin_on_disk(root, lines):
    copy = root / os.fsdecode(b"caf\xe9.png")
    copy.write_bytes((root / NAMES[0]).read_bytes() + b"more")
    return "\n".join(lines)


def _inner_link(root, lines):
    (root / "link.png").symlink_to(NAMES[0])
    (root / NAMES[2]).unlink()
    return "\n".join([*lines[:3], "link.png,50", *lines[4:]])


def _dots_inside(root, lines):
    (root / "sub").mkdir()
    return "\n".join([*lines[:3], "sub/../p002.png,50", *lines[4:]])


# What, the CSV's content, and the name that the third photograph then has.
ACCEPTED = [
    ("byte order mark", _raw(lambda t: t.encode("utf-8-sig")), NAMES[2]),
    ("semicolons", _raw(lambda t: t.replace(",", ";")), NAMES[2]),
    ("tabs", _raw(lambda t: t.replace(",", "\t")), NAMES[2]),
    ("Windows line ends", _raw(lambda t: t.replace("\n", "\r\n").encode()), NAMES[2]),
    ("no last line end", lambda root, lines: "\n".join(lines), NAMES[2]),
    ("blank lines", _raw(lambda t: t.replace("\np003", "\n\n,\np003") + "\n\n"), NAMES[2]),
    ("spaces around columns", _head(" name , mos "), NAMES[2]),
    ("a name with spaces", _renamed("a b  c.png", "a b  c.png"), "a b  c.png"),
    ("a name with quotes", _renamed("say \"a\" 'b'.png", '"say ""a"" \'b\'.png"'),
     "say \"a\" 'b'.png"),
    ("a name with a comma", _renamed("a,b.png", '"a,b.png"'), "a,b.png"),
    ("a name with a line break", _renamed("a\nb.png", '"a\nb.png"'), "a\nb.png"),
    ("a name with tags", _renamed("<b>&amp;.png", "<b>&amp;.png"), "<b>&amp;.png"),
    ("a name like a command", _renamed("$(touch x);`id`.png", "$(touch x);`id`.png"),
     "$(touch x);`id`.png"),
    ("a name like an option", _renamed("--help.png", "--help.png"), "--help.png"),
    ("a name that pandas takes for nothing", _renamed("NA", "NA"), "NA"),
    ("umlauts", _renamed("Übung é 画.png", "Übung é 画.png"), "Übung é 画.png"),
    ("another case", row(4, "P002.PNG,50"), "P002.PNG"),
    ("dots that stay inside", _dots_inside, "sub/../p002.png"),
    ("a link that stays inside", _inner_link, "link.png"),
    ("Latin-1 on the disk, unlabelled", _latin_on_disk, NAMES[2]),
]  # fmt: skip


def write(root: Path, content, lines) -> None:
    """``scores.csv`` from a case's content."""
    if content is None:
        (root / "scores.csv").mkdir()
        return
    made = content(root, lines)
    (root / "scores.csv").write_bytes(made if isinstance(made, bytes) else made.encode())
