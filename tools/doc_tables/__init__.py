"""The tables of README.md and docs/*.md, one maker each: a function of a benchmark's results."""
