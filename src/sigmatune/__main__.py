"""``python -m sigmatune`` is the command line."""

from __future__ import annotations

from sigmatune.cli import main

if __name__ == "__main__":
    main()
