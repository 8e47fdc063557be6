"use strict";
// Blocks (blocks.py) to elements. Whatever documents and models have written is set as text, never as markup.

const NUMBER = new Intl.NumberFormat("en", { maximumFractionDigits: 3 });

/** An element with attributes and children; strings among the children become text. */
function h(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === false || value == null) continue;
    if (key === "href" && !value.startsWith("#")) throw new Error("links stay in the page");
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child != null));
  return element;
}

function section({ id, title, blocks }) {
  return h("section", { id, "aria-labelledby": `${id}-title` }, h("h2", { id: `${id}-title` }, title), blocks.map(block));
}

function block(given) {
  return BLOCKS[given.kind](given);
}

const BLOCKS = {
  prose: ({ text }) => h("p", {}, text),
  code: ({ text }) => h("pre", { tabindex: "0" }, text),
  folded: ({ summary, blocks }) => h("details", {}, h("summary", {}, summary), blocks.map(block)),
  tiles,
  table,
  bars: (given) => chart(given, drawBars, barsTable(given)),
  histogram: (given) => chart(given, drawHistogram, histogramTable(given)),
  points: (given) => chart(given, drawPoints, pointsTable(given)),
  lines: (given) => chart(given, drawLines, linesTable(given)),
  intervals: (given) => chart(given, drawIntervals, intervalsTable(given)),
  marked,
};

function tiles({ caption, figures }) {
  const tile = ([what, figure, remark]) =>
    h("div", {}, h("dt", {}, what), h("dd", {}, h("strong", {}, figure), h("span", {}, remark)));
  return h("div", { class: "tiles" }, h("h3", {}, h("bdi", {}, caption)), h("dl", {}, figures.map(tile)));
}

const named = new Map();

/** A name for a part of the page that no other part has. */
function unique(name) {
  named.set(name, (named.get(name) ?? 0) + 1);
  return named.get(name) > 1 ? `${name} (${named.get(name)})` : name;
}

const MARKS = ["much-worse", "worse", "better", "here"];

function marked({ caption, note, pieces }) {
  const piece = ([text, mark]) => (MARKS.includes(mark) ? h("mark", { class: mark }, text) : text);
  return h("div", { class: "marked" }, h("h3", {}, h("bdi", {}, caption)), h("p", { class: "key" }, note),
    h("div", { class: "text", dir: "auto", tabindex: "0", role: "region", "aria-label": unique(caption) }, pieces.map(piece)));
}

function table({ caption, columns, rows }) {
  const side = (at) => (rows.some((row) => typeof row[at] === "number" || row[at]?.words) ? "number" : null);
  const head = columns.map((name, at) => (name ? h("th", { scope: "col", class: side(at) }, h("bdi", {}, name)) : h("td", {})));
  const body = rows.map((row) => h("tr", {}, row.map((value, at) => (at === 0 ? rowName(value) : cell(value, side(at))))));
  return h(
    "div",
    { class: columns.length > 4 ? "wide broad" : "wide", role: "region", "aria-label": unique(caption || "table"), tabindex: "0" },
    h("table", {}, caption ? h("caption", {}, caption) : null, h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)),
  );
}

function rowName(value) {
  const { label, level = 0, to } = typeof value === "object" && value !== null ? value : { label: String(value) };
  const words = h("bdi", {}, label);
  return h("th", { scope: "row", class: `level-${level}` }, to ? h("a", { href: to }, words) : words);
}

function cell(value, side) {
  if (value === null) return h("td", { class: "none" });
  if (typeof value === "number") return h("td", { class: "number" }, NUMBER.format(value));
  if (typeof value === "string") return h("td", { class: value.length > 24 ? "words" : side }, h("bdi", {}, value));
  if ("share" in value) {
    const bar = h("span", { class: "bar" });
    bar.style.setProperty("--share", value.share);
    return h("td", { class: "share" }, h("span", {}, value.words), bar);
  }
  return h("td", {}, value.to ? h("a", { href: value.to }, value.label) : h("bdi", {}, value.label));
}

function barsTable({ caption, series, labels, values, counts }) {
  const rows = labels.map((label, at) => [
    label,
    ...series.map((_, of) => ({ share: values[of][at], words: `${NUMBER.format(counts[of][at])} (${percent(values[of][at])})` })),
  ]);
  return { kind: "table", caption, columns: ["", ...series], rows };
}

function histogramTable({ caption, unit, series, edges, counts, beyond, medians, expected }) {
  const chance = series.flatMap((name, of) => (expected[of] ? [{ name: `${name}: by chance, 95%`, ...expected[of] }] : []));
  const between = ({ low, high }, at) => `${percent(low[at])} to ${percent(high[at])}`;
  const rows = edges.slice(1).map((end, at) => [
    `${NUMBER.format(edges[at])} to ${NUMBER.format(end)} ${unit}`,
    ...series.map((_, of) => counts[of][at]),
    ...chance.map((band) => between(band, at)),
  ]);
  const none = chance.map(() => null);
  if (beyond.some((n) => n)) rows.push([`more than ${NUMBER.format(edges.at(-1))} ${unit}`, ...beyond, ...none]);
  if (medians.some((value) => value !== null)) rows.push(["median", ...medians, ...none]);
  return { kind: "table", caption, columns: ["", ...series, ...chance.map(({ name }) => name)], rows };
}

function pointsTable({ caption, series, of }) {
  const rows = series.map((name, at) => [name, of.filter((number) => number === at).length]);
  return { kind: "table", caption, columns: ["", "points"], rows };
}

function linesTable({ caption, x_name, series, x, y }) {
  const places = [...new Set(x.flat())].sort((a, b) => a - b);
  const rows = places.map((place) => [NUMBER.format(place), ...series.map((_, of) => estimate(y[of], x[of].indexOf(place)))]);
  return { kind: "table", caption, columns: [x_name, ...series], rows };
}

function intervalsTable({ caption, series, labels, values }) {
  const rows = labels.map((label, at) => [label, ...series.map((_, of) => estimate(values[of], at))]);
  return { kind: "table", caption, columns: ["", ...series], rows };
}

/** A value with its interval in words; null where there is none. */
function estimate({ low, middle, high }, at) {
  if ((middle[at] ?? null) === null) return null;
  const between = (low[at] ?? null) === null ? "" : ` (${NUMBER.format(low[at])} to ${NUMBER.format(high[at])})`;
  return `${NUMBER.format(middle[at])}${between}`;
}

function percent(share) {
  return `${(100 * share).toFixed(1)}%`;
}
