"use strict";

const OUTCOMES = ["hit", "stale", "miss", "collapsed", "bypass", "error", "refused"];

/** How far back the chart goes, in seconds. */
const SPAN = 300;

const byId = (id) => document.getElementById(id);

/** Texts of others become text nodes and nothing else. */
function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function shape(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  made.append(...children);
  return made;
}

/** Fills a table. A cell is a text or an element. */
function fill(id, rows, columns, none) {
  const cells = (row) => element("tr", {}, ...row.map((cell) => element("td", {}, cell)));
  const empty = () => element("tr", {}, element("td", { className: "empty", colSpan: columns }, none));
  byId(id).replaceChildren(...(rows.length > 0 ? rows.map(cells) : [empty()]));
}

/** A list of terms and what they are: texts or elements. */
function describe(id, terms) {
  byId(id).replaceChildren(...terms.map(([term, what]) => element("div", {}, element("dt", {}, term), element("dd", {}, what))));
}

const state = (isGood, good, bad) => element("span", { className: isGood ? "good" : "bad" }, isGood ? good : bad);

function count(value) {
  return value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });
}

function percent(part, whole) {
  return whole > 0 ? `${((100 * part) / whole).toFixed(1)} %` : "–";
}

function duration(microseconds) {
  if (microseconds === null) return "–";
  if (microseconds < 1000) return `${Math.round(microseconds)} µs`;
  const milliseconds = microseconds / 1000;
  return milliseconds < 1000 ? `${milliseconds.toPrecision(3)} ms` : `${(milliseconds / 1000).toPrecision(3)} s`;
}

function bytes(value) {
  if (value < 1024) return `${value} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(Math.floor(Math.log2(value) / 10), units.length);
  return `${(value / 1024 ** power).toFixed(1)} ${units[power - 1]}`;
}

function span(seconds) {
  if (seconds === null) return "–";
  if (Math.abs(seconds) < 120) return `${seconds} s`;
  if (Math.abs(seconds) < 7200) return `${Math.round(seconds / 60)} min`;
  if (Math.abs(seconds) < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

/** The least of 1, 2, 5, 10, 20, 50, … that is not below. */
function above(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}

/** Draws the rates of the outcomes on each other. A point is a time in seconds and the rate of each outcome. */
function drawChart(points, now) {
  const chart = byId("chart");
  const [width, height, left, bottom] = [chart.clientWidth, chart.clientHeight, 52, 20];
  const total = (point) => OUTCOMES.reduce((sum, outcome) => sum + point.rates[outcome], 0);
  const most = above(Math.max(1, ...points.map(total)));
  const x = (time) => left + ((time - now + SPAN) / SPAN) * (width - left);
  const y = (rate) => 6 + (1 - rate / most) * (height - bottom - 6);
  const grid = [0, most / 2, most].flatMap((rate) => [
    shape("line", { class: "grid", x1: left, x2: width, y1: y(rate), y2: y(rate) }),
    shape("text", { x: left - 8, y: y(rate) + 4, "text-anchor": "end" }, count(rate)),
  ]);
  const times = [[left, "start", "5 minutes ago"], [width, "end", "now"]].map(([at, anchor, text]) =>
    shape("text", { x: at, y: height - 3, "text-anchor": anchor }, text));
  let below = points.map(() => 0);
  const areas = OUTCOMES.map((outcome) => {
    const upper = points.map((point, index) => below[index] + point.rates[outcome]);
    const corner = (rates) => (point, index) => `${x(point.time).toFixed(1)},${y(rates[index]).toFixed(1)}`;
    const corners = [...points.map(corner(upper)), ...points.map(corner(below)).reverse()];
    below = upper;
    return shape("polygon", { class: outcome, points: corners.join(" ") });
  });
  chart.setAttribute("viewBox", `0 0 ${width} ${height}`);
  chart.replaceChildren(...areas, ...grid, ...times);
}

function drawLegend(rates) {
  const item = (outcome) =>
    element("li", {}, shape("svg", { viewBox: "0 0 1 1", "aria-hidden": "true" }, shape("rect", { class: outcome, width: 1, height: 1 })), `${outcome} ${count(rates[outcome])}`);
  byId("legend").replaceChildren(...OUTCOMES.map(item));
  const told = OUTCOMES.filter((outcome) => rates[outcome] > 0).map((outcome) => `${count(rates[outcome])} ${outcome}`);
  byId("chart").setAttribute("aria-label", `Requests a second now: ${told.join(", ") || "none"}`);
}
