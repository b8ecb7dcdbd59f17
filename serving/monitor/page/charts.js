// Charts of series over time. Only charts on the screen are drawn, and none while the page is hidden.

import uPlot from "/page/uplot.js";
import { h } from "/page/dom.js";

const MOVED = 4; // pixels by which the lines move before they are drawn again
const SHORT = 5; // buckets of a gap that is drawn over
const LINE = 1; // pixels; a wider line takes ten times as long to draw where there is no graphics card
const MOST = 8; // lines of a chart; of more, those with the largest newest values

const style = () => getComputedStyle(document.documentElement);
const dark = matchMedia("(prefers-color-scheme: dark)");
const charts = new Set();
const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const chart = [...charts].find((one) => one.place === entry.target);
    if (chart) {
      chart.seen = entry.isIntersecting;
      chart.stale = true;
      chart.draw();
    }
  }
}, { rootMargin: "100px" });
const sizes = new ResizeObserver(() => charts.forEach((chart) => chart.resize()));

dark.addEventListener("change", () => charts.forEach((chart) => chart.rebuild()));
document.addEventListener("visibilitychange", () => charts.forEach((chart) => chart.draw()));

/** Forget all charts, when another page is shown. */
export function clear() {
  for (const chart of charts) chart.destroy();
  charts.clear();
  watcher.disconnect();
  sizes.disconnect();
}

/** Leave out the gaps of few buckets: a point that came late leaves one. */
function longGaps(plot, _, from, to, gaps) {
  const bucket = plot.bbox.width / Math.max(1, to - from);
  return gaps.filter(([left, right]) => right - left > SHORT * bucket);
}

/** A chart of the series whose names begin with `prefix`. */
export class Chart {
  /**
   * @param {object} about title, note, prefix, format (value -> text), order (names that come first),
   *   floor (the axis goes at least this far)
   */
  constructor(about) {
    this.about = about;
    this.place = h("div", { class: "plot", role: "img", "aria-label": `${about.title}: a chart, its values are in the list below it` });
    this.list = h("ul", { class: "legend" });
    this.element = h("section", { class: "panel chart" }, h("h2", {}, about.title), h("p", { class: "note" }, about.note), this.place, this.list);
    this.seen = false;
    this.stale = true;
    this.width = 0;
    this.data = null;
    this.names = [];
    charts.add(this);
    watcher.observe(this.place);
    sizes.observe(this.place);
  }

  /** Take times (s) and the values of all series; drawn again at once, or when the lines have moved a little. */
  set(times, values, atOnce = false) {
    const { prefix, order = [] } = this.about;
    const newest = (name) => values[name].findLast((value) => value !== null) ?? 0;
    let names = Object.keys(values).filter((name) => name.startsWith(prefix));
    if (names.length > MOST) names = names.sort((a, b) => newest(b) - newest(a)).slice(0, MOST);
    const place = (name) => {
      const at = order.indexOf(name.slice(prefix.length));
      return at < 0 ? order.length : at;
    };
    names.sort((a, b) => place(a) - place(b) || a.localeCompare(b));
    const changed = names.join() !== this.names.join();
    this.names = names;
    this.data = [times, ...names.map((name) => values[name])];
    if (changed) this.rebuild();
    else if (this.seen || atOnce) {
      const moved = ((times.at(-1) - this.drawn) / Math.max(1, times.at(-1) - times[0])) * this.width;
      this.stale ||= atOnce || !(moved < MOVED);
      this.draw();
    }
    this.place.dataset.empty = this.names.length ? "" : "nothing is known yet";
  }

  /** Write the newest values: those at the ends of the lines, as they are drawn. */
  words() {
    const last = this.names.map((name, i) => this.data[i + 1].findLast((value) => value !== null));
    if (this.list.children.length !== this.names.length || this.listed !== this.names.join()) {
      this.listed = this.names.join();
      this.list.replaceChildren(
        ...this.names.map((name, i) =>
          h("li", {}, h("span", { class: `dot c${i}`, "aria-hidden": "true" }), h("span", {}, name.slice(this.about.prefix.length)), h("b", {}, ""))),
      );
    }
    [...this.list.children].forEach((line, i) => {
      const text = last[i] === undefined ? "–" : this.about.format(last[i]);
      if (line.lastChild.textContent !== text) line.lastChild.textContent = text;
    });
  }

  rebuild() {
    this.plot?.destroy();
    this.plot = null;
    this.stale = true;
    this.draw();
  }

  draw() {
    if (!this.seen || document.hidden || !this.stale || !this.data || !this.names.length) return;
    this.stale = false;
    this.drawn = this.data[0].at(-1);
    if (this.plot) this.plot.setData(this.data);
    else this.plot = new uPlot(this.options(), this.data, this.place);
    this.words();
  }

  options() {
    const css = style();
    const ink = css.getPropertyValue("--soft").trim();
    const grid = css.getPropertyValue("--line").trim();
    const { format, floor = 0 } = this.about;
    const font = "11px system-ui, sans-serif";
    const axis = { stroke: ink, font, grid: { stroke: grid, width: 1 }, ticks: { show: false } };
    return {
      width: this.place.clientWidth,
      height: this.place.clientHeight,
      legend: { show: false },
      cursor: { y: false, points: { size: 6 } },
      scales: { y: { range: (_, low, high) => [0, Math.max(floor, high * 1.08) || 1] } },
      axes: [
        { ...axis, space: 70, size: 24, values: [
          [86400, "{D} {MMM}", null, null, null, null, null, null, 1],
          [3600, "{HH}:{mm}", "\n{D} {MMM}", null, null, null, null, null, 1],
          [60, "{HH}:{mm}", null, null, null, null, null, null, 1],
          [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1],
        ] },
        { ...axis, size: 58, space: 26, values: (_, ticks) => ticks.map(format) },
      ],
      series: [{}, ...this.names.map((_, i) => ({
        stroke: css.getPropertyValue(`--c${i}`).trim(),
        width: LINE,
        gaps: longGaps,
        points: { show: false },
      }))],
      hooks: { setCursor: [(plot) => this.point(plot.cursor.idx)] },
    };
  }

  /** Show the values under the pointer in the list; of none, the newest. */
  point(index) {
    if (index === null || index === undefined) return this.words();
    [...this.list.children].forEach((line, i) => {
      const value = this.data[i + 1]?.[index];
      line.lastChild.textContent = value === null || value === undefined ? "–" : this.about.format(value);
    });
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.place;
    this.width = width;
    if (this.plot && (this.plot.width !== width || this.plot.height !== height)) this.plot.setSize({ width, height });
  }

  destroy() {
    this.plot?.destroy();
    this.plot = null;
  }
}
