// Writes ../../src/mga/report/assets/plot.js and the licences of what is in it.
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const assets = new URL("../../src/mga/report/assets/", import.meta.url).pathname;
const { version } = JSON.parse(readFileSync("node_modules/@observablehq/plot/package.json", "utf8"));
// tests/test_report.py compares this print: the bundle is of these sources.
const print = createHash("sha256").update(readFileSync("entry.js")).update(readFileSync("package-lock.json")).digest("hex");

const { metafile } = await build({
  entryPoints: ["entry.js"],
  bundle: true,
  minify: true,
  format: "iife",
  globalName: "Plot",
  target: "es2020",
  charset: "ascii",
  legalComments: "none",
  banner: { js: `/* Observable Plot ${version} and D3, ISC licence (plot.LICENSE), made by tools/plot from ${print} */` },
  outfile: `${assets}plot.js`,
  metafile: true,
});

const packages = new Set(
  Object.entries(Object.values(metafile.outputs)[0].inputs)
    .filter(([, { bytesInOutput }]) => bytesInOutput > 0)
    .map(([path]) => path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1])
    .filter(Boolean),
);
const licences = [...packages].sort().map((name) => {
  const folder = `node_modules/${name}`;
  return `${name} ${JSON.parse(readFileSync(`${folder}/package.json`, "utf8")).version}\n\n${readFileSync(`${folder}/LICENSE`, "utf8").trim()}\n`;
});
writeFileSync(`${assets}plot.LICENSE`, licences.join(`\n${"-".repeat(72)}\n\n`));
