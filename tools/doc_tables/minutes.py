"""How long tuning of large models is expected to take, in one sentence, from ``minutes.json``."""

from __future__ import annotations

from sigmatune.support.durations import about


def minutes_sentence(result: dict) -> str:
    """The expected time of each model and effort on the stated card, and what the estimate rests on."""
    card, rows = result["card"], result["rows"]
    times = {name: [about(60 * row["efforts"][name]["minutes"]) for row in rows] for name in ("normal", "low")}
    normal = "; ".join(
        f"{row['model'].replace(',', ' at')}: {time}" for row, time in zip(rows, times["normal"], strict=True)
    )
    counts = [row["efforts"][name]["evaluations"] for name in ("low", "normal") for row in rows]
    each = next(row["seconds_per_evaluation"] for row in rows if row["model"].startswith(card["model"]))
    return (
        f"Expected time of `tune` on an {card['name']}, in {card['arithmetic']}, {rows[0]['steps']} steps: {normal}. With "
        f'`effort="low"`: {", ".join(times["low"])}. **Estimated from counts**, because no such card was at hand: '
        f"{min(counts):,} to {max(counts):,} network evaluations of single images as `--dry-run` counts them, of "
        f"{each:.3f} s for {card['model']} ([published]({card['source']})), for others in proportion to their operations "
        f"(`python {result['benchmark']}`)."
    )
