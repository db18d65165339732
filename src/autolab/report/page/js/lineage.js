"use strict";
// Which trial branched from which. Time runs to the right, a generation is a row; within its row a trial lies in the
// lane of its surface or role, so that place and colour say the same. Lines leave a parent to the right and rise to its
// children; the way to the master is bold.

const Lineage = {
  start() {
    Charts.make("lineage-chart", Lineage);
    Lineage.draw();
    Lineage.chart.on("datazoom", () => Lineage.chart.setOption({ yAxis: [Lineage.rows()] }));
    View.on((what) => { if (["color", "data"].includes(what)) Lineage.draw(); else if (what === "filter") Lineage.sort(); });
  },

  layout() {
    const m = Data.now.marks, groups = Charts.groups(View.color), last = Math.max(1, groups.length - 1);
    const lane = new Map(groups.map(({ name }, k) => [name, groups.length > 1 ? 0.36 - (0.72 * k) / last : 0]));
    const onLine = new Set(Data.line());
    const y = m[View.color].map((name, i) => m.generation[i] + (onLine.has(m.ordinal[i]) ? 0 : lane.get(name || "none")));
    return { groups, y, onLine };
  },

  /** The points of each series, by its name, from what is chosen. */
  sort() {
    const m = Data.now.marks, { groups, y, onLine } = Lineage.laid;
    const held = new Map(groups.flatMap(({ name }) => [[name, Lineage.none()], [`failed ${name}`, Lineage.none()]]));
    for (const name of ["faded", "on line"]) held.set(name, Lineage.none());
    for (let i = 0; i < Data.count; i += 1) {
      const name = m[View.color][i] || "none", scored = m.score[i] !== null || !m.status[i];
      const into = held.get(onLine.has(m.ordinal[i]) ? "on line" : !View.mask[i] ? "faded" : scored ? name : `failed ${name}`);
      into.xs.push(m.ordinal[i]); into.ys.push(y[i]); into.ordinals.push(m.ordinal[i]);
    }
    Lineage.held = held;
  },

  option() {
    const { ink, soft, faded, edge } = Charts.inks_now(), m = Data.now.marks, narrow = Charts.narrow();
    Lineage.laid = Lineage.layout();
    Lineage.sort();
    const { groups, y, onLine } = Lineage.laid, held = (name) => () => Lineage.held.get(name);
    const edges = (wanted) => (place) => {
      const at = [], reach = new Map(); // parent -> its last child
      for (let i = 0; i < Data.count; i += 1) {
        const parent = Data.index.get(m.parent[i]);
        if (parent === undefined || !wanted(i, parent)) continue;
        const x = place.x(m.ordinal[i]);
        at.push(x, place.y(y[parent]), x, place.y(y[i]));
        reach.set(parent, x);
      }
      for (const [parent, x] of reach) at.push(place.x(m.ordinal[parent]), place.y(y[parent]), x, place.y(y[parent]));
      return { points: 2, at };
    };
    const size = Math.max(1.9, Math.min(5, 260 / Math.sqrt(Math.max(1, Data.count) * 3))) * (narrow ? 0.8 : 1);
    const dot = Charts.corners("no_difference"), cross = Charts.corners("failed");
    const newest = Lineage.newest();
    const passes = (i, parent) => View.mask[i] && (View.family === null || View.mask[parent]);
    return {
      grid: [Charts.grid({ left: narrow ? 34 : 52, right: narrow ? 10 : 22, top: 26, bottom: 76 })],
      xAxis: [Charts.axis({ min: -newest * 0.01, max: newest * 1.01, splitLine: { show: false }, name: "trial, in the order in which they were opened", nameGap: 26, axisLabel: { color: soft, showMinLabel: false, showMaxLabel: false } })],
      yAxis: [Charts.axis({ ...Lineage.rows(), minInterval: 1, name: "generation", nameLocation: "end", nameGap: 10, nameTextStyle: { color: soft, align: "left", padding: [0, 0, 0, narrow ? -28 : -46] }, splitLine: { show: false }, axisLabel: { color: soft, showMinLabel: false, showMaxLabel: false, formatter: (value) => (Number.isInteger(value) ? value : "") } })],
      dataZoom: Charts.zoom(Lineage, [0], 14),
      series: [
        Charts.series("edges", "strokes", edges((i, parent) => !passes(i, parent)), { stroke: soft, lineWidth: 0.6, fill: null, opacity: 0.1 }, { z: 1 }),
        Charts.series("chosen edges", "strokes", edges(passes), { stroke: soft, lineWidth: 0.7, fill: null, opacity: 0.35 }, { z: 2 }),
        Charts.cloud(Lineage, "faded", held("faded"), dot, 0.8 * size, { fill: faded }, { z: 2 }),
        ...groups.flatMap(({ name, color }) => [
          Charts.cloud(Lineage, `failed ${name}`, held(`failed ${name}`), cross, 0.9 * size, { fill: color, opacity: 0.35 }, { z: 3 }),
          Charts.cloud(Lineage, name, held(name), dot, size, { fill: color, opacity: 0.9 }, { z: 4 }),
        ]),
        Charts.series("line", "strokes", edges((i, parent) => onLine.has(m.ordinal[i]) && onLine.has(m.ordinal[parent])), { stroke: ink, lineWidth: 2.4, fill: null }, { z: 5 }),
        Charts.cloud(Lineage, "on line", held("on line"), dot, Math.max(4, size), { fill: ink, stroke: edge, lineWidth: 1 }, { z: 6 }),
      ],
    };
  },

  newest: () => Math.max(1, ...Data.now.marks.ordinal.slice(-1)),

  /** From the first to the last generation of what is zoomed into. */
  rows() {
    const m = Data.now.marks, { start, end } = Lineage.zoomed, at = (percent) => Lineage.newest() * (-0.01 + 0.0102 * percent);
    let low = Infinity, high = 0;
    for (let i = 0; i < Data.count; i += 1) {
      if (m.ordinal[i] < at(start) || m.ordinal[i] > at(end)) continue;
      low = Math.min(low, m.generation[i]);
      high = Math.max(high, m.generation[i]);
    }
    return { min: (low === Infinity ? 0 : low) - 0.6, max: high + 0.6 };
  },

  none: () => ({ xs: [], ys: [], ordinals: [] }),

  click: (ordinal) => View.set("family", View.family === ordinal ? null : ordinal),

  describe() {
    const m = Data.now.marks, deepest = m.generation.reduce((a, b) => Math.max(a, b), 0), line = Data.line();
    return `${Format.plural(Data.count, "trial")} in ${Format.plural(deepest + 1, "generation")}; the master comes from ${Format.plural(Math.max(0, line.length - 1), "earlier trial")} (bold). Rows hold a lane for each ${View.color}; crosses have no score. Press a trial to see only those that it comes from and that come from it.`;
  },
};
