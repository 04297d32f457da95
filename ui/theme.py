"""Colours, type and spacing of Gradio's own components; what is ours is styled in chai.css with the same colours."""

from __future__ import annotations

import gradio as gr

# name: (light, dark). Text on its ground has a contrast of at least 4.5 to 1 in both.
COLOURS = {
    "ground": ("#f6f3ee", "#161412"),
    "panel": ("#fffdfa", "#201d1a"),
    "field": ("#ffffff", "#191715"),
    "line": ("#e2dbd1", "#38332e"),
    "ink": ("#29241f", "#ece6de"),
    "dim": ("#6b6259", "#a89f94"),
    "accent": ("#8f4f17", "#e6a863"),
    "accent_ink": ("#ffffff", "#201405"),
    "accent_soft": ("#f4e6d6", "#3a2a19"),
    "hit": ("#226a43", "#83cfa0"),
    "hit_soft": ("#e0f1e6", "#1d3226"),
    "miss": ("#4d5a6e", "#a9b9d0"),
    "miss_soft": ("#e8ecf2", "#272d36"),
    "bad": ("#a32c22", "#f0958a"),
    "bad_soft": ("#fbe7e4", "#3b1f1c"),
    "scene": ("#17626b", "#7fcbd6"),
    "scene_soft": ("#dff0f2", "#16302f"),
}
_FONT = ["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


def theme() -> gr.themes.Base:
    """Gradio's components in our colours; fonts are those of the system, so nothing is fetched."""
    values: dict[str, str] = {}

    def put(variable: str, colour: str) -> None:
        values[variable], values[f"{variable}_dark"] = COLOURS[colour]

    for variable, colour in {
        "body_background_fill": "ground",
        "body_text_color": "ink",
        "body_text_color_subdued": "dim",
        "background_fill_primary": "panel",
        "background_fill_secondary": "ground",
        "block_background_fill": "panel",
        "block_border_color": "line",
        "border_color_primary": "line",
        "border_color_accent": "accent",
        "block_label_background_fill": "panel",
        "block_label_text_color": "dim",
        "block_title_text_color": "dim",
        "block_info_text_color": "dim",
        "input_background_fill": "field",
        "input_background_fill_focus": "field",
        "input_border_color": "line",
        "input_border_color_focus": "accent",
        "input_placeholder_color": "dim",
        "checkbox_background_color": "field",
        "checkbox_background_color_selected": "accent",
        "checkbox_border_color": "dim",
        "checkbox_border_color_selected": "accent",
        "checkbox_label_background_fill": "panel",
        "checkbox_label_background_fill_selected": "accent_soft",
        "checkbox_label_text_color": "ink",
        "checkbox_label_text_color_selected": "ink",
        "checkbox_label_border_color": "line",
        "button_primary_background_fill": "accent",
        "button_primary_background_fill_hover": "accent",
        "button_primary_text_color": "accent_ink",
        "button_primary_text_color_hover": "accent_ink",
        "button_primary_border_color": "accent",
        "button_secondary_background_fill": "panel",
        "button_secondary_background_fill_hover": "accent_soft",
        "button_secondary_text_color": "ink",
        "button_secondary_text_color_hover": "ink",
        "button_secondary_border_color": "line",
        "color_accent_soft": "accent_soft",
        "link_text_color": "accent",
        "link_text_color_hover": "accent",
        "link_text_color_visited": "accent",
        "panel_background_fill": "panel",
        "accordion_text_color": "ink",
    }.items():
        put(variable, colour)
    values["color_accent"] = COLOURS["accent"][0]
    base = gr.themes.Base(font=_FONT, font_mono=_MONO, radius_size="md", spacing_size="md", text_size="md")
    return base.set(
        block_shadow="none",
        block_shadow_dark="none",
        block_border_width="1px",
        block_radius="10px",
        input_radius="8px",
        input_border_width="1px",
        input_border_width_dark="1px",
        button_large_radius="8px",
        button_small_radius="8px",
        shadow_drop="none",
        shadow_drop_lg="none",
        button_primary_shadow="none",
        button_secondary_shadow="none",
        **values,
    )


def colour_variables() -> str:
    """The colours as CSS variables, --c-ground and so on."""
    light = ";".join(f"--c-{name.replace('_', '-')}:{light}" for name, (light, _) in COLOURS.items())
    dark = ";".join(f"--c-{name.replace('_', '-')}:{dark}" for name, (_, dark) in COLOURS.items())
    return f":root{{{light}}}\n.dark,:root.dark{{{dark}}}\n"
