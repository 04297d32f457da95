// The page's own script. It holds no state but what is being looked at; everything else is the server's.
(() => {
  "use strict";
  const POLL_MS = 700, HIDDEN_POLL_MS = 4000, TYPING_MS = 250, FILL_MS = 1500, MOST_TRIES = 12;
  const PAGES = ["generate", "compare", "cache", "gallery", "system", "numbers"];
  // job is the one that was picked; without one the page follows what runs, or shows what was made last.
  let server = null, upload = null, version = "", cacheChanges = -1, running = null, job = null, shown = null, group = null;
  let known = null, timer = null, failures = 0, page = "generate";
  const params = { cache: {}, gallery: {}, compare: {}, system: {}, numbers: {} };
  const wait = {}, turns = {};
  const at = (id) => document.getElementById(id);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Parts of the page: new HTML is woven into the old, so that what plays, is open or has the focus stays so.
  const same = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName &&
    (a.nodeType !== 1 || a.dataset.key === b.dataset.key);
  function weave(old, fresh) {
    const wanted = [...fresh.childNodes];
    for (let i = 0; i < wanted.length; i++) {
      const next = wanted[i];
      let here = old.childNodes[i];
      if (next.nodeType === 1 && next.dataset.key) {
        const kept = [...old.childNodes].slice(i).find((node) => same(node, next));
        if (kept && kept !== here) { old.insertBefore(kept, here); here = kept; }
      }
      if (!here) old.appendChild(next);
      else if (!same(here, next)) old.insertBefore(next, here);
      else if (here.nodeType === 3) { if (here.data !== next.data) here.data = next.data; }
      else if (here.nodeType === 1) { const isKept = here.dataset.keep; attributes(here, next); if (!isKept) weave(here, next); }
    }
    while (old.childNodes.length > wanted.length) old.removeChild(old.lastChild);
  }
  function attributes(here, next) {
    for (const { name } of [...here.attributes]) {
      const own = (name === "open" && here.nodeName === "DETAILS") || (name === "src" && here.dataset.moving) || name === "data-ready";
      if (!next.hasAttribute(name) && !own) here.removeAttribute(name);
    }
    for (const { name, value } of [...next.attributes]) {
      if (here.getAttribute(name) !== value) here.setAttribute(name, value);
    }
    if (here.nodeName === "VIDEO") here.muted = true;
  }
  const early = {};  // HTML for parts that Gradio has not drawn yet
  function show(html) {
    for (const [name, text] of Object.entries(html || {})) {
      const place = at(`part-${name}`);
      if (place) delete early[name]; else early[name] = text;
      if (!place || place.dataset.text === text) continue;
      const fresh = document.createElement("template");
      fresh.innerHTML = text;
      weave(place, fresh.content);
      for (const video of all("video", place)) { video.muted = true; if (video.autoplay && video.paused && !video.dataset.sync) video.play().catch(() => {}); }
      for (const scope of all("[data-scope]", place)) synchronise(scope);
      for (const picture of all("img[data-moving]", place)) freeze(picture);
    }
  }

  // Thumbnails stand still until the pointer or the focus is on them
  const stills = new Map();
  function freeze(picture) {
    const url = picture.dataset.moving;
    if (stills.has(url)) { picture.src = stills.get(url); return; }
    const moving = new Image();
    moving.onload = () => {
      const canvas = document.createElement("canvas");
      canvas.width = moving.naturalWidth; canvas.height = moving.naturalHeight;
      canvas.getContext("2d").drawImage(moving, 0, 0);
      stills.set(url, canvas.toDataURL());
      if (picture.dataset.moving === url) picture.src = stills.get(url);
    };
    moving.src = url;
  }
  const over = (plays) => (event) => {
    const picture = event.target.closest?.(".c-picture")?.querySelector("img[data-moving]");
    if (!picture) return;
    if (plays) picture.src = picture.dataset.moving;
    else if (!event.relatedTarget || !event.target.closest(".c-picture").contains(event.relatedTarget)) freeze(picture);
  };
  document.addEventListener("mouseover", over(true));
  document.addEventListener("mouseout", over(false));
  document.addEventListener("focusin", over(true));
  document.addEventListener("focusout", over(false));

  // As a popover the notes lie above an open dialog too
  function raised() {
    const place = at("c-toasts");
    if (place.matches(":popover-open")) place.hidePopover();
    place.showPopover();
    return place;
  }
  function toast(words, kind = "") {
    if (!at("c-toasts") || !words) return;
    const place = raised();
    const note = document.createElement("div");
    note.className = `c-toast ${kind}`;
    note.textContent = words;
    if (kind === "c-bad") note.setAttribute("role", "alert");
    place.appendChild(note);
    setTimeout(() => note.remove(), kind === "c-bad" ? 9000 : 4500);
  }
  function undoable(words, token) {
    const note = document.createElement("div");
    note.className = "c-toast";
    note.append(words + " ");
    const button = document.createElement("button");
    button.className = "c-button c-small"; button.textContent = "Undo"; button.id = "c-undo";
    button.onclick = () => { note.remove(); act("undo", { token }); };
    note.append(button);
    raised().append(note);
    setTimeout(() => note.remove(), 15000);
  }
  function ask(words) {
    const dialog = at("c-ask-dialog");
    at("c-ask-words").textContent = words;
    dialog.showModal();
    at("c-ask-no").focus();
    return new Promise((resolve) => {
      const end = (answer) => { dialog.onclose = null; dialog.close(); resolve(answer); };
      at("c-ask-yes").onclick = () => end(true);
      at("c-ask-no").onclick = () => end(false);
      dialog.onclose = () => resolve(false);
    });
  }

  // Asking the server
  async function act(name, args = {}) {
    let answer;
    try { answer = await server.act({ act: name, args }); }
    catch (error) { toast("The server does not answer: is the program still running?", "c-bad"); return {}; }
    if (answer.problem) toast(answer.problem, "c-bad");
    if (answer.undo) undoable(answer.toast, answer.undo); else toast(answer.toast);
    show(answer.html);
    if (answer.job) look(answer.job);
    if (answer.group) { group = answer.group; go("compare"); }
    if (answer.download) {
      const link = document.createElement("a");
      link.href = answer.download; link.download = answer.name || "";
      document.body.appendChild(link); link.click(); link.remove();
    }
    if (answer.close) at("c-entry-dialog").close();
    if (answer.refresh) refresh(page);
    poll(true);
    return answer;
  }
  function look(id) { job = id; sessionStorage.setItem("chai-job", id); }
  function follow() { job = null; sessionStorage.removeItem("chai-job"); }  // whatever runs
  async function poll(fresh = false) {
    clearTimeout(timer);
    try {
      const answer = await server.poll({ version: fresh ? "" : version, job });
      if (failures > 2) toast("Connected again.");
      failures = 0;
      if (answer.problem) toast(answer.problem, "c-bad");
      else if ("html" in answer) take(answer);
      version = answer.version || "";
    } catch (error) {
      failures += 1;
      if (failures === 3) status("failed", "no connection: the queue goes on without this page");
    }
    if (document.visibilityState === "visible" && page === "compare" && group && !(await settledGroup())) refresh("compare", { is_light: true });
    timer = setTimeout(poll, document.hidden ? HIDDEN_POLL_MS : POLL_MS);
  }
  async function settledGroup() { return !at("part-compare-result")?.querySelector("[data-unfinished]"); }
  function take(answer) {
    running = answer.running; shown = answer.job;
    status(answer.waiting ? "busy" : answer.warmth.state, answer.waiting ? `${answer.waiting} to come` : answer.warmth.words);
    document.title = answer.waiting ? `(${answer.waiting}) CHAI` : "CHAI";
    const now = new Map(answer.ended.map((each) => [each.id, each]));
    if (known) for (const [id, each] of now) if (!known.has(id)) ended(each);
    known = now;
    show(answer.html);
    if (cacheChanges !== answer.cache_changes) {
      if (cacheChanges >= 0 && (page === "cache" || page === "gallery")) refresh(page);
      if (cacheChanges >= 0) replan();
      cacheChanges = answer.cache_changes;
    }
  }
  function status(state, words) {
    const place = at("c-status");
    if (!place) return;
    place.dataset.state = state;
    place.querySelector(".c-status-words").textContent = words;
  }
  function ended(each) {
    const words = { done: "Done", failed: "Failed", cancelled: "Cancelled" }[each.state];
    if (!each.group || each.state === "failed" || page !== "compare") toast(`${words}: ${each.words.slice(0, 80)}`, each.state === "failed" ? "c-bad" : "");
    if (document.hidden && window.Notification && Notification.permission === "granted" && each.state !== "cancelled") {
      const note = new Notification(`CHAI: ${words.toLowerCase()}`, { body: each.words.slice(0, 120), tag: each.id });
      note.onclick = () => { window.focus(); look(each.id); go("generate"); poll(true); };
    }
  }

  // Pages
  const buttons = () => all("#pages button[role=tab], #pages .overflow-dropdown button");  // what has no room is in the second
  function drawn() {
    for (const field of all(".c-hidden textarea, .c-hidden input")) field.tabIndex = -1;
    for (const each of buttons()) each.style.order = PAGES.indexOf(each.textContent.trim().toLowerCase());
    for (const [name, text] of Object.entries(early)) if (at(`part-${name}`)) show({ [name]: text });
  }
  function go(name) {
    const wanted = buttons().find((each) => each.textContent.trim().toLowerCase() === name);
    if (wanted) wanted.click();
    page = name;
    history.replaceState(null, "", `#${name}`);
    refresh(name);
  }
  async function refresh(name, more = {}) {
    if (name === "generate" || !server) return;
    if (name === "compare") params.compare.group = group;
    const kind = more.is_light ? `${name}, light` : name;  // which shows less, and takes no other's turn
    const turn = turns[kind] = (turns[kind] || 0) + 1;
    let answer;
    try { answer = await server.act({ act: `view_${name}`, args: { ...params[name], ...more } }); }
    catch (error) { return; }
    if (answer.problem) toast(answer.problem, "c-bad");
    if (turn !== turns[kind]) return;  // asked again since: an older answer must not come last
    show(answer.html);
    if (answer.group) group = answer.group;
  }

  // Filling Gradio's fields from outside
  function write(id, value) {
    const field = document.querySelector(`#${id} textarea, #${id} input`);
    if (!field) return;
    const setter = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), "value").set;
    setter.call(field, value);
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }
  // One message at a time, the next when the form has taken it: two writes in a row would leave only the second.
  const toFill = [];
  let fills = 0, plans = 0, patience = null;
  function fill(message, words = "") {
    toFill.push({ message, words, n: ++fills });
    if (toFill.length === 1) fillNext();
  }
  function fillNext(tries = 0) {
    clearTimeout(patience);
    if (!toFill.length) return;
    const { message, n } = toFill[0];
    // Said again after a while: a page that is still being drawn does not hear it.
    if (tries < MOST_TRIES) write("fill-source", JSON.stringify({ ...message, n, tries }));
    else return filled(JSON.stringify({ n, problem: "The server does not answer: is the program still running?" }));
    patience = setTimeout(() => fillNext(tries + 1), FILL_MS);
  }
  function filled(text) {
    let answer;
    try { answer = JSON.parse(text); } catch (error) { return; }
    if (answer.n !== toFill[0]?.n) return;
    const { words } = toFill.shift();
    if (answer.problem) toast(answer.problem, "c-bad"); else toast(words);
    fillNext();
  }
  function replan() {
    const field = document.querySelector("#prompt textarea");
    if (field && field.value.trim()) write("replan", String(++plans));
  }
  function submitted(text) {
    let answer;
    try { answer = JSON.parse(text); } catch (error) { return; }
    if (answer.problem) toast(answer.problem, "c-bad");
    if (answer.job) { if (running) follow(); else look(answer.job); toast(answer.count > 1 ? `${answer.count} videos queued.` : "Queued."); }
    if (answer.group) { group = answer.group; go("compare"); }
    poll(true);
  }

  // Videos that play in step
  function synchronise(scope) {
    const videos = all("video[data-sync]", scope);
    const slider = scope.querySelector("[data-scrub]"), play = scope.querySelector("[data-play]");
    if (!videos.length || !slider || scope.dataset.ready === String(videos.length)) return;
    scope.dataset.ready = String(videos.length);
    const lead = () => videos[0];
    videos.forEach((video) => { video.muted = true; video.loop = true; video.controls = false; video.pause(); });
    const seek = (share) => videos.forEach((video) => { if (video.duration) video.currentTime = share * video.duration * 0.999; });
    slider.oninput = () => { videos.forEach((video) => video.pause()); play.textContent = "Play"; seek(slider.value / 1000); };
    play.onclick = () => {
      if (lead().paused) { videos.forEach((video) => { video.currentTime = lead().currentTime; video.play().catch(() => {}); }); play.textContent = "Pause"; }
      else { videos.forEach((video) => video.pause()); play.textContent = "Play"; }
    };
    const follow = () => {
      if (!document.contains(scope)) return;
      if (lead().duration && !lead().paused) {
        slider.value = Math.round(1000 * lead().currentTime / lead().duration);
        for (const video of videos.slice(1)) if (Math.abs(video.currentTime - lead().currentTime) > 0.08) video.currentTime = lead().currentTime;
      }
      requestAnimationFrame(follow);
    };
    follow();
  }

  // What people do
  document.addEventListener("click", async (event) => {
    const tab = event.target.closest("#pages .tab-wrapper button, #pages button[role=tab]");
    const chosen = tab ? tab.textContent.trim().toLowerCase() : "";
    if (event.isTrusted && PAGES.includes(chosen)) {
      page = chosen;
      history.replaceState(null, "", `#${chosen}`);
      refresh(chosen);
      return;
    }
    const el = event.target.closest("[data-act], [data-pick], [data-fill], [data-restore-job], [data-restore-item], [data-continue], [data-copy], [data-open-entry], [data-set], [data-group]");
    if (!el) return;
    const data = el.dataset;
    if (data.act) {
      if (data.confirm && !(await ask(data.confirm))) return;
      const args = JSON.parse(data.args || "{}");
      const form = el.closest("[data-form]");
      if (form) for (const input of all("[name]", form)) args[input.name] = input.type === "checkbox" ? input.checked : input.value;
      if (data.file) return pickFile(data.act, args, data.file);
      await act(data.act, args);
    } else if (data.pick) { look(data.pick); poll(true); at("part-job").scrollIntoView({ block: "nearest" }); }
    else if (data.fill) { fill({ fields: JSON.parse(data.fill) }); at("c-entry-dialog").close(); if (page !== "generate") go("generate"); }
    else if (data.restoreJob) { fill({ job: data.restoreJob }, "The form has its settings now."); focusPrompt(); }
    else if (data.restoreItem) { fill({ item: data.restoreItem }, "The form has its settings now."); go("generate"); focusPrompt(); }
    else if (data.continue) { fill({ continue: data.continue, how: data.how }, "The form goes on from this video: say what comes next."); go("generate"); focusPrompt(); }
    else if (data.copy) { await navigator.clipboard.writeText(data.copy).then(() => toast("Settings copied.")).catch(() => toast("The browser did not let them be copied.", "c-bad")); }
    else if (data.openEntry) { at("c-entry-dialog").open || at("c-entry-dialog").showModal(); act("view_entry", { id: data.openEntry }); }
    else if (data.group) { group = data.group; go("compare"); }
    else if (data.set) {
      const [where, name, value] = JSON.parse(data.set);
      params[where][name] = value;
      await refresh(where);
      if (name === "open" && value) at("part-gallery-item")?.scrollIntoView({ block: "start" });
    }
  });
  function focusPrompt() { setTimeout(() => document.querySelector("#prompt textarea")?.focus(), 150); }
  function pickFile(name, args, kinds) {
    const input = document.createElement("input");
    input.type = "file"; input.accept = kinds;
    input.onchange = async () => {
      if (!input.files.length) return;
      try { const { path } = await upload(input.files[0]); await act(name, { ...args, path }); }
      catch (error) { toast("The file was refused: it is too large, or of another kind.", "c-bad"); }
    };
    input.click();
  }
  const changed = (event) => {
    const el = event.target.closest?.("[data-param]");
    if (!el) return;
    const [where, name] = el.dataset.param.split(".");
    params[where][name] = el.type === "checkbox" ? el.checked : el.value;
    clearTimeout(wait[where]);
    wait[where] = setTimeout(() => refresh(where), event.type === "change" ? 0 : TYPING_MS);
  };
  document.addEventListener("input", changed);
  document.addEventListener("change", changed);
  // Escape first closes a list that is open; whether one was is known before the list hears of it.
  let wasListOpen = false;
  addEventListener("keydown", () => { wasListOpen = !!document.querySelector("[role=combobox][aria-expanded=true]"); }, true);
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
    const open = document.querySelector("dialog[open]");
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); if (page === "generate") document.querySelector("#generate")?.click(); }
    else if (event.key === "Escape" && !open && !wasListOpen && running) { event.preventDefault(); act("cancel", { id: running }); }
    else if (typing || open || event.ctrlKey || event.metaKey || event.altKey) return;
    else if (event.key === "?") at("c-keys-dialog").showModal();
    else if (event.key === "/") {
      event.preventDefault();
      (page === "generate" ? document.querySelector("#prompt textarea") : document.querySelector(`[data-param="${page}.words"]`))?.focus();
    } else if (event.key === "c" && shown) act("compare_job", { id: shown });
    else if (/^[1-6]$/.test(event.key)) go(PAGES[event.key - 1]);
  });

  // Files dropped anywhere but on a field that takes files
  let dragging = 0;
  const isFile = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
  const isField = (event) => event.target.closest?.("[data-testid='file-upload'], .upload-container, #settings-guide");
  addEventListener("dragenter", (event) => { if (isFile(event) && ++dragging) at("c-drop")?.classList.add("c-open"); });
  addEventListener("dragleave", () => { if (--dragging <= 0) { dragging = 0; at("c-drop")?.classList.remove("c-open"); } });
  addEventListener("dragover", (event) => { if (isFile(event) && !isField(event)) event.preventDefault(); });
  addEventListener("drop", async (event) => {
    dragging = 0; at("c-drop")?.classList.remove("c-open");
    if (!isFile(event) || isField(event)) return;
    event.preventDefault();
    await dropped(event.dataTransfer.files[0]);
  });
  async function dropped(file) {
    if (!file) return;
    if (!/\.(mp4|webm|gif|png)$/i.test(file.name)) return toast("Drop an mp4, webm, gif or png that was made here.", "c-bad");
    try {
      const { path } = await upload(file);
      const answer = await act("check_upload", { path });
      if (answer.problem) return;
      if (page !== "generate") go("generate");
      fill({ upload: path }, `Settings of ${file.name} restored.`);
    } catch (error) { toast("The file was refused: it is too large, or the server does not answer.", "c-bad"); }
  }

  // Light and dark
  function dark(on) {
    document.body.classList.toggle("dark", on);
    document.documentElement.classList.toggle("dark", on);
    const button = at("c-theme");
    if (button) { button.textContent = on ? "Light" : "Dark"; button.setAttribute("aria-pressed", String(on)); }
  }
  function header() {
    const saved = localStorage.getItem("chai-theme");
    dark(saved ? saved === "dark" : document.body.classList.contains("dark"));
    at("c-theme").onclick = () => { const on = !document.body.classList.contains("dark"); localStorage.setItem("chai-theme", on ? "dark" : "light"); dark(on); };
    at("c-help").onclick = () => at("c-keys-dialog").showModal();
    const notify = at("c-notify");
    const told = () => { notify.hidden = !window.Notification || Notification.permission !== "default"; };
    notify.onclick = async () => { await Notification.requestPermission(); told(); };
    told();
  }
  window.chai = { submitted, filled, dropped };
  window.chaiStart = (tools) => {
    server = tools.server; upload = tools.upload;
    document.documentElement.lang = "en";
    header();
    drawn();
    new MutationObserver(drawn).observe(document.body, { childList: true, subtree: true });
    job = sessionStorage.getItem("chai-job");
    const named = location.hash.slice(1);
    poll(true);
    if (PAGES.includes(named) && named !== "generate") setTimeout(() => go(named), 100);
    const kept = sessionStorage.getItem("chai-prompt");
    if (kept) fill({ fields: { prompt: kept } });
    document.addEventListener("input", (event) => { if (event.target.closest?.("#prompt")) sessionStorage.setItem("chai-prompt", event.target.value); });
    document.body.dataset.ready = "yes";
  };
})();
