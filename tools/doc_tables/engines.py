"""What engines cost beside the network."""

from __future__ import annotations

from doc_tables.markdown import made_by, markdown


def engine_overhead_table(result: dict) -> str:
    """Efficiency by the number of workers, with a network that sleeps."""
    rows = [
        [
            str(row["workers"]), str(row["pieces"]), f"{100 * row['efficiency']:.0f} %",
            f"{row['driver_cpu_ms_per_piece']:.1f} ms", f"{row['start_seconds']:.0f} s",
        ]
        for row in result["rows"]
    ]  # fmt: skip
    best = len(result["rows"][0]["all_seconds"])
    note = (
        f"A network that sleeps {1000 * result['call_seconds']:.0f} ms a call; pieces of {result['images_per_piece']} images. "
        f"Efficiency is the sleep of one worker over the time of all, the best of {best} rounds, on "
        f"{result['machine']['cores']} cores that other processes kept busy (load {result['load']:.0f}). "
        f"Ray {result['machine']['ray']}. {made_by(result)}"
    )
    return markdown(["workers", "pieces", "efficiency", "CPU time of the command, per piece", "start"], rows, note)


def engine_bytes_table(result: dict) -> str:
    """Bytes between the command and its workers."""
    each = result["bytes_per_image"]
    rows = [["to the worker", f"{each['sent']:,.0f}"], ["back, features only", f"{each['received']:,.0f}"]]
    note = f"Of `evaluate` on `digits` with the default extractor and metrics. {made_by(result)}"
    return markdown(["bytes per image", ""], rows, note)
