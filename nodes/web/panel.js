// The side panel: the cache's figures and its entries. Texts go in as text, never as HTML: prompts are other people's words.

const PAGE = 30;
const SEARCH_PAUSE_MS = 300;

const STYLE = `
.chai-panel { display: flex; flex-direction: column; gap: 10px; height: 100%; padding: 12px; box-sizing: border-box; container-type: inline-size;
  color: var(--fg-color, var(--input-text, #ddd)); font-size: 13px; overflow: hidden; }
.chai-panel h3 { margin: 0; font-size: 15px; font-weight: 600; }
.chai-panel .soft { color: var(--descrip-text, #999); }
.chai-panel .row { display: flex; gap: 8px; align-items: center; }
.chai-panel .spread { justify-content: space-between; flex-wrap: wrap; gap: 6px 8px; }
.chai-panel input, .chai-panel select { background: var(--comfy-input-bg, #222); color: var(--input-text, #ddd);
  border: 1px solid var(--border-color, #444); border-radius: 6px; padding: 6px 8px; font: inherit; min-width: 0; }
.chai-panel input[type=search] { flex: 1; }
.chai-panel input[type=number] { width: 64px; box-sizing: border-box; }
.chai-panel button { background: var(--comfy-input-bg, #222); color: var(--input-text, #ddd); cursor: pointer;
  border: 1px solid var(--border-color, #444); border-radius: 6px; padding: 2px 7px; font: inherit; font-size: 12px; }
.chai-panel button:hover { filter: brightness(1.25); }
.chai-panel button.on { border-color: #f0b850; color: #f0b850; }
.chai-panel button.danger { border-color: #d8584f; color: #e88a83; }
.chai-panel :focus-visible { outline: 2px solid #5c94f0; outline-offset: 1px; }
.chai-gauge { height: 8px; border-radius: 4px; background: var(--comfy-input-bg, #222); overflow: hidden; }
.chai-gauge > div { height: 100%; background: #5c94f0; border-radius: 4px; }
.chai-figures { display: flex; flex-wrap: wrap; gap: 6px; }
.chai-figures > div { background: var(--comfy-input-bg, #222); border-radius: 6px; padding: 6px 8px; flex: 1 1 auto; }
.chai-figures b { display: block; font-size: 17px; font-weight: 600; white-space: nowrap; }
.chai-list { flex: 1; overflow-y: auto; display: flex; flex-direction: column; gap: 8px; padding-right: 4px; }
.chai-entry { display: flex; gap: 10px; background: var(--comfy-input-bg, #222); border-radius: 8px; padding: 8px; }
.chai-entry img, .chai-entry .none { width: 72px; height: 72px; object-fit: cover; border-radius: 6px; flex: none;
  background: #0004; image-rendering: auto; }
.chai-entry .body { flex: 1; min-width: 0; display: flex; flex-direction: column; gap: 4px; }
.chai-entry .prompt { overflow-wrap: anywhere; line-height: 1.3; }
.chai-entry .chips { display: flex; flex-wrap: wrap; gap: 4px; }
.chai-entry .chip { border-radius: 10px; padding: 0 7px; font-size: 11px; line-height: 18px; background: #5c94f033; }
.chai-entry .chip.scene { background: #5ec89633; }
.chai-entry .acts { flex-wrap: wrap; gap: 4px; margin-top: 2px; }
@container (max-width: 250px) {
  .chai-entry { flex-direction: column; }
  .chai-entry img { width: 100%; height: auto; max-height: 150px; }
  .chai-entry .none { width: 100%; }
}
`;

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function size(count) {
  let amount = count;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (amount < 999.5 || unit === "GB") return `${amount < 9.95 && unit !== "B" ? amount.toFixed(1) : Math.round(amount)} ${unit}`;
    amount /= 1000;
  }
}

export class Panel {
  constructor(api, { useAsDonor, toast }) {
    this.api = api;
    this.useAsDonor = useAsDonor;
    this.toast = toast;
    this.search = "";
    this.shown = PAGE;
    this.cache = null;
    this.root = null;
    this.turn = 0;
  }

  show(element) {
    this.root = make("div", { class: "chai-panel" });
    const box = make("input", {
      type: "search", placeholder: "a thing, a place, words of a prompt", value: this.search,
      "aria-label": "Search the cache", maxLength: 300,
    });
    box.addEventListener("input", () => {
      clearTimeout(this.pause);
      this.pause = setTimeout(() => {
        this.search = box.value;
        this.shown = PAGE;
        this.refresh();
      }, SEARCH_PAUSE_MS);
    });
    this.caches = make("select", { "aria-label": "Cache", hidden: true, onchange: () => {
      this.cache = this.caches.value;
      this.refresh();
    } });
    this.figures = make("div");
    this.list = make("div", { class: "chai-list", "aria-live": "polite" });
    this.root.append(
      make("style", { textContent: STYLE }),
      make("div", { class: "row spread" }, make("h3", { textContent: "CHAI cache" }), this.caches),
      this.figures,
      make("div", { class: "row" }, box),
      this.list,
    );
    element.replaceChildren(this.root);
    this.refresh();
  }

  hide() {
    this.root = null;
  }

  async ask(path, options = {}) {
    const query = new URLSearchParams(options.query ?? {});
    if (this.cache) query.set("cache", this.cache);
    const request = { method: options.method ?? "GET" };
    if (options.body) {
      request.headers = { "Content-Type": "application/json" };
      request.body = JSON.stringify(options.body);
    }
    const response = await this.api.fetchApi(`/chai/${path}?${query}`, request);
    const values = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(values.error ?? `The server answered ${response.status}.`);
    return values;
  }

  async act(work) {
    try {
      await work();
    } catch (error) {
      this.toast?.({ severity: "error", summary: "CHAI", detail: error.message, life: 6000 });
    }
    await this.refresh();
  }

  async refresh() {
    if (!this.root) return;
    const turn = ++this.turn;
    try {
      const { caches } = await this.ask("caches");
      const { entries, total, stats } = await this.ask("entries", { query: { search: this.search, limit: this.shown } });
      if (turn !== this.turn || !this.root) return;
      this.drawCaches(caches);
      this.drawFigures(stats);
      this.drawEntries(entries, total);
    } catch (error) {
      if (turn === this.turn) this.list?.replaceChildren(make("div", { class: "soft", textContent: error.message }));
    }
  }

  drawCaches(caches) {
    this.caches.hidden = caches.length < 2;
    this.caches.replaceChildren(...caches.map(({ key, is_default }) => make("option", {
      value: key, textContent: is_default ? "usual cache" : `cache ${key.slice(0, 6)}`,
      selected: key === this.cache || (!this.cache && is_default),
    })));
  }

  drawFigures(stats) {
    const used = stats.budget_bytes ? Math.min(1, stats.bytes / stats.budget_bytes) : 1;
    const rate = stats.hit_rate === null ? "none yet" : `${Math.round(100 * stats.hit_rate)} %`;
    const figure = (value, words) => make("div", {}, make("b", { textContent: value }), make("span", { class: "soft", textContent: words }));
    const budget = make("input", {
      type: "number", min: 0, step: 0.1, value: (stats.budget_bytes / 1e9).toFixed(1), "aria-label": "Budget in GB",
    });
    budget.addEventListener("change", () => {
      const bytes = Math.round(Number(budget.value) * 1e9);
      if (bytes < stats.bytes && !confirm(`${size(stats.bytes)} are in use: entries will leave until ${size(bytes)} hold the rest. Go on?`)) {
        this.refresh();
        return;
      }
      this.act(() => this.ask("budget", { method: "POST", body: { budget_bytes: bytes } }));
    });
    this.figures.replaceChildren(
      make("div", { class: "chai-figures" },
        figure(rate, "hit rate"), figure(String(stats.hits), stats.hits === 1 ? "hit" : "hits"),
        figure(String(stats.entries), `${stats.entries === 1 ? "entry" : "entries"}, ${stats.pinned} pinned`)),
      make("div", { class: "row spread", style: "margin-top: 8px" },
        make("span", { class: "soft", textContent: `${size(stats.bytes)} used, ${stats.policy.toUpperCase()}` }),
        make("label", { class: "row soft" }, "budget", budget, "GB")),
      make("div", { class: "chai-gauge", style: "margin-top: 6px", title: `${(100 * used).toFixed(1)} % of the budget` },
        make("div", { style: `width: ${Math.max(used ? 1 : 0, 100 * used)}%` })),
    );
  }

  drawEntries(entries, total) {
    if (!entries.length) {
      const words = this.search ? "Nothing like this is here." : "Nothing is here yet: the first video leaves its latents here, and the next one that shows the same thing or place needs fewer steps.";
      this.list.replaceChildren(make("div", { class: "soft", textContent: words }));
      return;
    }
    const drawn = entries.map((entry) => this.entry(entry));
    if (entries.length < total) {
      drawn.push(make("button", { textContent: `more (${entries.length} of ${total})`, onclick: () => {
        this.shown = Math.min(200, this.shown + PAGE);
        this.refresh();
      } }));
    }
    this.list.replaceChildren(...drawn);
  }

  entry(entry) {
    const query = this.cache ? `?cache=${this.cache}` : "";
    const picture = entry.has_preview
      ? make("img", { src: this.api.apiURL(`/chai/entries/${entry.id}/preview${query}`), alt: "", loading: "lazy" })
      : make("div", { class: "none" });
    const chips = entry.phrases.map(({ kind, text }) => make("span", { class: `chip ${kind}`, textContent: text, title: kind }));
    const facts = [`${entry.hits} ${entry.hits === 1 ? "hit" : "hits"}`, `${entry.width}x${entry.height}, ${entry.num_frames} frames`, size(entry.bytes)];
    if (entry.score !== null) facts.unshift(`${entry.score.toFixed(2)} ${entry.is_match ? "match" : "alike"}`);
    const pin = make("button", {
      class: entry.is_pinned ? "on" : "", textContent: entry.is_pinned ? "pinned" : "pin",
      title: entry.is_pinned ? "Let it leave again" : "Keep it from leaving when room is needed", "aria-pressed": String(entry.is_pinned),
      onclick: () => this.act(() => this.ask(`entries/${entry.id}/pin`, { method: "POST", body: { pinned: !entry.is_pinned } })),
    });
    const donor = make("button", {
      textContent: "as donor", title: "Write its id into the Donor Picker of this graph",
      onclick: () => {
        const count = this.useAsDonor(entry.id);
        const detail = count ? `#${entry.id.slice(0, 8)} is in the Donor Picker.` : "Add a CHAI Donor Picker to the graph first.";
        this.toast?.({ severity: count ? "success" : "warn", summary: "CHAI", detail, life: 4000 });
      },
    });
    const gone = make("button", { textContent: "delete" });
    gone.addEventListener("click", () => {
      if (!gone.classList.contains("danger")) {
        gone.classList.add("danger");
        gone.textContent = "really delete";
        return;
      }
      this.act(() => this.ask(`entries/${entry.id}`, { method: "DELETE" }));
    });
    gone.addEventListener("blur", () => {
      gone.classList.remove("danger");
      gone.textContent = "delete";
    });
    return make("div", { class: "chai-entry" }, picture,
      make("div", { class: "body" },
        make("div", { class: "prompt", textContent: entry.prompt }),
        chips.length ? make("div", { class: "chips" }, ...chips) : null,
        make("div", { class: "soft", textContent: facts.join(" · "), title: `#${entry.id}, seed ${entry.seed}` }),
        make("div", { class: "row acts" }, pin, donor, gone)));
  }
}
