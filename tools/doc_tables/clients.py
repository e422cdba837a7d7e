"""Tables of what happens to plans inside other programs, from the results of tools/clients."""

from __future__ import annotations

from doc_tables.markdown import made_by, markdown

WHY = {
    "ManualSigmas, whole timesteps": {
        "SD 1.5": "from the model's largest sigma ComfyUI starts from sqrt(1 + sigma^2) eps; *exact timesteps* turns it off",
        "SD3": "dpmpp2m only: ComfyUI moves the first tau of this sampler from 1 to where the log SNR is finite",
        "Flux": "dpmpp2m only: as SD3",
    },
    "ManualSigmas, exact timesteps": {"SD 1.5": "ComfyUI rounds t, and starts as above"},
    "export, quantize on": {"SD 1.5": "k-diffusion rounds t"},
    "script, exact timesteps": {"SD 1.5": "Forge rounds t"},
    "script, whole, SGM noise multiplier on": {"SD 1.5": "Forge's option starts from sqrt(1 + sigma^2) eps"},
}
"""Why a way of running a plan differs, by model."""


def clients_table(result: dict) -> str:
    """One line for each way of running plans and each model: t and the end against the plan, and what is not equal and why."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in result["rows"]:
        if not row["way"].startswith("path: ") or "end" in row:
            groups.setdefault((row["way"].removeprefix("path: "), row["model"]), []).append(row)
    rows = []
    for (way, model), members in groups.items():
        measured = [row for row in members if "end" in row]
        different = ", ".join(row["solver"] for row in members if not row["equal"])
        why = WHY.get(way, {}).get(model, "") if different else ""
        if different and not why:
            raise ValueError(f"{way} on {model} differs ({different}), and WHY does not say why.")
        largest = [f"{max(row[name] for row in measured):.2g}" if measured else "" for name in ("t", "end")]
        rows.append([way, model, f"{sum(row['equal'] for row in members)} of {len(members)}", *largest, why])
    client = result["client"]
    note = (
        f"{client['name']} {client['version']}, commit {client['commit']}. Equal: every t within 0.001 of 1000 timesteps, the "
        f"end within 1e-4 of the largest value; the columns hold the largest difference. {made_by(result)}"
    )
    return markdown(["plans run by", "model", "equal", "t", "end", "what differs"], rows, note)


def refusals_table(result: dict) -> str:
    """What ComfyUI's user reads when a wrong model is connected."""
    rows = [
        [row["way"].removeprefix("path: "), row["refused"]]
        for row in result["rows"]
        if row["way"].startswith("path: ") and "refused" in row
    ]
    return markdown(["connected", "the message"], rows, made_by(result))
