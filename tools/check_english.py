"""Words that docstrings, comments and messages of the package are not to use: ``make lint``.

The project's English is plain and international; these are idioms that it once had instead of the
field's terms. ``python -m tools.check_english [path ...]`` lists them by file and line.
"""

import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

OLD = (
    r"told", r"said", r"mended", r"reckon(?:s|ed)?", r"hangs on", r"as little as", r"of it",
    r"what is kept of", r"the deepest first", r"foremost", r"goes on where", r"judges?", r"judged",
)  # fmt: skip
_PATTERN = re.compile(rf"\b({'|'.join(OLD)})\b", re.IGNORECASE)
_WHERE = (tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING))


def old_idioms(path: Path) -> Iterator[tuple[int, str]]:
    """Lines and words of the strings and comments of a Python file."""
    with tokenize.open(path) as file:
        for token in tokenize.generate_tokens(file.readline):
            if token.type in _WHERE:
                for found in _PATTERN.finditer(token.string):
                    yield token.start[0] + token.string[: found.start()].count("\n"), found[0]


def main(paths: list[str]) -> int:
    """Print what is found; the exit status is 1 where there is something."""
    files = [f for p in map(Path, paths) for f in ([p] if p.is_file() else sorted(p.rglob("*.py")))]
    found = [f"{file}:{line}: {word!r}" for file in files for line, word in old_idioms(file)]
    print(*found, sep="\n")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["dpiqa_lab"]))
