"use strict";
// Charts by Observable Plot, drawn again when their width changes. A table under each holds the same figures.

const PANEL = 260; // pixels a panel needs to stand beside others
const PAPER = 680; // pixels a printed page is wide
const SYMBOLS = ["circle", "triangle", "square", "cross", "diamond2", "star", "wye", "times"];

function chart(given, draw, figures) {
  const place = h("div", { class: "chart" });
  const caption = h("figcaption", {}, given.caption);
  let drawn = 0;
  const redraw = (width) => {
    if (width < 40 || Math.abs(width - drawn) < 2) return;
    drawn = width;
    const svg = draw(given, width);
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `${given.caption}. The figures are in the table that follows.`);
    // Within an image nothing else has a name; Plot names its groups, which have no role.
    svg.querySelectorAll("[aria-label]").forEach((part) => part.removeAttribute("aria-label"));
    place.replaceChildren(svg);
  };
  new ResizeObserver(([{ contentRect }]) => redraw(Math.round(contentRect.width))).observe(place);
  window.addEventListener("beforeprint", () => redraw(PAPER));
  window.addEventListener("afterprint", () => redraw(place.clientWidth));
  const coloured = given.kind === "lines" || given.kind === "points";
  const legend = coloured && given.series.length > 1 ? pointsLegend(given.series) : null;
  return h("figure", {}, caption, legend, place, h("details", {}, h("summary", {}, "The figures"), table(figures)));
}

/** Panels beside each other where there is room, else under each other. */
function panels(series, width) {
  if (series.length < 2) return null;
  return width / series.length >= PANEL ? "fx" : "fy";
}

/** What all charts with panels share: the option that divides rows, the panels' scale, and their names. */
function divided(series, width) {
  const panel = panels(series, width);
  if (!panel) return { facet: {}, options: {}, names: [], tall: 1 };
  const clipped = series.map((name) => short(name, 24));
  const domain = new Set(clipped).size < series.length ? clipped.map((name, at) => `${at + 1}. ${name}`) : clipped;
  return {
    facet: { [panel]: "panel" },
    options: { [panel]: { domain, axis: null, padding: panel === "fx" ? 0.08 : 0.3 } },
    names: [Plot.text(domain, { [panel]: (name) => name, text: (name) => name, frameAnchor: "top-left", dy: -20,
      fill: "currentColor", fontWeight: 600 })],
    tall: panel === "fy" ? series.length : 1,
    of: (at) => domain[at],
  };
}

function short(text, most) {
  const letters = Array.from(text);
  return letters.length > most ? `${letters.slice(0, most - 1).join("")}…` : text;
}

function drawBars({ series, labels, values, counts, upright }, width) {
  const { facet, options, names, tall, of: panel } = divided(series, width);
  const rows = series.flatMap((_, of) =>
    labels.map((label, at) => ({ panel: panel?.(of), label, share: 100 * values[of][at], count: counts[of][at] })),
  );
  const title = (row) => `${row.label}: ${NUMBER.format(row.count)} (${row.share.toFixed(1)}%)`;
  const bar = { ...facet, fill: "var(--accent)", title };
  const number = { ...facet, text: (row) => `${row.share.toFixed(row.share < 10 ? 1 : 0)}%`, fill: "currentColor" };
  const common = { width, marginTop: 30, style: { background: "none", fontSize: "12px" }, ...options };
  if (upright) {
    return Plot.plot({
      ...common,
      height: 40 + 200 * tall,
      x: { domain: labels, label: null, padding: 0.25, tickSize: 0 },
      y: { label: null, ticks: 4, tickFormat: (y) => `${y}%`, insetTop: 16 },
      marks: [Plot.gridY({ ticks: 4 }), Plot.barY(rows, { ...bar, x: "label", y: "share" }),
        Plot.text(rows, { ...number, x: "label", y: "share", dy: -8 }), Plot.ruleY([0]), ...names],
    });
  }
  return Plot.plot({
    ...common,
    height: 40 + (24 * labels.length + 20) * tall,
    marginLeft: 12 + 6.8 * Math.max(...labels.map((label) => label.length)),
    marginRight: 10,
    x: { axis: null, insetRight: 44 },
    y: { domain: labels, label: null, padding: 0.25, tickSize: 0 },
    marks: [Plot.barX(rows, { ...bar, y: "label", x: "share" }),
      Plot.text(rows, { ...number, y: "label", x: "share", dx: 6, textAnchor: "start" }), Plot.ruleX([0]), ...names],
  });
}

function drawHistogram({ unit, series, edges, counts, beyond, medians, expected }, width) {
  const { facet, options, names, tall, of: panel } = divided(series, width);
  const totals = counts.map((bins, of) => bins.reduce((sum, n) => sum + n, 0) + beyond[of] || 1);
  const rows = counts.flatMap((bins, of) =>
    bins.map((n, at) => ({ panel: panel?.(of), from: edges[at], to: edges[at + 1], share: (100 * n) / totals[of], n })),
  );
  const chance = expected.flatMap((band, of) =>
    band ? band.low.map((low, at) => ({ panel: panel?.(of), from: edges[at], to: edges[at + 1],
      low: 100 * low, middle: 100 * band.middle[at], high: 100 * band.high[at] })) : [],
  );
  const middles = medians.flatMap((value, of) => (value === null ? [] : [{ panel: panel?.(of), value }]));
  const far = (row) => row.value > 0.7 * edges.at(-1);
  const middle = { ...facet, x: "value", text: (row) => `median ${NUMBER.format(row.value)}`, frameAnchor: "top", dy: 2,
    fill: "currentColor" };
  return Plot.plot({
    width,
    height: 50 + 200 * tall,
    marginTop: 30,
    style: { background: "none", fontSize: "12px" },
    ...options,
    x: { label: unit, ticks: 5 },
    y: { label: null, ticks: 4, tickFormat: (y) => `${y}%`, insetTop: 20 },
    marks: [
      Plot.gridY({ ticks: 4 }),
      Plot.rectY(rows, { ...facet, x1: "from", x2: "to", y: "share", fill: "var(--accent)", inset: 0.5,
        title: (row) => `${NUMBER.format(row.from)} to ${NUMBER.format(row.to)}: ${NUMBER.format(row.n)}` }),
      Plot.rectY(chance, { ...facet, x1: "from", x2: "to", y1: "low", y2: "high", fill: "currentColor", fillOpacity: 0.22 }),
      Plot.ruleY(chance, { ...facet, x1: "from", x2: "to", y: "middle", stroke: "currentColor" }),
      Plot.ruleX(middles, { ...facet, x: "value", stroke: "currentColor", strokeDasharray: "4 3" }),
      Plot.text(middles.filter(far), { ...middle, textAnchor: "end", dx: -5 }),
      Plot.text(middles.filter((row) => !far(row)), { ...middle, textAnchor: "start", dx: 5 }),
      Plot.ruleY([0]),
      ...names,
    ],
  });
}

function drawPoints({ series, of, x, y, labels, x_name, y_name, diagonal }, width) {
  const rows = of.map((number, at) => ({ number, x: x[at], y: y[at], label: `${series[number]}: ${labels[at]}` }));
  const marks = series.map((_, number) =>
    Plot.dot(rows.filter((row) => row.number === number), {
      x: "x", y: "y", r: 3.5, symbol: SYMBOLS[number % SYMBOLS.length], title: "label",
      stroke: `var(--series-${number % 8})`, strokeWidth: 1.5, fill: `var(--series-${number % 8})`, fillOpacity: 0.35,
    }),
  );
  return Plot.plot({
    width,
    height: Math.min(width, x_name ? 440 : 620),
    ...(x_name ? { marginTop: 30, marginLeft: 45, marginBottom: 40 } : { margin: 10 }),
    style: { background: "none", fontSize: "12px" },
    x: x_name ? { label: x_name, ticks: 5, nice: true } : { axis: null },
    y: y_name ? { label: y_name, ticks: 5, nice: true, grid: true } : { axis: null },
    marks: diagonal ? [diagonalOf([...x, ...y]), ...marks] : marks,
  });
}

/** The line x = y as far as these values go. */
function diagonalOf(values) {
  const ends = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
  return Plot.line(ends, { x: (value) => value, y: (value) => value, stroke: "currentColor", strokeDasharray: "4 3" });
}

function drawLines({ x_name, y_name, series, x, y, diagonal }, width) {
  const colour = (number) => `var(--series-${number % 8})`;
  const curves = series.map((name, of) =>
    x[of].map((place, at) => ({ x: place, y: y[of].middle[at], low: y[of].low[at], high: y[of].high[at],
      title: `${name}: ${NUMBER.format(place)}, ${estimate(y[of], at)}` })));
  const banded = (curve) => curve.filter(({ low }) => (low ?? null) !== null);
  const values = curves.flat().flatMap(({ y, low, high }) => [y, low ?? y, high ?? y]);
  const [least, most] = [values.reduce((a, b) => Math.min(a, b), Infinity), values.reduce((a, b) => Math.max(a, b), -Infinity)];
  const zero = !diagonal && least <= most - least && most >= least - most;
  return Plot.plot({
    width,
    height: Math.min(Math.max(0.75 * width, 240), 380),
    marginTop: 30,
    marginLeft: 50,
    marginBottom: 40,
    style: { background: "none", fontSize: "12px" },
    x: { label: x_name, ticks: 5, nice: true },
    y: { label: y_name, ticks: 5, nice: true, grid: true },
    marks: [
      diagonal ? diagonalOf([...values, ...x.flat()]) : null,
      zero ? Plot.ruleY([0]) : null,
      ...curves.map((curve, of) => Plot.areaY(banded(curve), { x: "x", y1: "low", y2: "high", fill: colour(of), fillOpacity: 0.18 })),
      ...curves.map((curve, of) => Plot.line(curve, { x: "x", y: "y", stroke: colour(of), strokeWidth: 2 })),
      ...curves.map((curve, of) => Plot.dot(curve, { x: "x", y: "y", r: 3.5, symbol: SYMBOLS[of % SYMBOLS.length],
        stroke: colour(of), fill: colour(of), title: "title" })),
    ],
  });
}

function drawIntervals({ unit, series, labels, values }, width) {
  const { facet, options, names, tall, of: panel } = divided(series, width);
  const rows = values.flatMap(({ low, middle, high }, of) =>
    labels.map((label, at) => ({ panel: panel?.(of), label, low: low[at], middle: middle[at], high: high[at],
      title: `${label}: ${estimate(values[of], at)}` })));
  const there = rows.filter(({ middle }) => middle !== null);
  const names_ = (label) => short(label, 24);
  return Plot.plot({
    width,
    height: 70 + (24 * labels.length + 20) * tall,
    marginTop: 30,
    marginBottom: 40,
    marginLeft: 12 + 6.8 * Math.min(Math.max(...labels.map((label) => label.length)), 24),
    style: { background: "none", fontSize: "12px" },
    ...options,
    x: { label: unit, ticks: 4, nice: true, grid: true },
    y: { domain: labels, label: null, tickFormat: names_, tickSize: 0 },
    marks: [
      Plot.ruleX([0]),
      Plot.ruleY(there.filter(({ low }) => low !== null), { ...facet, y: "label", x1: "low", x2: "high", stroke: "var(--accent)", strokeWidth: 2 }),
      Plot.dot(there, { ...facet, y: "label", x: "middle", r: 4, fill: "var(--accent)", title: "title" }),
      ...names,
    ],
  });
}

function pointsLegend(series) {
  const entry = (name, number) => {
    const mark = Plot.plot({
      width: 16, height: 16, margin: 0, axis: null, style: { background: "none" },
      marks: [Plot.dot([0], { frameAnchor: "middle", r: 5, symbol: SYMBOLS[number % SYMBOLS.length],
        stroke: `var(--series-${number % 8})`, fill: `var(--series-${number % 8})`, fillOpacity: 0.35 })],
    });
    mark.setAttribute("aria-hidden", "true");
    return h("li", {}, mark, h("bdi", {}, name));
  };
  return h("ul", { class: "legend" }, series.map(entry));
}
