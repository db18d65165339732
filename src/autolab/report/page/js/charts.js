"use strict";
// What the charts share. ECharts lays out axes, zooms and draws; a panel gives it a few shapes with all of its points in
// each, instead of an element for every point: thousands of them are drawn in milliseconds, each with its own mark. A
// shape asks for its numbers when it is painted, by its key, so another filter is another painting and nothing more.

const Shapes = {
  made: new Set(),
  numbers: new Map(), // key -> what gives a shape's numbers
  /** Another kind of shape for custom series; `draw(context, numbers)`. */
  add(name, draw) {
    echarts.graphic.registerShape(name, echarts.graphic.extendShape({
      shape: { key: "" },
      init() { Shapes.made.add(this); },
      buildPath(context, { key }) { if (Shapes.numbers.has(key)) draw(context, Shapes.numbers.get(key)()); },
    }));
  },
  /** Those of one chart are painted again, with the numbers of now; ECharts itself would wait for another frame. */
  repaint({ id, chart }) {
    for (const shape of Shapes.made) {
      if (!shape.__zr) Shapes.made.delete(shape);
      else if (shape.shape.key.startsWith(`${id},`)) shape.dirtyShape();
    }
    chart.getZr().flush();
  },
};

Shapes.add("cloud", (context, { at, corners, size }) => { // at: x, y, x, y …, in pixels
  const [[x0, y0], ...others] = corners.map(([x, y]) => [size * x, size * y]);
  for (let k = 0; k < at.length; k += 2) {
    const x = at[k], y = at[k + 1];
    context.moveTo(x + x0, y + y0);
    for (const [dx, dy] of others) context.lineTo(x + dx, y + dy);
    context.lineTo(x + x0, y + y0);
  }
});
Shapes.add("strokes", (context, { at, points }) => { // lines of so many points each
  for (let k = 0; k < at.length; k += 2) {
    if ((k / 2) % points) context.lineTo(at[k], at[k + 1]); else context.moveTo(at[k], at[k + 1]);
  }
});
Shapes.add("bars", (context, { at }) => { // x, y, width, height, x …
  for (let k = 0; k < at.length; k += 4) context.rect(at[k], at[k + 1], at[k + 2], at[k + 3]);
});

const Charts = {
  inks: {
    light: { ink: "#1c2025", soft: "#565f6a", line: "#dfe2de", faded: "rgba(90,98,106,.20)", edge: "rgba(0,0,0,.55)", paper: "#fbfbf9", band: "rgba(0,0,0,.06)" },
    dark: { ink: "#e7e9ea", soft: "#a9b1b9", line: "#323940", faded: "rgba(170,178,186,.20)", edge: "rgba(255,255,255,.35)", paper: "#14171a", band: "rgba(255,255,255,.08)" },
  },
  printing: false,
  made: [], // panels with a chart: {chart, draw()}

  dark() {
    const chosen = document.documentElement.dataset.theme;
    return !Charts.printing && (chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  },
  inks_now: () => Charts.inks[Charts.dark() ? "dark" : "light"],
  narrow: () => innerWidth <= 700,

  // colours and marks of outcomes ----------------------------------------------------------------------

  shownAs(outcome) {
    const { colors } = Data.now.palette;
    return outcome in colors ? outcome : outcome === "ok" ? "no_difference" : "failed";
  },
  color(outcome) {
    const color = Data.now.palette.colors[Charts.shownAs(outcome)];
    return color === "#000000" ? Charts.inks_now().ink : color;
  },
  path: (outcome) => Data.now.palette.paths[Charts.shownAs(outcome)],
  corners(outcome) {
    const found = Charts.path(outcome).match(/-?[\d.]+,-?[\d.]+/g).map((pair) => pair.split(",").map(Number));
    return found.length > 16 && Data.count > 500 ? found.filter((_, k) => k % 3 === 0) : found; // circles of a few pixels
  },
  mark: (outcome) => Dom.mark(Charts.path(outcome), Data.now.palette.colors[Charts.shownAs(outcome)]),

  /** Surfaces or roles, those with the most trials first, with their colours; the last ones share one. */
  groups(kind) {
    const counts = new Map(), { groups, rest } = Data.now.palette;
    for (const name of Data.now.marks[kind]) counts.set(name || "none", (counts.get(name || "none") || 0) + 1);
    return [...counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1))
      .map(([name, count], k) => ({ name, count, color: k < groups.length ? groups[k] : rest }));
  },

  // series ---------------------------------------------------------------------------------------------

  /** A series of one shape. `shape(place)` gives its numbers; `place(x, y)` is where a value lies, in pixels. */
  series(id, type, shape, style, given = {}) {
    const key = `${Charts.drawing}, ${id}`, renderItem = (params, api) => {
      const [x0, y0] = api.coord([0, 0]), [x1, y1] = api.coord([1, 1]);
      const place = { x: (x) => x0 + (x1 - x0) * x, y: (y) => y0 + (y1 - y0) * y, box: params.coordSys };
      Shapes.numbers.set(key, () => shape(place));
      return { type, shape: { key }, style, silent: true };
    };
    return { id, type: "custom", renderItem, data: [[0, 0]], silent: true, clip: true, tooltip: { show: false }, ...given };
  },

  /** A cloud of marks; where they lie is kept, so that the nearest one to a pointer can be found. */
  cloud(panel, id, points, corners, size, style, given) {
    return Charts.series(id, "cloud", (place) => {
      const { xs, ys, ordinals } = points(), at = new Float32Array(2 * xs.length);
      for (let k = 0; k < xs.length; k += 1) { at[2 * k] = place.x(xs[k]); at[2 * k + 1] = place.y(ys[k]); }
      if (ordinals) panel.hits.set(id, { at, ordinals, box: place.box });
      return { at, corners, size };
    }, style, given);
  },

  // panels ---------------------------------------------------------------------------------------------

  /** A chart in the element `id`. The panel has `option()` (all of it) and `describe()` (what it shows, in words). */
  make(id, panel) {
    const element = Dom.id(id);
    panel.hits = new Map();
    panel.zoomed = { start: 0, end: 100 };
    panel.chart = echarts.init(element, null, { renderer: "canvas" });
    panel.draw = () => {
      Charts.drawing = id;
      panel.hits.clear();
      const about = panel.describe();
      Dom.id(id.replace("-chart", "-said")).textContent = about;
      panel.chart.setOption({
        animation: false, backgroundColor: "transparent", textStyle: { fontFamily: getComputedStyle(document.body).fontFamily },
        aria: { enabled: true, label: { description: about } }, tooltip: { show: false }, ...panel.option(),
      }, { notMerge: true, lazyUpdate: false });
    };
    panel.chart.on("datazoom", () => {
      const [{ start, end }] = panel.chart.getOption().dataZoom;
      panel.zoomed = { start, end };
    });
    panel.id = id;
    Charts.made.push(panel);
    Seen.add(element, () => Shapes.repaint(panel));
    Charts.point(panel, element);
    new ResizeObserver(() => Charts.fit(panel, element)).observe(element);
  },

  fit(panel, element) {
    const { clientWidth: width, clientHeight: height } = element;
    if (!width || (panel.chart.getWidth() === width && panel.chart.getHeight() === height)) return;
    panel.chart.resize({ width, height });
    panel.draw();
  },

  /** Everything anew, in other colours or another size. */
  redraw() { for (const panel of Charts.made) panel.draw(); },

  /** Its edges are said, so nobody needs to measure all labels to find them. */
  grid: (edges) => ({ ...edges, outerBoundsMode: "none" }),

  axis: (given = {}) => {
    const { soft, line } = Charts.inks_now();
    return {
      type: "value", axisLine: { show: false, lineStyle: { color: soft } }, axisTick: { show: false },
      axisLabel: { color: soft, fontSize: 12, hideOverlap: true }, splitLine: { lineStyle: { color: line } },
      nameTextStyle: { color: soft, fontSize: 12 }, nameLocation: "middle", axisPointer: { show: false }, ...given,
    };
  },

  zoom(panel, axes, bottom) {
    const { soft } = Charts.inks_now(), { start, end } = panel.zoomed;
    return [
      { type: "inside", start, end, xAxisIndex: axes, filterMode: "none", zoomOnMouseWheel: "ctrl", moveOnMouseMove: false, moveOnMouseWheel: false, preventDefaultMouseMove: false },
      { type: "slider", start, end, xAxisIndex: axes, filterMode: "none", bottom, height: 16, showDataShadow: false, brushSelect: false, borderColor: "transparent", backgroundColor: "rgba(128,140,150,.06)",
        fillerColor: "rgba(128,140,150,.14)", handleStyle: { color: soft, borderColor: soft }, moveHandleSize: 0, textStyle: { color: soft }, showDetail: false },
    ];
  },

  // pointing -------------------------------------------------------------------------------------------

  nearest(panel, x, y) {
    let best = null, least = 14 ** 2;
    for (const { at, ordinals, box } of panel.hits.values()) {
      if (x < box.x - 8 || x > box.x + box.width + 8 || y < box.y - 8 || y > box.y + box.height + 8) continue;
      for (let k = 0; k < ordinals.length; k += 1) {
        const far = (at[2 * k] - x) ** 2 + (at[2 * k + 1] - y) ** 2;
        if (far < least) { least = far; best = ordinals[k]; }
      }
    }
    return best;
  },

  point(panel, element) {
    const ready = () => "ready" in document.documentElement.dataset; // what is pressed may need the rest of the page
    const zr = panel.chart.getZr(), find = (event) => (!ready() ? null : panel.find ? panel.find(event.offsetX, event.offsetY) : Charts.nearest(panel, event.offsetX, event.offsetY));
    zr.on("mousemove", (event) => {
      const ordinal = find(event);
      zr.setCursorStyle(ordinal === null ? "default" : "pointer");
      if (ordinal === null) Tip.hide(); else Tip.show(ordinal, event.event);
      if (panel.hover) panel.hover(ordinal);
    });
    zr.on("globalout", () => { Tip.hide(); if (panel.hover) panel.hover(null); });
    zr.on("click", (event) => {
      const ordinal = find(event);
      if (ordinal !== null) panel.click(ordinal, event); else if (panel.beside) panel.beside(event.offsetX, event.offsetY);
    });
    element.addEventListener("pointerleave", Tip.hide);
  },
};

/** A few words on the trial under the pointer. */
const Tip = {
  show(ordinal, event) {
    const i = Data.index.get(ordinal), m = Data.now.marks, digits = Data.now.digits, tip = Dom.id("tip");
    const score = m.score[i] === null ? "no score" : `${Format.number(m.score[i], digits)}${m.low[i] === null ? "" : ` [${Format.number(m.low[i], digits)}, ${Format.number(m.high[i], digits)}]`}`;
    const delta = m.delta[i] === null ? "" : `, ${Format.signed(m.delta[i], digits)} against its master`;
    Dom.fill(tip, [
      Dom.el("div", {}, [Dom.el("b", { class: "id", text: m.id[i] }), " ", Charts.mark(m.outcome[i]), ` ${Format.words(m.outcome[i])}`]),
      Dom.el("div", { text: score + delta }),
      Dom.el("div", { class: "said", text: Format.said([m.surface[i], m.role[i]].filter(Boolean).join(" · ")).slice(0, 120) }),
      Dom.el("p", { class: "said", text: Format.said(m.hypothesis[i].slice(0, 220)) }),
    ]);
    tip.hidden = false;
    const x = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8), y = event.clientY + 16;
    tip.style.left = `${Math.max(8, x)}px`;
    tip.style.top = `${y + tip.offsetHeight > innerHeight ? Math.max(4, event.clientY - tip.offsetHeight - 12) : y}px`;
  },
  hide() { Dom.id("tip").hidden = true; },
};
