"use strict";
// Builds the page from its data.

{
  const { sections, runs, examples, counted } = JSON.parse(document.getElementById("data").textContent);
  const main = document.querySelector("main");
  main.dataset.runs = runs.length;
  const toc = document.querySelector("header nav ul");
  for (const given of sections) {
    main.append(section(given));
    toc.append(h("li", {}, h("a", { href: `#${given.id}` }, given.title)));
  }
  if (examples.rows.length) {
    main.append(browser(runs, examples, counted));
    toc.append(h("li", {}, h("a", { href: "#examples" }, "Examples")));
  }
  if (/^#[\w-]+$/.test(location.hash)) document.getElementById(location.hash.slice(1))?.scrollIntoView();
  document.body.dataset.ready = "";
}
