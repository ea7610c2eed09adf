"""The command line without its console script: ``python -m dpiqa_lab <command>``."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
