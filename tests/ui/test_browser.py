"""The browser UI in a real browser, on the tiny model: what a person does, and sees."""

import base64
import re

import pytest
from playwright.sync_api import expect

from chai_app.media.video import read_metadata
from chai_app.presets import PRESETS
from chai_app.request import GenerationRequest
from ui.generate_page import compare_arms

FIRST, SECOND = "a red ball rising in the desert", "a red ball falling on the moon"
FOREVER = {"num_inference_steps": 1000, "width": 128, "height": 128, "num_frames": 51}  # no test waits for it
expect.set_options(timeout=120_000)


def go(page, name):
    page.get_by_role("tab", name=name, exact=True).click()


def made(site, prompt, **fields):
    """A finished job, made through the queue of the server."""
    fields = {"num_inference_steps": 3, "fast_steps": 2, "seed": 1, **fields}
    (job,) = site.studio.jobs.submit([GenerationRequest(prompt, **fields)])
    done = site.studio.jobs.wait(job.id, 120)
    assert done.state == "done", done.error
    return done


@pytest.fixture
def endless(site):
    """A job that runs until it is stopped."""
    (job,) = site.studio.jobs.submit([GenerationRequest(FIRST, **FOREVER, reuse="full", seed=5)])
    yield job
    site.studio.jobs.cancel(job.id)
    site.studio.jobs.wait(job.id, 120)


def test_from_a_cold_start_to_the_first_video_and_then_a_hit(page, site):
    page.fill("#prompt textarea", FIRST)
    plan = page.locator("#plan")
    expect(plan.locator(".c-chip.c-object")).to_contain_text("red ball")
    expect(plan.locator(".c-chip.c-scene")).to_contain_text("desert")
    expect(plan).to_contain_text("The cache is empty")
    page.keyboard.press("Control+Enter")
    receipt = page.locator("#part-job .c-receipt")
    expect(receipt).to_contain_text("Miss")
    expect(receipt).to_contain_text("denoising")
    expect(receipt).to_contain_text("Kept as entry")
    assert page.locator("#part-job video").evaluate("v => v.loop && v.autoplay")
    page.wait_for_function("document.querySelector('#part-job video').readyState >= 2")
    (job,) = site.studio.jobs.jobs()
    assert read_metadata(job.file)["chai"]["request"]["prompt"] == FIRST

    page.fill("#prompt textarea", SECOND)
    expect(plan.locator(".c-chip.c-hit")).to_have_text("Hit")
    expect(plan.locator(".c-candidate")).to_contain_text(f"“red ball” for “red ball” 1.000{FIRST}")
    expect(plan.locator(".c-candidate img").first).to_be_visible()
    page.click("#generate")
    expect(page.locator("#part-job .c-title")).to_have_text(SECOND)
    expect(receipt).to_contain_text("Attended to an earlier video for 'red ball'")
    expect(receipt).to_contain_text("Cache Attention ran")
    assert site.studio.jobs.jobs()[0].report.reuse.entry_id == job.report.reuse.stored_entry_id


def test_reuse_is_switched_off_from_the_plan_and_on_again(page, site):
    made(site, FIRST)
    page.fill("#prompt textarea", SECOND)
    plan = page.locator("#plan")
    plan.get_by_role("button", name="Do without").click()
    expect(plan.locator(".c-chip.c-full")).to_have_text("Full run")
    plan.get_by_role("button", name="Choose automatically").click()
    expect(plan.locator(".c-chip.c-hit")).to_have_text("Hit")
    plan.get_by_role("button", name="Keep to this donor").click()
    expect(plan).to_contain_text("chosen by name")


def test_of_two_things_put_into_the_form_at_once_neither_is_lost(page):
    page.fill("#prompt textarea", FIRST)
    expect(page.locator("#plan .c-chip.c-object")).to_contain_text("red ball")
    page.evaluate("""() => {
        for (const fields of [{reuse: "full"}, {prompt: "a blue star"}, {job: "none"}]) {
            const button = document.body.appendChild(document.createElement("button"));
            if (fields.job) button.dataset.restoreJob = fields.job;
            else button.dataset.fill = JSON.stringify(fields);
            button.click();
            button.remove();
        }
    }""")
    expect(page.locator("#prompt textarea")).to_have_value("a blue star")
    expect(page.locator("#plan .c-chip.c-object")).to_contain_text("blue star")
    expect(page.locator("#plan .c-chip.c-full")).to_have_text("Full run")
    expect(page.locator("#c-toasts .c-bad")).to_contain_text("no longer on the list")


def test_a_seed_or_a_size_that_is_written_counts(page, site):
    page.fill("#prompt textarea", FIRST)
    page.get_by_role("button", name="Seed, length and size").click()
    page.get_by_label("Fixed seed").press_sequentially("41", delay=100)
    expect(page.locator("#seed-mode").get_by_label("fixed")).to_be_checked()
    page.get_by_label("Width (px)").press_sequentially("-5", delay=100)
    expect(page.locator("#resolution input")).to_have_value("in pixels")
    expect(page.locator("#plan .c-problem")).to_contain_text("Width (px) must be a whole number")
    page.get_by_label("Width (px)").fill("")
    page.get_by_label("Videos per prompt").fill("3")
    expect(page.locator("#plan")).to_contain_text("3 videos will be made; this is the plan of the first.")
    page.get_by_label("Videos per prompt").fill("100000")
    expect(page.locator("#plan .c-problem")).to_contain_text(
        "Videos per prompt must be a whole number from 1 to 100, not 100000."
    )
    page.get_by_label("Videos per prompt").fill("1")
    page.fill("#prompt textarea", f"{FIRST}\n{SECOND}")
    expect(page.locator("#plan")).to_contain_text("These 2 lines are one prompt")
    page.reload(wait_until="domcontentloaded")
    expect(page.locator("#prompt textarea")).to_have_value(f"{FIRST}\n{SECOND}")


def test_again_keeps_what_was_asked_for(open_page, site):
    for preset, reuse in (("exact", None), ("balanced", "auto")):
        made(site, SECOND, preset=preset, reuse=reuse)
        page = open_page()
        page.get_by_role("button", name="Again with a new seed").click()
        expect(page.locator("#c-toasts")).to_contain_text("Queued.")
        newest = max(site.studio.jobs.jobs(), key=lambda job: job.created)
        done = site.studio.jobs.wait(newest.id, 120)
        assert done.request.preset == preset
        assert (done.report.reuse.outcome == "full") == (preset == "exact")


def test_what_is_queued_beside_a_running_video_leaves_it_in_view(page, site, endless):
    expect(page.locator("#part-job .c-title")).to_have_text(FIRST)
    page.fill("#prompt textarea", SECOND)
    page.click("#generate")
    expect(page.locator("#part-queue")).to_contain_text("1 running, 1 waiting")
    expect(page.locator("#part-job .c-title")).to_have_text(FIRST)
    page.get_by_role("button", name="Seed, length and size").click()
    page.locator("#resolution input").click()
    options = page.get_by_role("option", name="in pixels")
    expect(options).to_be_visible()
    page.keyboard.press("Escape")  # the list, not the video
    expect(options).not_to_be_visible()
    page.locator("#part-queue .c-job-queued").get_by_role("button", name="Cancel this video").click()
    expect(page.locator("#c-toasts")).to_contain_text("Taken off the queue.")
    assert site.studio.jobs.job(endless.id).state == "running"
    site.studio.jobs.forget(job.id for job in site.studio.jobs.jobs() if job.state == "cancelled")


def test_a_prompt_that_makes_no_sense_is_told_in_one_sentence(page):
    page.click("#generate")
    expect(page.locator("#plan .c-problem")).to_contain_text("The prompt is empty")
    page.fill("#prompt textarea", FIRST)
    page.get_by_role("button", name="Reuse and steps").click()
    page.get_by_label("Steps of a full run").fill("5000")
    expect(page.locator("#plan .c-problem")).to_contain_text("must be a whole number from 1 to 1000")


def test_escape_cancels_the_running_video(page, site, endless):
    expect(page.locator("#part-job .c-progress")).to_be_visible()
    expect(page.locator("#part-job .c-badge")).to_contain_text("preview of step")
    page.locator("h1").click()
    page.keyboard.press("Escape")
    expect(page.locator(f"#part-queue .c-job-cancelled[data-key='{endless.id}']")).to_contain_text(FIRST)
    assert site.studio.jobs.job(endless.id).state == "cancelled"


def test_a_run_goes_on_without_its_page_and_is_found_again_in_every_tab(page, open_page, site, endless):
    expect(page.locator("#part-job .c-progress")).to_be_visible()
    page.reload(wait_until="domcontentloaded")
    expect(page.locator("#part-job .c-progress")).to_be_visible()
    other = open_page()
    expect(other.locator("#part-job .c-title")).to_have_text(FIRST)
    other.locator("#part-job").get_by_role("button", name="Cancel").click()
    expect(page.locator("#part-job")).to_contain_text("Cancelled")
    assert site.studio.jobs.job(endless.id).state == "cancelled"


def test_waiting_videos_are_reordered_and_removed(page, site, endless):
    jobs = site.studio.jobs
    one, two = jobs.submit([GenerationRequest(f"a {colour} star", num_inference_steps=2) for colour in ("red", "blue")])
    rows = page.locator("#part-queue .c-job-queued")
    expect(rows).to_have_text([re.compile("red star"), re.compile("blue star")])
    rows.nth(1).get_by_role("button", name="Earlier").click()
    expect(rows).to_have_text([re.compile("blue star"), re.compile("red star")])
    for row in (1, 0):
        rows.nth(row).get_by_role("button", name="Cancel this video").click()
        expect(rows).to_have_count(row)
    assert {jobs.job(job.id).state for job in (one, two)} == {"cancelled"}


def test_several_prompts_at_once(page, site):
    page.get_by_role("button", name="Seed, length and size").click()
    page.get_by_label("Every line of the prompt").check()
    page.fill("#prompt textarea", "a green boat on the ocean\na blue star on the moon")
    page.click("#generate")
    expect(page.locator("#c-toasts")).to_contain_text("2 videos queued.")
    newest = sorted(site.studio.jobs.jobs(), key=lambda job: -job.created)[:2]
    assert {job.request.prompt for job in newest} == {"a green boat on the ocean", "a blue star on the moon"}
    for job in newest:
        site.studio.jobs.wait(job.id, 120)


def test_a_preset_says_what_it_does_and_a_field_of_its_own_counts_more(page, site):
    half = PRESETS["draft"].steps(site.studio.default_model().defaults.num_inference_steps)
    preset, plan = page.locator("#preset"), page.locator("#plan")
    expect(preset.get_by_label("balanced")).to_be_checked()
    expect(preset).to_contain_text("The usual: earlier videos help")
    page.fill("#prompt textarea", "a white mushroom in the forest")
    preset.get_by_label("draft").check()
    expect(preset).to_contain_text("For a first look: half the steps")
    expect(plan).to_contain_text(f"{half} steps.")
    page.get_by_role("button", name="Reuse and steps").click()
    steps = page.get_by_label("Steps of a full run")
    expect(steps).to_have_attribute("placeholder", str(half))
    steps.fill("7")
    expect(plan).to_contain_text("7 steps.")
    expect(preset).to_contain_text("What you set counts more: steps of a full run.")
    preset.get_by_label("exact").check()
    expect(plan.locator(".c-chip.c-full")).to_have_text("Full run")
    expect(plan).to_contain_text("7 steps.")


def test_used_settings_bring_the_preset_and_what_was_set_beside_it(page, site):
    job = made(site, FIRST, preset="draft", adaptive_steps=True, start_level=0.6, reuse="full", num_inference_steps=6)
    expect(page.locator("#part-job .c-receipt")).to_contain_text("first-block")
    page.locator("#part-job").get_by_text("Settings", exact=True).click()
    expect(page.locator("#part-job")).to_contain_text("full run: 6, hit: 2")
    page.locator("#part-job").get_by_role("button", name="Use its settings").click()
    expect(page.locator("#preset").get_by_label("draft")).to_be_checked()
    page.get_by_role("button", name="Reuse and steps").click()
    expect(page.get_by_label("Steps of a full run")).to_have_value("6")
    expect(page.get_by_label("Noise few steps begin with")).to_have_value("0.6")
    expect(page.locator("#acceleration input")).to_have_value("as the preset has it")
    page.locator("#preset").get_by_label("balanced").check()
    page.click("#generate")
    expect(page.locator("#c-toasts")).to_contain_text("Queued.")
    newest = max(site.studio.jobs.jobs(), key=lambda each: each.created)
    assert newest.id != job.id and (newest.request.preset, newest.request.acceleration) == ("balanced", "none")
    site.studio.jobs.wait(newest.id, 120)


def test_a_short_prompt_is_enhanced_edited_and_made_and_can_be_had_back(page, site):
    prompt = page.locator("#prompt textarea")
    prompt.fill("red balloon")
    page.click("#enhance")
    expect(prompt).to_have_value(re.compile(r"red balloon .+"))
    expect(page.locator("#enhance-told")).to_contain_text("read it, and change what you like")
    caption = prompt.input_value()
    page.click("#enhance-undo")
    expect(prompt).to_have_value("red balloon")
    expect(page.locator("#enhance-undo")).not_to_be_visible()
    page.click("#enhance")
    expect(prompt).to_have_value(caption)  # the same words for the same prompt
    page.click("#enhance")
    expect(prompt).not_to_have_value(caption)  # and others if it is asked again
    expect(prompt).to_have_value(re.compile("red balloon"))
    prompt.fill(prompt.input_value() + ", at night")
    expect(page.locator("#plan")).to_contain_text("it was 'red balloon'")
    expect(page.locator("#enhance-undo")).to_be_visible()
    page.get_by_role("button", name="Reuse and steps").click()
    page.get_by_label("Steps of a full run").fill("2")
    page.click("#generate")
    expect(page.locator("#part-job .c-title")).to_have_text(re.compile("red balloon .*, at night"))
    expect(page.locator("#part-job .c-receipt")).to_contain_text("The prompt was enhanced; it was 'red balloon'.")
    newest = max(site.studio.jobs.jobs(), key=lambda each: each.created)
    assert newest.request.original_prompt == "red balloon"
    prompt.fill("a green car in the city")
    expect(page.locator("#enhance-undo")).not_to_be_visible()
    expect(page.locator("#plan")).not_to_contain_text("it was 'red balloon'")
    page.locator("#part-job").get_by_role("button", name="Use its settings").click()
    expect(prompt).to_have_value(re.compile(", at night"))
    page.click("#enhance-undo")
    expect(prompt).to_have_value("red balloon")


def test_of_several_lines_each_is_enhanced_and_one_that_would_lose_something_is_left(page, site):
    page.get_by_role("button", name="Seed, length and size").click()
    page.get_by_label("Every line of the prompt").check()
    prompt = page.locator("#prompt textarea")
    prompt.fill("blue fish\nred tiger\nwhite star")
    page.click("#enhance")
    expect(page.locator("#enhance-told .c-notes")).to_contain_text(
        "“red tiger”: The prompt was left as it is: the demo enhancer does not know"
    )
    lines = prompt.input_value().splitlines()
    assert lines[1] == "red tiger" and "blue fish" in lines[0] and "white star" in lines[2]
    page.get_by_role("button", name="Reuse and steps").click()
    page.get_by_label("Steps of a full run").fill("2")
    page.click("#generate")
    expect(page.locator("#c-toasts")).to_contain_text("3 videos queued.")
    newest = sorted(site.studio.jobs.jobs(), key=lambda job: -job.created)[:3]
    assert {job.request.prompt: job.request.original_prompt for job in newest} == {
        lines[0]: "blue fish",
        lines[1]: None,
        lines[2]: "white star",
    }
    for job in newest:
        site.studio.jobs.wait(job.id, 120)


def test_the_enhancer_waits_for_a_running_video_and_says_so(page, site, endless):
    prompt, progress = page.locator("#prompt textarea"), page.locator("#enhance-progress")
    expect(page.locator("#part-job .c-badge")).to_contain_text("preview of step")
    prompt.fill("red balloon")
    page.click("#enhance")
    expect(progress).to_contain_text("Waiting: a video is being made")
    page.click("#enhance-stop")
    expect(progress).to_contain_text("Stopped: the prompt is as it was.")
    expect(page.locator("#enhance-stop")).not_to_be_visible()
    page.click("#enhance")
    expect(progress).to_contain_text("Waiting: a video is being made")
    prompt.fill("a green car")
    page.locator("#part-job").get_by_role("button", name="Cancel").click()
    expect(progress).to_contain_text("You have changed the prompt meanwhile")
    expect(progress).to_contain_text("red balloon")
    expect(prompt).to_have_value("a green car")


def test_what_the_enhancer_cannot_do_is_one_sentence(page, site, monkeypatch):
    page.click("#enhance")
    expect(page.locator("#enhance-progress .c-problem")).to_contain_text("is empty: say what the video should show")
    monkeypatch.setattr(site.studio.engine, "enhance", lambda *args, **more: 1 / 0)
    page.fill("#prompt textarea", "red balloon")
    page.click("#enhance")
    words = "The program failed here (ZeroDivisionError): its log tells more."
    expect(page.locator("#enhance-progress .c-problem")).to_have_text(words)
    expect(page.locator("#prompt textarea")).to_have_value("red balloon")


def test_donors_of_choice_become_further_arms_of_a_comparison(page, site):
    boat = made(site, "a yellow boat on the ocean", reuse="full").report.reuse.stored_entry_id
    made(site, FIRST, reuse="full")
    page.fill("#prompt textarea", SECOND)
    page.get_by_role("button", name="Reuse and steps").click()
    page.get_by_label("Steps of a full run").fill("2")
    page.click("#compare")
    arms = page.locator("#part-compare-result .c-arm")
    donors = page.locator("#part-compare-donors")
    expect(donors.locator(".c-candidate").first).to_be_visible()
    donors.get_by_label("Words of the prompt").fill("yellow boat")
    expect(donors.locator(".c-candidate")).to_have_count(1)
    expect(donors.locator(".c-candidate img")).to_be_visible()
    expect(donors.locator(".c-candidate")).to_contain_text(f"entry {boat[:6]}")
    donors.get_by_role("button", name="Add as donor").click()
    expect(arms).to_have_count(4)
    expect(donors).to_contain_text("added")
    arm = page.locator("#part-compare-result .c-arm", has_text=f"donor {boat[:6]}")
    expect(arm.locator(".c-chip.c-hit")).to_have_text("Hit")
    expect(arm.locator(".c-candidate")).to_contain_text("a yellow boat on the ocean")
    expect(page.locator("#part-compare-result video")).to_have_count(4)
    donors.get_by_label("Words of the prompt").fill("no such words")
    expect(donors).to_contain_text("No other entry has these words.")
    page.get_by_role("button", name="Compare again with a new seed").click()
    expect(page.locator("#part-compare-result video")).to_have_count(4)
    expect(page.locator("#part-compare-result")).to_contain_text(f"donor {boat[:6]}")


def test_the_arms_of_a_comparison_play_in_step(page, site):
    made(site, FIRST)
    page.fill("#prompt textarea", SECOND)
    page.click("#compare")
    arms = page.locator("#part-compare-result .c-arm")
    expect(arms).to_have_count(3)
    expect(page.locator("#part-compare-result video")).to_have_count(3)
    expect(arms.locator(".c-chip.c-hit")).to_have_count(1)
    expect(arms.first).to_contain_text("full run")
    expect(arms.first).to_contain_text("from prompt to frames")
    jobs = site.studio.jobs.group(page.locator("[data-scope]").get_attribute("data-scope"))
    assert len({job.request.seed for job in jobs}) == 1 and {job.report.reuse.outcome for job in jobs} == {
        "full",
        "fast",
        "hit",
    }
    page.wait_for_function("[...document.querySelectorAll('video[data-sync]')].every(v => v.readyState >= 2)")
    page.locator("[data-scrub]").evaluate("s => { s.value = 500; s.dispatchEvent(new Event('input')); }")
    times = page.evaluate("[...document.querySelectorAll('video[data-sync]')].map(v => v.currentTime)")
    assert len(set(times)) == 1 and times[0] > 0


def test_the_cache_panel_finds_by_likeness_and_opens_an_entry(page, site):
    made(site, FIRST)
    go(page, "Cache")
    expect(page.locator("#part-cache-list .c-card").first).to_contain_text("hit")
    expect(page.locator("#part-cache-summary")).to_contain_text("Budget")
    expect(page.locator("#part-cache-summary .c-map circle").first).to_be_visible()
    page.get_by_label("What would match?").fill("crimson ball")
    expect(page.locator("#part-cache-list .c-threshold")).to_contain_text("object 0.")
    expect(page.locator("#part-cache-list tbody .c-score").first).to_have_text(re.compile(r"0\.\d{3}|1\.000"))
    page.get_by_label("What would match?").fill("")
    page.get_by_label("Shown as").select_option("table")
    expect(page.locator("#part-cache-list table")).to_contain_text("Last used")
    page.locator("#part-cache-list button.c-thumb").first.click()
    entry = page.locator("#c-entry-dialog")
    expect(entry.locator("figcaption").first).to_have_text("the video")
    expect(entry).to_contain_text("latents: clean, noise 0")


def test_an_entry_is_pinned_renamed_deleted_and_brought_back(page, site):
    id = made(site, "a green boat on the moon", reuse="full").report.reuse.stored_entry_id

    def entry():
        with site.studio.cache() as cache:
            return cache.entry(id)

    page.evaluate("location.hash = 'cache'")
    go(page, "Cache")
    page.get_by_label("Words of the prompt").fill("green boat on the moon")
    card = page.locator(f"#part-cache-list [data-key='{id}']")
    card.get_by_role("button", name="Pin", exact=True).click()
    expect(card.get_by_role("button", name="Unpin")).to_be_visible()
    assert entry().is_pinned
    card.locator(".c-picture").click()
    dialog = page.locator("#c-entry-dialog")
    dialog.get_by_text("Rename what it is found by").click()
    dialog.get_by_label("Objects").fill("emerald ship")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.locator(".c-chip.c-object")).to_contain_text("emerald ship")
    dialog.get_by_role("button", name="Delete").click()
    expect(card).to_have_count(0)
    assert entry() is None
    page.locator("#c-undo").click()
    expect(card).to_contain_text("emerald ship")
    assert entry().is_pinned
    with site.studio.cache() as cache:
        assert cache.preview(cache.entry(id)) is not None and cache.verify() == []


def test_the_budget_is_changed_after_its_forecast(page, site):
    made(site, FIRST, reuse="full")
    go(page, "Cache")
    page.get_by_label("New budget").fill("1 kB")
    page.get_by_role("button", name="What would leave?").click()
    expect(page.locator("#part-budget")).to_contain_text("would leave")
    page.get_by_label("New budget").fill("2 GB")
    page.get_by_role("button", name="Set", exact=True).click()
    page.locator("#c-ask-yes").click()
    expect(page.locator("#part-cache-summary")).to_contain_text("of 2.0 GB")
    page.get_by_label("New budget").fill("much")
    page.get_by_role("button", name="What would leave?").click()
    expect(page.locator("#c-toasts .c-bad")).to_contain_text("Unknown size 'much'")


def test_verify_export_dry_run_import_and_purge(page, site, tmp_path):
    id = made(site, "a blue boat on the ocean", reuse="full").report.reuse.stored_entry_id
    go(page, "Cache")
    page.get_by_role("button", name="Verify").click()
    expect(page.locator("#part-cache-upkeep")).to_contain_text("Nothing is wrong.")
    page.get_by_role("button", name="Repair").click()
    page.locator("#c-ask-yes").click()
    expect(page.locator("#part-cache-upkeep")).to_contain_text("rebuilt the indexes")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Export all").click()
    waiting.value.save_as(tmp_path / "cache.zip")

    page.get_by_label("Entity").fill("blue boat")
    page.get_by_role("button", name="Show what would go").click()
    expect(page.locator("#part-purge")).to_contain_text("entries of the cache")
    page.get_by_role("button", name=re.compile("Purge these")).click()
    page.locator("#c-ask-yes").click()
    expect(page.locator("#part-purge")).to_contain_text("Gone:")
    with site.studio.cache() as cache:
        assert cache.entry(id) is None
    assert site.studio.gallery.items("blue boat") == []

    with page.expect_file_chooser() as choosing:
        page.get_by_role("button", name="Import", exact=True).click()
    choosing.value.set_files(tmp_path / "cache.zip")
    expect(page.locator("#part-cache-upkeep")).to_contain_text("new entries")
    with site.studio.cache() as cache:
        assert cache.entry(id) is None  # a look, and no more
    page.locator("#part-cache-upkeep").get_by_role("button", name="Import").click()
    expect(page.locator("#part-cache-upkeep")).to_contain_text("imported")
    with site.studio.cache() as cache:
        assert cache.entry(id) is not None and cache.verify() == []


DROP = """([name, data]) => {
  const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0)), transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name));
  document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""


def test_a_dropped_video_gives_its_settings_back_and_another_one_says_why_not(page, site, tmp_path):
    job = made(site, "a green star on the moon", seed=4321, guidance_scale=3.5)
    page.evaluate(DROP, ["clip.mp4", base64.b64encode(job.file.read_bytes()).decode()])
    expect(page.locator("#prompt textarea")).to_have_value("a green star on the moon")
    page.get_by_role("button", name="Seed, length and size").click()
    expect(page.locator("#seed input, #seed textarea")).to_have_value("4321")
    page.evaluate(DROP, ["other.mp4", base64.b64encode(b"no video").decode()])
    expect(page.locator("#c-toasts .c-bad").first).to_contain_text("is not a video that can be read")
    page.evaluate(DROP, ["notes.txt", base64.b64encode(b"text").decode()])
    expect(page.locator("#c-toasts .c-bad", has_text="Drop an mp4")).to_be_visible()


def test_the_gallery_searches_the_folder_and_opens_a_file(page, site):
    job = made(site, "a blue star rising on the ocean", seed=77)
    go(page, "Gallery")
    page.get_by_label("Search prompts").fill("blue star ocean 77")
    cards = page.locator("#part-gallery-list .c-card")
    expect(cards).to_have_count(1)
    cards.locator(".c-picture").click()
    opened = page.locator("#part-gallery-item")
    expect(opened).to_contain_text("Receipt")
    with page.expect_download() as waiting:
        opened.get_by_role("button", name="Download gif").click()
    assert waiting.value.suggested_filename.endswith(".gif")
    opened.get_by_role("button", name="Delete").click()
    page.locator("#c-ask-yes").click()
    expect(cards).to_have_count(0)
    assert not job.file.exists()


def test_the_last_frame_of_a_video_starts_the_next(page, site):
    made(site, "a blue ball in the desert", seed=8, reuse="full")
    page.get_by_role("button", name="Use last frame").click()
    page.fill("#prompt textarea", "a blue ball in the desert")
    expect(page.locator("#plan")).to_contain_text("starts from a picture")


def test_a_private_video_is_shown_and_nothing_is_kept(page, site):
    with site.studio.cache() as cache:
        before = cache.count()
    page.get_by_role("button", name="Reuse and steps").click()
    page.locator("#private input").check()
    page.fill("#prompt textarea", "a red star falling on the ocean")
    page.click("#generate")
    expect(page.locator("#part-job")).to_contain_text("private: nothing was kept")
    page.wait_for_function("document.querySelector('#part-job video').readyState >= 2")
    with site.studio.cache() as cache:
        assert cache.count() == before
    assert site.studio.gallery.items("red star falling") == []


def test_a_bug_of_ours_is_a_sentence_on_the_page_and_not_a_stack(page, site, monkeypatch):
    monkeypatch.setattr(site.studio.gallery, "items", lambda words="": 1 / 0)
    go(page, "Gallery")
    toast = page.locator("#c-toasts .c-bad").first
    expect(toast).to_have_text("The program failed here (ZeroDivisionError): its log tells more.")
    assert "Traceback" not in page.content()


def test_nothing_that_a_prompt_holds_becomes_html(page, site):
    evil = "a red ball <img src=x onerror=\"document.title='broken into'\"> in the desert"
    made(site, evil, seed=66, reuse="full")
    page.fill("#prompt textarea", evil)
    expect(page.locator("#plan .c-headline")).to_be_visible()
    expect(page.locator("#part-job .c-title")).to_have_text(evil)
    for name in ("Cache", "Gallery"):
        go(page, name)
        expect(page.locator(f"#part-{name.lower()}-list")).to_contain_text("onerror")
    assert page.locator("img[onerror]").count() == 0
    assert "broken" not in page.title()


def test_everything_can_be_done_from_the_keyboard(page):
    page.locator("h1").click()
    for key, name in (
        ("3", "Cache"),
        ("5", "System"),
        ("4", "Gallery"),
        ("6", "Numbers"),
        ("2", "Compare"),
        ("1", "Generate"),
    ):
        page.keyboard.press(key)
        expect(page.get_by_role("tab", name=name, exact=True)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("6")
    page.get_by_label("N", exact=True).focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#part-numbers-number")).to_contain_text("follows 10")
    page.locator("h1").click()
    page.keyboard.press("1")
    page.keyboard.press("?")
    expect(page.locator("#c-keys-dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#c-keys-dialog")).not_to_be_visible()
    page.keyboard.press("/")
    expect(page.locator("#prompt textarea")).to_be_focused()


def test_in_a_narrow_window_every_page_is_still_there(page):
    page.set_viewport_size({"width": 360, "height": 800})
    tabs = page.locator("#pages button[role=tab], #pages .overflow-dropdown button")
    expect(tabs.locator("visible=true")).to_have_count(6)
    places = [tabs.filter(has_text=name).bounding_box() for name in ("Generate", "Compare", "Cache", "Numbers")]
    assert sorted(places, key=lambda box: (box["y"], box["x"])) == places
    tabs.filter(has_text="Numbers").click()
    expect(page.locator("#part-numbers-number")).to_contain_text("follows 9")
    page.keyboard.press("1")
    expect(page.locator("#prompt textarea")).to_be_visible()


def test_light_and_dark_stay_as_they_were_chosen(page):
    page.click("#c-theme")
    expect(page.locator("body")).to_have_class(re.compile("dark"))
    page.reload(wait_until="domcontentloaded")
    expect(page.locator("#c-theme")).to_have_text("Light")
    expect(page.locator("body")).to_have_class(re.compile("dark"))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_has_a_serious_finding_of_axe_and_none_is_wider_than_its_window(page, site, theme):
    from axe_playwright_python.sync_playwright import Axe

    made(site, FIRST)
    group = compare_arms(site.studio, GenerationRequest(SECOND, num_inference_steps=2, fast_steps=2))
    for job in site.studio.jobs.group(group):
        site.studio.jobs.wait(job.id, 120)
    if theme == "dark":
        page.click("#c-theme")
    page.fill("#prompt textarea", SECOND)
    expect(page.locator("#plan .c-candidate").first).to_be_visible()
    for name in ("Generate", "Compare", "Cache", "Gallery", "System", "Numbers"):
        go(page, name)
        expect(page.locator(".c-part:visible").first).not_to_contain_text("Loading.")
        if name == "Compare":
            expect(page.locator("#part-compare-donors .c-candidate").first).to_be_visible()
        found = Axe().run(page).response["violations"]
        serious = [
            f"{name}: {each['id']}: {node['html'][:120]} {node['failureSummary'][:300]}"
            for each in found
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]
        assert serious == []
        for width in (360, 768, 1280, 2560):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} at {width}"
        page.set_viewport_size({"width": 1280, "height": 900})
