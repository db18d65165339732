"use strict";
// The staircase of the master, with its intervals, the noise of one run, and every trial: nothing is left out. What has
// no score stands as ticks in the gutter below.

const Staircase = {
  GUTTER: [ // rows from below, and the statuses that they hold; whatever else has no score failed
    ["machine", ["infra_error"]], ["not measured", ["proposal_failed", "preflight_failed", "duplicate"]],
    ["broke rules", ["tampered", "illegal"]], ["failed", []],
  ],
  ORDER: ["worse", "no_difference", "provisional", "demoted", "simplification", "confirmed", "certified", "baseline"],

  start() {
    Charts.make("staircase-chart", Staircase);
    Staircase.draw();
    Staircase.chart.on("brushEnd", ({ areas }) => {
      if (!areas.length) return;
      const [from, to] = areas[0].coordRange.map((at) => Number((at / Data.scale(View.x)).toPrecision(6)));
      Staircase.chart.dispatchAction({ type: "brush", areas: [] });
      View.set("range", [View.x, Math.max(0, Math.min(from, to)), Math.max(from, to)]);
    });
    View.on((what) => {
      if (what === "x") Staircase.zoomed = { start: 0, end: 100 };
      if (what === "filter") Staircase.sorted = Staircase.sort();
      if (["x", "frame", "data"].includes(what)) Staircase.draw();
    });
  },

  /** From best to worst, as far as the staircase needs it: outliers must not flatten it. They sit on the rim. */
  frame() {
    const { headline, climbs, direction, marks, noise } = Data.now;
    const scores = marks.score.filter((score) => score !== null);
    if (!scores.length) return [0, 1];
    const lowest = scores.reduce((a, b) => Math.min(a, b)), highest = scores.reduce((a, b) => Math.max(a, b));
    const levels = [...climbs.map((climb) => climb.score), headline.score].filter((level) => level !== null);
    if (View.frame === "all" || !levels.length) {
      const rim = 0.04 * (highest - lowest || Math.abs(highest) || 1);
      return [lowest - rim, highest + rim];
    }
    const start = levels[0], down = direction === "minimize", best = down ? Math.min(...levels) : Math.max(...levels);
    const span = Math.max(Math.abs(start - best), noise ? 2 * noise.sd : 0) || highest - lowest || Math.abs(start) || 1;
    if (down) return [Math.max(Math.min(lowest, best), best - span) - 0.2 * span, Math.min(highest + 0.2 * span, start + 1.2 * span)];
    return [Math.max(lowest - 0.2 * span, start - 1.2 * span), Math.min(Math.max(highest, best), best + span) + 0.2 * span];
  },

  row(outcome) {
    const found = Staircase.GUTTER.findIndex(([, held]) => held.includes(outcome));
    return found < 0 ? Staircase.GUTTER.length - 1 : found;
  },

  /** The points of each series, by its name, from what is chosen. */
  sort() {
    const m = Data.now.marks, [low, high] = Staircase.limits, sorted = new Map(), scale = Data.scale(View.x);
    const put = (name, x, y, ordinal) => {
      if (!sorted.has(name)) sorted.set(name, { xs: [], ys: [], ordinals: [] });
      const held = sorted.get(name);
      held.xs.push(x); held.ys.push(y); held.ordinals.push(ordinal);
    };
    for (let i = 0; i < Data.count; i += 1) {
      const score = m.score[i];
      if (m.place[i] === null) continue;
      const x = Data.x(View.x, i) * scale;
      if (score === null) put(View.mask[i] ? `gutter ${Charts.shownAs(m.outcome[i])}` : "gutter faded", x, Staircase.row(m.outcome[i]), m.ordinal[i]);
      else if (score < low || score > high) put(View.mask[i] ? "beyond" : "beyond faded", x, score < low ? low : high, m.ordinal[i]);
      else put(View.mask[i] ? Charts.shownAs(m.outcome[i]) : "faded", x, score, m.ordinal[i]);
    }
    return sorted;
  },

  option() {
    const { ink, soft, faded, edge, band } = Charts.inks_now(), { climbs, noise, metric, direction, headline } = Data.now;
    const narrow = Charts.narrow(), left = narrow ? 62 : 92, right = narrow ? 10 : 22, scale = Data.scale(View.x);
    Staircase.limits = Staircase.frame();
    const [low, high] = Staircase.limits;
    Staircase.sorted = Staircase.sort();
    let end = 0;
    for (let i = 0; i < Data.count; i += 1) end = Math.max(end, scale * (Data.x(View.x, i) || 0));
    end = (end || 1) * 1.005;
    const begin = -0.008 * end;
    const none = { xs: [], ys: [], ordinals: [] }, points = (name) => () => Staircase.sorted.get(name) || none;
    const cloud = (name, corners, size, style, given) => Charts.cloud(Staircase, name, points(name), corners, size, style, given);
    const steps = climbs.map((climb) => [scale * Data.xOfClimb(View.x, climb), climb.score]);
    const below = { xAxisIndex: 1, yAxisIndex: 1 };
    // Every series costs milliseconds: only for what there is.
    const { score, outcome: outcomes, place: places } = Data.now.marks, scored = new Set(), unscored = new Set();
    for (let i = 0; i < Data.count; i += 1) if (places[i] !== null) (score[i] === null ? unscored : scored).add(Charts.shownAs(outcomes[i]));
    const gutter = ["gutter faded", ...[...unscored].map((outcome) => `gutter ${outcome}`)], ever = new Set(climbs.map((climb) => climb.state));
    const tick = [[-0.13, -1], [0.13, -1], [0.13, 1], [-0.13, 1]], range = () => (View.range && View.range[0] === View.x ? View.range.slice(1).map((at) => at * scale) : null);
    return {
      grid: [
        Charts.grid({ left, right, top: 26, bottom: 142 }),
        Charts.grid({ left, right, height: 58, bottom: 76 }),
      ],
      xAxis: [
        Charts.axis({ min: begin, max: end, axisLabel: { show: false }, splitLine: { show: false } }),
        Charts.axis({ min: begin, max: end, gridIndex: 1, splitLine: { show: false }, name: Data.xName(View.x), nameGap: 26, axisLabel: { color: soft, hideOverlap: true, showMinLabel: false, showMaxLabel: false } }),
      ],
      yAxis: [
        Charts.axis({ min: low, max: high, name: `${Format.said(metric)} (${direction === "minimize" ? "lower" : "higher"} is better)`, nameLocation: "end", nameGap: 10,
          nameTextStyle: { align: "left", padding: [0, 0, 0, 10 - left], color: soft },
          axisLabel: { color: soft, showMinLabel: false, showMaxLabel: false, formatter: (value) => Format.number(value, Data.now.digits).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "") } }),
        Charts.axis({ gridIndex: 1, min: -0.6, max: 3.6, interval: 1, splitLine: { show: false }, axisLabel: { show: false } }),
      ],
      dataZoom: Charts.zoom(Staircase, [0, 1], 14),
      brush: Staircase.brush(),
      toolbox: { show: false },
      series: [
        { id: "noise", type: "line", data: [], silent: true, markArea: noise ? { silent: true, itemStyle: { color: band }, data: [[{ yAxis: noise.low }, { yAxis: noise.high }]] } : undefined },
        Charts.series("range", "bars", (place) => ({ at: range() ? [place.x(range()[0]), place.box.y, place.x(range()[1]) - place.x(range()[0]), place.box.height] : [] }), { fill: "rgba(86,180,233,.16)" }, { z: 0 }),
        ...[...ever].map((state) =>
          Charts.series(`ribbon ${state}`, "bars", (place) => ({
            at: climbs.flatMap((climb, k) => {
              const from = place.x(steps[k][0]), to = place.x(k + 1 < steps.length ? steps[k + 1][0] : end);
              return climb.state === state ? [from, place.y(climb.high), to - from, place.y(climb.low) - place.y(climb.high)] : [];
            }),
          }), { fill: Charts.color(state), opacity: 0.22 }, { z: 1 })),
        cloud("faded", Charts.corners("no_difference"), 2.2, { fill: faded }, { z: 2 }),
        cloud("beyond faded", [[-1, 0], [1, 0], [0, -1.4]], 3, { fill: faded }, { z: 2 }),
        cloud("beyond", direction === "minimize" ? [[-1, 1.6], [1, 1.6], [0, 0]] : [[-1, -1.6], [1, -1.6], [0, 0]], narrow ? 3 : 4, { fill: "transparent", stroke: soft, lineWidth: 1 }, { z: 3 }),
        ...Staircase.ORDER.filter((outcome) => scored.has(outcome)).map((outcome) => {
          const promoted = !["worse", "no_difference"].includes(outcome), size = (promoted ? 5.2 : 2.9) * (Data.count < 200 ? 1.25 : Data.count > 1000 ? 0.9 : 1);
          return cloud(outcome, Charts.corners(outcome), narrow ? 0.8 * size : size,
            { fill: Charts.color(outcome), stroke: promoted ? edge : undefined, lineWidth: promoted ? 0.8 : 0, opacity: promoted ? 1 : 0.75 }, { z: promoted ? 6 : 3 });
        }),
        Charts.series("master", "strokes", (place) => ({ points: 2, at: Staircase.stairs(steps, end, place) }), { stroke: ink, lineWidth: 2, lineCap: "square", fill: null }, { z: 5 }),
        Charts.series("whiskers", "strokes", (place) => ({ points: 2, at: Staircase.whiskers(place) }), { stroke: ink, lineWidth: 1, fill: null, opacity: 0.8 }, { z: 6 }),
        ...(headline.score === null || headline.low === null ? [] : [Charts.series("now", "strokes", (place) => {
          const x = place.x(end) - 5, one = (a, b, c, d) => [a, place.y(b), c, place.y(d)];
          return { points: 2, at: [...one(x, headline.low, x, headline.high), ...one(x - 4, headline.low, x + 4, headline.low), ...one(x - 4, headline.high, x + 4, headline.high), ...one(x - 6, headline.score, x + 6, headline.score)] };
        }, { stroke: ink, lineWidth: 2, fill: null }, { z: 7, clip: false })]),
        ...gutter.map((name) => Charts.cloud(Staircase, name, points(name), tick, 5.5,
          { fill: name === "gutter faded" ? faded : Charts.color(name.slice(7)), opacity: 0.9 }, { ...below, z: name === "gutter faded" ? 2 : 3 })),
        Charts.series("hovered", "strokes", (place) => ({ points: 2, at: Staircase.hovered(place) }), { stroke: ink, lineWidth: 1.4, fill: null }, { z: 8 }),
      ],
      graphic: Staircase.GUTTER.map(([name], k) => ({
        type: "text", left: narrow ? 2 : 6, bottom: 77 + 13.8 * k, silent: true, style: { text: narrow ? name.replace("not measured", "unmeasured") : name, fill: soft, font: `${narrow ? 10 : 11}px ${getComputedStyle(document.body).fontFamily}` },
      }))
    };
  },

  brush() {
    if (matchMedia("(pointer: coarse)").matches) return undefined;
    setTimeout(() => Staircase.chart.dispatchAction({ type: "takeGlobalCursor", key: "brush", brushOption: { brushType: "lineX", brushMode: "single" } }));
    return { xAxisIndex: 0, brushType: "lineX", brushMode: "single", transformable: false, seriesIndex: 0, throttleType: "debounce", throttleDelay: 300,
      brushStyle: { color: "rgba(86,180,233,.2)", borderColor: "#56b4e9", borderWidth: 1 }, outOfBrush: {}, inBrush: {} };
  },

  /** Each step: along to the next change, then up or down to it. */
  stairs(steps, end, place) {
    return steps.flatMap(([from, level], k) => {
      const [to, next] = steps[k + 1] || [end, level], x = place.x(to), y = place.y(level);
      return [place.x(from), y, x, y, x, y, x, place.y(next)];
    });
  },

  /** The intervals of all that was ever promoted and is chosen. */
  whiskers(place) {
    const m = Data.now.marks;
    return Data.now.climbs.flatMap((climb) => {
      const i = Data.index.get(climb.trial);
      if (climb.kind === "demotion" || i === undefined || !View.mask[i]) return [];
      const x = place.x(Data.scale(View.x) * (Data.x(View.x, i) ?? Data.xOfClimb(View.x, climb)));
      return [x, place.y(m.low[i] ?? climb.low), x, place.y(m.high[i] ?? climb.high)];
    });
  },

  hovered(place) {
    const i = Data.index.get(Staircase.under), m = Data.now.marks;
    if (i === undefined || m.low[i] === null || Data.x(View.x, i) === null) return [];
    const x = place.x(Data.scale(View.x) * Data.x(View.x, i)), low = place.y(m.low[i]), high = place.y(m.high[i]);
    return [x, low, x, high, x - 4, low, x + 4, low, x - 4, high, x + 4, high];
  },

  hover(ordinal) {
    if (ordinal === Staircase.under || (ordinal === null && Staircase.under === undefined)) return;
    Staircase.under = ordinal === null ? undefined : ordinal;
    Shapes.repaint(Staircase);
  },

  click: (ordinal) => Ledger.goTo(ordinal),

  describe() {
    const { climbs, headline, noise, digits, marks } = Data.now;
    const unscored = marks.score.filter((score, i) => score === null && marks.place[i] !== null).length;
    const [low, high] = Staircase.frame(), out = marks.score.filter((score) => score !== null && (score < low || score > high)).length;
    return [
      climbs.length ? `The line is the master, its ribbon the 95 % interval when it was promoted: ${Format.plural(headline.promotions, "promotion")}, ${Format.plural(headline.demotions, "demotion")}; the bar at the right is how it is seen now.` : "There is no master yet.",
      noise ? `The grey band is what one run of the baseline scatters: ± ${noise.sds} standard deviations of ${Format.number(noise.sd, digits + 1)}.` : "",
      out ? `${Format.plural(out, "score")} beyond the frame, as open triangles on its rim.` : "",
      unscored ? `${Format.plural(unscored, "trial")} without a score, as ticks below.` : "",
    ].filter(Boolean).join(" ");
  },
};
