"use strict";
// What every slot did: training, evaluation, what failed, what runs now. A gap is a slot that nobody used. The queue
// stands above: gaps beside a long queue are the lab's fault, gaps without a queue that of slow proposers.

const Slots = {
  start() {
    Charts.make("slots-chart", Slots);
    Slots.size();
    Slots.draw();
    View.on((what) => {
      if (what === "data") Slots.size();
      if (what === "data") Slots.draw(); else if (what === "filter") Slots.sort();
    });
  },

  /** As high as its lanes need. */
  size() {
    const lanes = Data.now.slots.lanes.length, row = Math.max(4, Math.min(26, 520 / Math.max(1, lanes)));
    Dom.id("slots-chart").style.height = `${Math.round(190 + lanes * row)}px`;
    const { clientWidth: width, clientHeight: height } = Dom.id("slots-chart");
    if (width) Slots.chart.resize({ width, height });
  },

  /** The spans of each kind, from what is chosen. */
  sort() {
    const { spans } = Data.now.slots;
    Slots.kinds = new Map([...Object.keys(Data.now.palette.spans), "faded"].map((kind) => [kind, []]));
    for (let k = 0; k < spans.begin.length; k += 1) {
      const i = Data.index.get(spans.trial[k]);
      Slots.kinds.get(i === undefined || View.mask[i] ? spans.kind[k] : "faded").push(k);
    }
  },

  option() {
    const { ink, soft, faded } = Charts.inks_now(), { began, slots, palette, alive, now } = Data.now, { lanes, spans, queue } = slots;
    const narrow = Charts.narrow(), count = spans.begin.length, hours = (at) => ((at - began) / 3600) * Data.perHour();
    let end = 0;
    for (let k = 0; k < count; k += 1) end = Math.max(end, hours(spans.end[k]));
    if (alive) end = Math.max(end, hours(now));
    Slots.sort();
    const bars = (kind) => (place) => {
      const high = 0.72 * Math.abs(place.y(1) - place.y(0)), at = [], last = new Map(); // lane -> its last bar
      for (const k of Slots.kinds.get(kind)) {
        const x = place.x(hours(spans.begin[k])), end = Math.max(x + 0.4, place.x(hours(spans.end[k]))), before = last.get(spans.lane[k]);
        if (["training", "faded"].includes(kind) && before !== undefined && x - at[before] - at[before + 2] < 0.6) at[before + 2] = end - at[before]; // no gap that can be seen
        else { last.set(spans.lane[k], at.length); at.push(x, place.y(spans.lane[k]) - high / 2, end - x, high); }
      }
      Slots.place = place;
      return { at };
    };
    const steps = queue.map(([at, waiting]) => [hours(at), waiting]), most = steps.reduce((top, [, waiting]) => Math.max(top, waiting), 1);
    if (steps.length) steps.push([end, steps[steps.length - 1][1]]);
    const left = narrow ? 80 : 112, right = narrow ? 10 : 22, upper = 26, queueHeight = 52;
    const inLane = { xAxisIndex: 1, yAxisIndex: 1, zlevel: 1 }; // a canvas of their own: the queue is not painted again
    return {
      grid: [Charts.grid({ left, right, top: upper, height: queueHeight }), Charts.grid({ left, right, top: upper + queueHeight + 16, bottom: 76 })],
      xAxis: [
        Charts.axis({ min: 0, max: end || 1, axisLabel: { show: false }, splitLine: { show: false } }),
        Charts.axis({ min: 0, max: end || 1, gridIndex: 1, splitLine: { show: false }, name: Data.xName("time"), nameGap: 26, axisLabel: { color: soft, hideOverlap: true, showMaxLabel: false } }),
      ],
      yAxis: [
        Charts.axis({ min: 0, max: most, interval: most, minInterval: 1, name: "trials waiting for a slot", nameLocation: "end", nameGap: 8, nameTextStyle: { color: soft, align: "left", padding: [0, 0, 0, 6 - left] } }),
        Charts.axis({ gridIndex: 1, min: -0.5, max: Math.max(0.5, lanes.length - 0.5), inverse: true, splitLine: { show: false }, axisLabel: { show: false } }),
      ],
      graphic: lanes.length > 40 ? [] : lanes.map((name, k) => ({
        type: "text", silent: true, left: 4, top: Slots.middle(k, lanes.length, upper + queueHeight + 16), style: { text: Format.said(name).slice(0, narrow ? 14 : 17), fill: soft, font: `11px ${getComputedStyle(document.body).fontFamily}`, verticalAlign: "top" },
      })),
      dataZoom: Charts.zoom(Slots, [0, 1], 14),
      series: [
        { id: "queue", type: "line", step: "end", showSymbol: false, symbol: "none", silent: true, data: steps, lineStyle: { color: ink, width: 1 }, areaStyle: { color: soft, opacity: 0.25 }, sampling: "max" },
        Charts.series("faded", "bars", bars("faded"), { fill: faded }, { ...inLane, z: 2 }),
        ...Object.entries(palette.spans).map(([kind, color]) => Charts.series(kind, "bars", bars(kind), { fill: color }, { ...inLane, z: 3 })),
      ],
    };
  },

  middle(lane, lanes, top) {
    const room = Dom.id("slots-chart").clientHeight - top - 76;
    return top + ((lane + 0.5) * room) / lanes - 6;
  },

  /** The trial of the span under a point. */
  find(x, y) {
    const { place } = Slots, { spans } = Data.now.slots;
    if (!place || y < place.box.y || y > place.box.y + place.box.height) return null;
    const lane = Slots.lane(y);
    let best = null, least = 4;
    for (let k = 0; k < spans.begin.length; k += 1) {
      if (spans.lane[k] !== lane) continue;
      const scale = Data.perHour() / 3600, from = place.x(scale * (spans.begin[k] - Data.now.began)), to = place.x(scale * (spans.end[k] - Data.now.began));
      const far = x < from ? from - x : x > to ? x - to : 0;
      if (far < least) { least = far; best = spans.trial[k]; }
    }
    return Data.index.has(best) ? best : null;
  },

  lane: (y) => Math.round((y - Slots.place.y(0)) / (Slots.place.y(1) - Slots.place.y(0))),

  click: (ordinal) => Ledger.goTo(ordinal),

  beside(x, y) {
    const { place } = Slots;
    if (place && y > place.box.y && y < place.box.y + place.box.height) View.toggle("lane", Slots.lane(y));
  },

  describe() {
    const { lanes, spans, utilisation, queue_seconds: waited } = Data.now.slots;
    if (!spans.begin.length) return "Nothing has been measured yet.";
    const figure = Dom.id("utilisation");
    figure.textContent = utilisation === null ? "" : `busy ${(100 * utilisation).toFixed(1)} % of the time`;
    if (utilisation !== null) figure.dataset.value = utilisation;
    return `${Format.plural(lanes.length, "slot")}, ${Format.plural(spans.begin.length, "measurement")}.${waited === null ? "" : ` Half of the trials waited less than ${Format.span(waited)} for their first measurement.`} Gaps are idle time. Press a span for its trial, a gap for all trials of its slot.`;
  },
};
