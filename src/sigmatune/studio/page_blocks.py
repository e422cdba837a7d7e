"""The page: its tabs, its style, and its state from a link."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported, which reports to its makers otherwise

import gradio as gr

from sigmatune.studio import tab_compare, tab_explore, tab_frequencies, tab_keep, tab_tune
from sigmatune.studio.callbacks import Studio, Updates, sentences
from sigmatune.studio.page_state import PageState
from sigmatune.studio.tab_explore import LIVE, PRIVATE

STYLE = files("sigmatune.studio").joinpath("studio.css").read_text(encoding="utf-8")
FONTS = ("system-ui", "Segoe UI", "Roboto", "sans-serif")
MONO = ("ui-monospace", "SF Mono", "Menlo", "Consolas", "monospace")
REMEMBER = "(link) => { if (link) history.replaceState(null, '', new URL(link).search); }"
"""Keeps the state in the page's address, so that reloading it or copying it restores the page."""


def theme() -> gr.Theme:
    """A theme of the system's own fonts: nothing is loaded from elsewhere."""
    return gr.themes.Base(
        primary_hue="orange", neutral_hue="slate", radius_size="md", font=list(FONTS), font_mono=list(MONO)
    ).set(layout_gap="10px", button_primary_background_fill="#c2500a", button_primary_background_fill_hover="#a34208",
          button_primary_background_fill_dark="#c2500a", button_primary_text_color="#ffffff")  # fmt: skip


def blocks(studio: Studio) -> gr.Blocks:
    """Builds the page."""
    with gr.Blocks(title="SigmaTune studio", analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        gr.HTML('<header class="top"><h1>SigmaTune studio</h1><p>See a noise schedule, move it, keep it.</p></header>')
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Explore", id="explore"):
                explore = tab_explore.build(studio, tabs)
            with gr.Tab("Tune", id="tune"):
                tab_tune.build(studio, explore)
            with gr.Tab("Compare", id="compare"):
                tab_compare.build(studio, explore)
            with gr.Tab("Frequencies", id="frequencies"):
                tab_frequencies.build(studio, explore)
            with gr.Tab("Keep", id="keep") as keep:
                tab_keep.build(studio, explore, keep)

        @sentences(explore.message)
        def opened(request: gr.Request) -> Iterator[Updates]:
            state = PageState.from_link(dict(request.query_params or {}), studio.first)
            yield tab_explore.fields_of(explore, state, request)  # also if it fails, so that a visitor can correct it
            yield from tab_explore.explored(studio, explore, request, lambda: state)

        def closed(request: gr.Request) -> None:
            studio.sessions.close(request.session_hash)

        page.load(opened, None, explore.outputs, **LIVE)
        explore.link.change(None, explore.link, None, js=REMEMBER, **PRIVATE)
        page.unload(closed)
    return page


def settings() -> dict[str, Any]:
    """How the page is served: no links to elsewhere, no programming interface to browse, no history in the browser."""
    return {
        "theme": theme(), "css": STYLE, "footer_links": [], "run_history": False, "show_error": False, "ssr_mode": False,
        "pwa": False, "mcp_server": False, "enable_monitoring": False,
    }  # fmt: skip
