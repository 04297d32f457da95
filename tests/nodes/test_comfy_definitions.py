"""What the host reads of the pack: names, types, defaults, tooltips, help."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
OUR_TYPES = {"CHAI_PIPELINE", "CHAI_CACHE", "CHAI_PLAN"}
HOST_TYPES = {"STRING", "INT", "FLOAT", "BOOLEAN", "COMBO", "IMAGE", "LATENT", "VIDEO"}
NAMES = {
    "CHAI_PromptToVideo", "CHAI_LoadPipeline", "CHAI_OpenCache", "CHAI_EnhancePrompt", "CHAI_ExtractEntities",
    "CHAI_Plan", "CHAI_Sampler", "CHAI_Decode", "CHAI_ReportText", "CHAI_CacheBrowser", "CHAI_PickDonor",
    "CHAI_CacheEntry",
}  # fmt: skip


def test_the_host_finds_its_way_in(pack):
    names = vars(pack.module)
    assert "comfy_entrypoint" in names
    assert (ROOT / names["WEB_DIRECTORY"] / "chai.js").is_file()


def test_the_nodes_are_there_under_names_of_their_own(pack):
    assert set(pack.classes) == NAMES


def test_types_are_the_hosts_wherever_it_has_one(pack):
    for name in pack.classes:
        used = {each[0] for each in pack.inputs(name).values()} | {each[0] for each in pack.outputs(name)}
        assert used <= OUR_TYPES | HOST_TYPES, name


def test_every_input_has_a_tooltip_and_every_widget_a_default_that_it_takes(pack):
    for node in pack.classes:
        for name, (io_type, options, is_optional) in pack.inputs(node).items():
            assert len(options["tooltip"]) > 10, (node, name)
            if io_type in ("INT", "FLOAT"):
                assert options["min"] <= options["default"] <= options["max"], (node, name)
            if io_type == "COMBO":
                assert options["default"] in options["options"], (node, name)
            assert is_optional or io_type in OUR_TYPES | {"LATENT"} or "default" in options or name == "report"


def test_the_seed_is_drawn_anew_after_each_run(pack):
    for node in ("CHAI_Sampler", "CHAI_PromptToVideo", "CHAI_EnhancePrompt"):
        assert pack.inputs(node)["seed"][1]["control_after_generate"] is True


# In the order in which they came: a saved graph keeps its widgets by place, so a new one is the last.
WIDGETS = {
    "CHAI_PromptToVideo": "prompt model seed width height num_frames fps steps guidance reuse preset",
    "CHAI_Plan": "prompt width height num_frames fps reuse donors preset adaptive_steps num_loops recipe",
    "CHAI_Sampler": "seed steps fast_steps guidance negative_prompt width height num_frames start_level acceleration "
    "aesthetic_score motion_score camera_motion",
    "CHAI_EnhancePrompt": "prompt seed enhancer folder lynx",
}


@pytest.mark.parametrize("node", WIDGETS)
def test_widgets_keep_their_places(pack, node):
    assert list(pack.defaults(node)) == WIDGETS[node].split()


def test_presets_accelerations_and_enhancers_are_those_of_the_other_faces(pack):
    from chai_app.enhance import DEMO, PUBLISHED
    from chai_app.presets import ACCELERATIONS, DEFAULT_PRESET, PRESETS

    for node in ("CHAI_Plan", "CHAI_PromptToVideo"):
        preset = pack.inputs(node)["preset"][1]
        assert (preset["options"], preset["default"]) == (list(PRESETS), DEFAULT_PRESET)
    acceleration = pack.inputs("CHAI_Sampler")["acceleration"][1]
    assert (acceleration["options"], acceleration["default"]) == (["auto", *ACCELERATIONS], "auto")
    assert pack.inputs("CHAI_EnhancePrompt")["enhancer"][1]["options"] == [DEMO, *PUBLISHED]


def test_only_the_enhancer_gives_lists(pack):
    assert {node: pack.lists(node) for node in pack.classes if pack.lists(node)} == {
        "CHAI_EnhancePrompt": ["captions", "originals"]
    }


def test_every_help_page_names_every_widget(pack):
    for node in WIDGETS:
        page = (ROOT / "nodes" / "web" / "docs" / f"{node}.md").read_text(encoding="utf-8")
        bold = {name.strip() for part in page.split("**")[1::2] for name in part.split(",")}
        shown = {pack.inputs(node)[id][1].get("display_name", id) for id in pack.defaults(node)}
        assert shown - bold <= {"prompt", "model", "seed"}, node


def test_every_node_has_a_help_page(pack):
    for node in pack.classes:
        page = (ROOT / "nodes" / "web" / "docs" / f"{node}.md").read_text(encoding="utf-8")
        assert page.startswith("# CHAI ") and len(page) > 150


def test_a_host_that_is_too_old_is_told_to_be_updated():
    code = f"""
        import importlib.util, sys, types
        sys.modules["folder_paths"] = types.ModuleType("folder_paths")
        spec = importlib.util.spec_from_file_location("chai_pack", {str(ROOT / "__init__.py")!r})
        module = importlib.util.module_from_spec(spec)
        sys.modules["chai_pack"] = module
        spec.loader.exec_module(module)
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert "CHAI needs ComfyUI 0.3.62 or newer: update ComfyUI" in ran.stderr.splitlines()[-1]


def test_importing_the_pack_loads_nothing_heavy_and_touches_nothing(tmp_path):
    code = f"""
import importlib.util, sys, types
for name in ("nodes", "app", "utils"):
    sys.modules[name] = types.ModuleType(name)
path = list(sys.path)
spec = importlib.util.spec_from_file_location("/x/custom_nodes/odd name_x_", {str(ROOT / "__init__.py")!r})
module = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = module
spec.loader.exec_module(module)
from importlib import import_module
assert len(import_module(spec.name + ".nodes.everything").NODES) == {len(NAMES)}
heavy = {{"torch", "numpy", "PIL", "av", "diffusers", "transformers", "faiss", "open_clip", "aiohttp", "platformdirs"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert not [name for name in sys.modules if name.split(".")[0] == "chai_app"]
assert sys.path == path
assert not vars(sys.modules["nodes"]).get("__path__")
"""
    environment = {"HOME": str(tmp_path), "PATH": ""}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
    assert list(tmp_path.iterdir()) == []


def workflows() -> list[str]:
    return sorted(path.stem for path in (ROOT / "example_workflows").glob("*.json"))


def test_there_are_three_examples_each_with_a_picture_and_an_api_form():
    assert len(workflows()) == 3
    for name in workflows():
        assert (ROOT / "example_workflows" / f"{name}.jpg").is_file()
        assert (ROOT / "example_workflows" / "api" / f"{name}.json").is_file()


@pytest.mark.parametrize("name", workflows())
def test_an_example_uses_our_nodes_as_they_are(pack, name):
    graph = json.loads((ROOT / "example_workflows" / "api" / f"{name}.json").read_text(encoding="utf-8"))
    for node in graph.values():
        if not node["class_type"].startswith("CHAI_"):
            continue
        known = pack.inputs(node["class_type"])
        assert set(node["inputs"]) <= set(known), node
        for id, (io_type, options, is_optional) in known.items():
            value = node["inputs"].get(id)
            if value is None:
                assert is_optional, (node, id)
            elif isinstance(value, list):
                source = graph[value[0]]["class_type"]
                if source.startswith("CHAI_"):
                    assert pack.outputs(source)[value[1]][0] == io_type
            elif io_type == "COMBO":
                assert value in options["options"]
            elif io_type in ("INT", "FLOAT"):
                assert options["min"] <= value <= options["max"]


@pytest.mark.parametrize("name", workflows())
def test_both_forms_of_an_example_are_one_graph(pack, name):
    folder = ROOT / "example_workflows"
    drawn = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    sent = json.loads((folder / "api" / f"{name}.json").read_text(encoding="utf-8"))
    by_id = {str(node["id"]): node for node in drawn["nodes"] if node["type"] != "MarkdownNote"}
    assert {id: node["type"] for id, node in by_id.items()} == {id: node["class_type"] for id, node in sent.items()}
    wires = {(str(link[1]), link[2], str(link[3])) for link in drawn["links"]}
    told = {(v[0], v[1], id) for id, node in sent.items() for v in node["inputs"].values() if isinstance(v, list)}
    assert wires == told
    for id, node in by_id.items():
        for value in (v for v in sent[id]["inputs"].values() if not isinstance(v, list)):
            assert value in node["widgets_values"], (node["type"], value)


def test_the_packs_card_is_whole():
    import tomllib

    card = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    comfy = card["tool"]["comfy"]
    assert comfy["PublisherId"] and comfy["DisplayName"] and (ROOT / comfy["Icon"]).is_file()
    assert "web" not in comfy  # WEB_DIRECTORY says it; both would make two side panels
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        assert "==" not in line.split(";")[0] and "<" not in line.split(";")[0], line


def test_the_page_is_told_the_labels_of_inputs(pack):
    """The page shows an input's id, unless a pack's locale has a name for it."""
    labels = {}
    for node in pack.classes:
        named = {
            id: {"name": told["display_name"]}
            for id, (_, told, _) in pack.inputs(node).items()
            if "display_name" in told
        }
        if named:
            labels[node] = {"inputs": named}
    assert json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8")) == labels


def test_the_page_shows_what_every_node_says_that_has_something_to_say():
    page = (ROOT / "nodes" / "web" / "chai.js").read_text(encoding="utf-8")
    silent = {"CHAI_LoadPipeline", "CHAI_OpenCache", "CHAI_Decode"}
    assert {name for name in NAMES if f'"{name}"' in page} == NAMES - silent
