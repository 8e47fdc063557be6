// The parts of Observable Plot that src/mga/report/assets/charts.js uses.
export { plot, areaY, barX, barY, dot, line, rectY, text, ruleX, ruleY, axisX, axisY, gridX, gridY, tip, pointer } from "@observablehq/plot";
