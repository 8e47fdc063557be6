// The parts of Observable Plot that src/mga/report/assets/charts.js uses.
export { plot, barX, barY, rectY, dot, text, ruleX, ruleY, axisX, axisY, gridX, gridY, tip, pointer } from "@observablehq/plot";
