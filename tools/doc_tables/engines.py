"""What engines cost beside the network."""

from __future__ import annotations

from doc_tables.markdown import made_by, markdown


def engine_overhead_table(result: dict) -> str:
    """Efficiency by the number of workers, with a network that sleeps."""
    rows = [
        [
            str(row["workers"]), str(row["pieces"]), f"{100 * row['efficiency']:.0f} %",
            _cores(row), f"{row['driver_cpu_ms_per_piece']:.1f} ms", f"{row['start_seconds']:.0f} s",
        ]
        for row in result["rows"]
    ]  # fmt: skip
    best = len(result["rows"][0]["all_seconds"])
    note = (
        f"A network that sleeps {1000 * result['call_seconds']:.0f} ms a call; pieces of {result['images_per_piece']} images. "
        f"Efficiency is the sleep of one worker over the time of all, the best of {best} rounds, on "
        f"{result['machine']['cores']} cores, at a load of {result['load']:.1f} before. Busy cores are those of all processes "
        f"together; in parentheses while the workers wait. Ray {result['machine']['ray']}. {made_by(result)}"
    )
    head = ["workers", "pieces", "efficiency", "busy cores", "CPU time of the command, per piece", "start"]
    return markdown(head, rows, note)


def _cores(row: dict) -> str:
    """How many cores all processes keep busy, with work and without."""
    if "busy_cores" not in row:
        return ""
    return f"{sum(row['busy_cores'].values()):.2f} ({sum(row['busy_cores_idle'].values()):.2f})"


def engine_bytes_table(result: dict) -> str:
    """Bytes between the command and its workers."""
    each = result["bytes_per_image"]
    rows = [["to the worker", f"{each['sent']:,.0f}"], ["back, features only", f"{each['received']:,.0f}"]]
    note = f"Of `evaluate` on `digits` with the default extractor and metrics. {made_by(result)}"
    return markdown(["bytes per image", ""], rows, note)


def engine_memory_table(result: dict) -> str:
    """Memory of a worker."""
    rows = [
        [
            f"`{name}`" if name else "torch alone", f"{found['weights_mib']:,.1f} MiB" if name else "",
            f"{found['rss_mib']:,.0f} MiB", f"{found['peak_mib']:,.0f} MiB",
        ]
        for name, found in result["memory"].items()
    ]  # fmt: skip
    note = (
        "Resident memory of an actor of Ray which has loaded that and the default extractor, after a piece of 64 images with "
        f"their features, and at most, on a CPU. {made_by(result | {'date': result['memory_date']})}"
    )
    return markdown(["a worker with", "its weights", "memory", "at most"], rows, note)


def scale_costs_table(result: dict) -> str:
    """What SDXL and FID on many images would cost on many workers."""
    workers = [str(n) for n in result["workers"]]
    jobs = [(f"`tune`, {_listed(row['steps'])} steps", row) for row in result["tune"]]
    jobs += [(f"`evaluate -n {result['images']}`, {row['steps']} steps", row) for row in result["evaluate"]]
    rows = [
        [
            name, _listed(row["calls"]), f"{sum(row['evaluations'].values()):,}", f"{row['bytes_back'] / 1e6:,.0f} MB",
            *(_hours(row["hours"][n]) for n in workers),
        ]
        for name, row in jobs
    ]  # fmt: skip
    shape = " x ".join(map(str, result["shape"]))
    note = (
        f"SDXL's latents, {shape}, under guidance, so a step takes two network evaluations; {result['call_seconds']:g} s per "
        "network evaluation of one image is an assumption: scale the hours by yours. Counted, not measured, by "
        f"`python {result['benchmark']}`, from the estimates of `tune --dry-run` and `evaluate --dry-run`. Features are as "
        "wide as those of `digits` above."
    )
    head = [
        "job",
        "`--calls`",
        "network evaluations",
        "back, at most",
        *(f"{n} worker{'s' * (n != '1')}" for n in workers),
    ]
    return markdown(head, rows, note)


def _listed(numbers: int | list[int]) -> str:
    return ", ".join(map(str, numbers if isinstance(numbers, list) else [numbers]))


def _hours(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"
