"use strict";
// The browser of examples: filters, a list in pages, one row with its original. Its state is the page's address (#…), so
// every view has a link.

const AT_ONCE = 20;
const ENDS = { kept: "kept", dropped: "dropped", failed: "failed" };

function browser(runs, { originals, rows }, counted) {
  const key = (row) => (runs.length > 1 ? `${row.run}:${row.id}` : row.id);
  const names = originals.map((original) => original.name.toLowerCase());
  let found = rows;
  let chosen = 0; // place in `found`

  const fields = {
    run: runs.length > 1 ? select("run", "Run", runs) : null,
    end: select("end", "How it ended", ends(rows)),
    score: select("score", "Score", [...new Set(rows.map((row) => row.score).filter((s) => s != null))].sort()),
    genre: input("genre", "Genre has"),
    audience: input("audience", "Audience has"),
    source: input("source", "Source has"),
    text: input("text", "Text has"),
  };
  const present = Object.entries(fields).filter(([, field]) => field);
  const form = h("form", { role: "search", "aria-label": "Filter examples" }, present.map(([, field]) => field.whole),
    h("button", { type: "reset" }, "Clear"));
  const status = h("p", { role: "status" });
  const list = h("ol", {});
  const back = h("button", { type: "button", onclick: () => turn(-1) }, "Previous page");
  const on = h("button", { type: "button", onclick: () => turn(1) }, "Next page");
  const shown = h("article", { "aria-label": "Example", tabindex: "-1" });
  const nav = h("nav", { "aria-label": "Examples" }, list, h("div", { class: "pager" }, back, on));
  const panes = h("div", { class: "browser" }, nav, shown);

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => { filter(); choose(0); });
  form.addEventListener("reset", () => setTimeout(() => { filter(); choose(0); }));
  panes.addEventListener("keydown", keys);
  window.addEventListener("hashchange", () => { if (fromAddress()) element.scrollIntoView(); });

  function filter() {
    const value = Object.fromEntries(present.map(([name, { field }]) => [name, field.value]));
    const has = (text, part) => !part || (text ?? "").toLowerCase().includes(part.toLowerCase());
    found = rows.filter((row) =>
      (!value.run || runs[row.run] === value.run) &&
      (!value.end || (value.end in ENDS ? row.status === value.end : row.reason === value.end)) &&
      (!value.score || String(row.score) === value.score) &&
      (!value.source || names[row.original].includes(value.source.toLowerCase())) &&
      has(row.genre, value.genre) && has(row.audience, value.audience) &&
      has(value.text && wordsOf(row.text), value.text));
  }

  /** Show row `at` of those found, its page of the list, and put both into the address. */
  function choose(at, quiet = false) {
    chosen = Math.max(0, Math.min(at, found.length - 1));
    const row = found[chosen];
    const first = chosen - (chosen % AT_ONCE);
    const page = found.slice(first, first + AT_ONCE);
    list.start = first + 1;
    list.replaceChildren(...page.map((row, i) => h("li", {}, entry(row, first + i === chosen))));
    back.disabled = first === 0;
    on.disabled = first + AT_ONCE >= found.length;
    status.textContent = found.length
      ? `${NUMBER.format(found.length)} of ${NUMBER.format(rows.length)} examples; ${first + 1} to ${first + page.length} listed`
      : "No example is like this.";
    shown.replaceChildren(...(row ? example(row) : []));
    if (!quiet) history.replaceState(null, "", address(row));
  }

  function address(row) {
    const state = new URLSearchParams();
    for (const [name, { field }] of present) if (field.value) state.set(name, field.value);
    if (row) state.set("row", key(row));
    return `#${state}`;
  }

  /** Read filters and row from the address; false when it holds none. */
  function fromAddress() {
    const hash = location.hash.slice(1);
    if (!hash.includes("=")) return false;
    const state = new URLSearchParams(hash);
    for (const [name, { field }] of present) field.value = state.get(name) ?? "";
    filter();
    const at = found.findIndex((row) => key(row) === state.get("row"));
    choose(at, true);
    return true;
  }

  function entry(row, current) {
    const how = row.status === "kept" ? (row.score == null ? "kept" : `score ${row.score}`) : (row.reason ?? row.status);
    return h("a", { href: address(row), "aria-current": current ? "true" : null, class: row.status,
      onclick: (event) => { event.preventDefault(); choose(found.indexOf(row)); focusChosen(); } },
      h("span", { class: "how" }, how),
      h("bdi", { dir: "auto" }, row.genre ?? short(wordsOf(row.text), 90) ?? ""),
      h("small", {}, h("bdi", {}, originals[row.original].name), runs.length > 1 ? [" · ", h("bdi", {}, runs[row.run])] : null));
  }

  function focusChosen() {
    list.querySelector("[aria-current]")?.focus({ preventScroll: false });
  }

  function turn(pages) {
    choose((Math.floor(chosen / AT_ONCE) + pages) * AT_ONCE);
  }

  /** Up and down in the list; j and k, n and p in the list and the example. */
  function keys(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const inList = list.contains(event.target);
    const step = { j: 1, k: -1, ...(inList ? { ArrowDown: 1, ArrowUp: -1, Home: -found.length, End: found.length } : {}) };
    if (event.key in step) choose(chosen + step[event.key]);
    else if (event.key === "n" || event.key === "p") turn(event.key === "n" ? 1 : -1);
    else return;
    event.preventDefault();
    focusChosen();
  }

  function example(row) {
    const original = originals[row.original];
    const shared = new Set(row.shared);
    const fact = (name, ...value) => [h("dt", {}, name), h("dd", { dir: "auto" }, ...value)];
    const facts = [
      row.status === "kept" ? null : fact(row.status, h("strong", {}, row.reason ?? ""), row.detail ? `: ${row.detail}` : ""),
      row.genre ? fact("genre", row.genre) : null,
      row.audience ? fact("audience", row.audience) : null,
      row.score == null ? null : fact("score", h("strong", {}, String(row.score)),
        row.expected == null ? "" : ` (expected ${row.expected.toFixed(2)})`, row.score_reason ? `: ${row.score_reason}` : ""),
      fact("length", `${row.tokens == null ? "" : `${NUMBER.format(row.tokens)} tokens, `}${NUMBER.format(row.length)} characters` +
        (original.length ? `, ${(row.length / original.length).toFixed(2)} × the document` : "")),
      original.stems.length ? fact("keywords", `${shared.size} of the document's ${original.stems.length}`) : null,
      row.stripped_prefix ? fact("cut before", row.stripped_prefix) : null,
      row.stripped_suffix ? fact("cut after", row.stripped_suffix) : null,
    ];
    const title = h("h3", {}, h("bdi", {}, original.name || row.id), runs.length > 1 ? [" · ", h("bdi", {}, runs[row.run])] : null,
      " ", h("a", { href: address(row), class: "link" }, "link to this view"));
    return [title, h("dl", { class: "facts" }, facts.flat(2)), h("div", { class: "texts" },
      original.text.length ? text("Original", original, shared) : null,
      text(row.status === "kept" ? "Reformulation" : "What was written", row, shared))];
  }

  function text(name, { text, more }, shared) {
    const body = h("div", { class: "text", dir: "auto", tabindex: "0", role: "region", "aria-label": name }, marked(text, shared));
    if (more) body.append(h("p", { class: "more" }, `… ${NUMBER.format(more)} more characters are not shown.`));
    return h("div", {}, h("h4", {}, name), text.length ? body : h("p", { class: "more" }, "(no text)"));
  }

  const element = h("section", { id: "examples", "aria-labelledby": "examples-title" },
    h("h2", { id: "examples-title" }, "Examples"),
    h("p", {}, counted),
    h("p", { class: "key" }, h("mark", {}, "Marked"), " are the document's keywords that both texts have, ",
      h("mark", { class: "missing" }, "dotted"), " those that the reformulation lacks. Keys in the list: ↓ ↑ or j k for the next and " +
      "the last row, n p for pages."),
    form, status, panes);
  if (!fromAddress()) { filter(); choose(0, true); }
  else setTimeout(() => element.scrollIntoView());
  return element;
}

/** A text from its pieces: a string is text, and the string behind a number is that keyword of the original. */
function marked(pieces, shared) {
  const nodes = [];
  for (let at = 0; at < pieces.length; at += 1) {
    if (typeof pieces[at] === "string") nodes.push(pieces[at]);
    else nodes.push(h("mark", { class: shared.has(pieces[at]) ? null : "missing" }, pieces[(at += 1)]));
  }
  return nodes;
}

function wordsOf(pieces) {
  return pieces.filter((piece) => typeof piece === "string").join("");
}

function ends(rows) {
  const reasons = [...new Set(rows.filter((row) => row.reason).map((row) => row.reason))].sort();
  const statuses = Object.keys(ENDS).filter((status) => rows.some((row) => row.status === status));
  return [...statuses, ...reasons];
}

function select(name, label, values) {
  const field = h("select", { name }, h("option", { value: "" }, "any"), values.map((value) => h("option", {}, String(value))));
  return { field, whole: h("label", {}, label, field) };
}

function input(name, label) {
  const field = h("input", { name, type: "search", autocomplete: "off" });
  return { field, whole: h("label", {}, label, field) };
}
