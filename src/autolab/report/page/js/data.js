"use strict";
// The campaign as the page knows it: `Data.now` is the overview, `marks` and `spans` are columns. Places in the columns
// are called `i`; a trial's ordinal is its name elsewhere. Until `Data.complete` there are only the columns that the
// staircase needs: the rest of the page is not read yet.

const Data = {
  now: JSON.parse(document.getElementById("data").textContent),
  index: new Map(), // ordinal -> i
  byId: new Map(), // id -> i
  haystack: [], // what a search looks through, made when it is first asked for
  ofLane: [], // lane -> set of ordinals

  /** After the overview has changed. */
  settle() {
    const marks = Data.now.marks, spans = Data.now.slots.spans;
    Data.count = marks.ordinal.length;
    Data.index = new Map(marks.ordinal.map((ordinal, i) => [ordinal, i]));
    Data.byId = new Map((marks.id || []).map((id, i) => [id, i]));
    Data.haystack = [];
    Data.ofLane = Data.now.slots.lanes.map(() => new Set());
    spans.trial.forEach((trial, k) => Data.ofLane[spans.lane[k]].add(trial));
  },

  /** The rest of the columns: everything but the staircase needs them. */
  complete() {
    const { marks, spans } = JSON.parse(Dom.id("rest").textContent);
    Object.assign(Data.now.marks, marks);
    Data.now.slots.spans = spans;
    Data.settle();
  },

  /** What came since; see report/live. */
  apply(change) {
    const now = Data.now, marks = now.marks, spans = now.slots.spans;
    for (const mark of change.marks) {
      const place = Data.index.has(mark.ordinal) ? Data.index.get(mark.ordinal) : marks.ordinal.length;
      Data.index.set(mark.ordinal, place);
      for (const name of Object.keys(marks)) marks[name][place] = mark[name];
    }
    Data.sort(marks);
    for (const name of Object.keys(spans)) {
      spans[name].length = change.spans.from;
      for (const span of change.spans.items) spans[name].push(span[name]);
    }
    const { marks: _marks, spans: _spans, slots, ...rest } = change;
    Object.assign(now, rest);
    Object.assign(now.slots, slots);
    Data.settle();
  },

  /** By ordinal, whatever order they came in: parents stand before their children. */
  sort(marks) {
    const { ordinal } = marks;
    if (ordinal.every((one, i) => i === 0 || ordinal[i - 1] < one)) return;
    const order = ordinal.map((_, i) => i).sort((a, b) => ordinal[a] - ordinal[b]);
    for (const name of Object.keys(marks)) marks[name] = order.map((i) => marks[name][i]);
    marks.ordinal.forEach((one, i) => Data.index.set(one, i));
  },

  /** Where a trial lies on the x axis: its place, or hours, compute hours or dollars; null if it has not ended. */
  x(kind, i) {
    const marks = Data.now.marks;
    if (marks.place[i] === null) return null;
    if (kind === "time") return (marks.finished_at[i] - Data.now.began) / 3600;
    if (kind === "compute") return marks.compute_hours[i];
    return kind === "cost" ? marks.spent_dollars[i] : marks.place[i];
  },

  xOfClimb(kind, climb) {
    if (kind === "time") return (climb.at - Data.now.began) / 3600;
    if (kind === "compute") return climb.compute_hours;
    return kind === "cost" ? climb.spent_dollars : climb.place;
  },

  /** What times an hour is on a chart: short campaigns are drawn in minutes. */
  perHour: () => (Data.now.headline.seconds < 7200 ? 60 : 1),
  scale: (kind) => (kind === "time" ? Data.perHour() : 1),
  unit: (kind) => ({ trials: "trials", time: Data.perHour() === 60 ? "minutes" : "hours", compute: Data.now.headline.compute_unit, cost: "$" }[kind]),
  xName(kind) {
    return { trials: "trials, in the order in which they finished", time: `${Data.unit("time")} since the campaign began`,
      compute: `${Data.now.headline.compute_unit} spent`, cost: "US dollars spent" }[kind];
  },

  text(i) {
    if (!Data.haystack.length) {
      const m = Data.now.marks;
      Data.haystack = m.id.map((id, k) =>
        [id, m.hypothesis[k], m.outcome[k], Format.words(m.outcome[k]), m.surface[k], m.role[k], m.agent[k]].join("\n").toLowerCase());
    }
    return Data.haystack[i];
  },

  /** Ordinals of a trial, of all that it comes from, and of all that come from it. */
  family(ordinal) {
    const { ordinal: ordinals, parent } = Data.now.marks, found = new Set();
    for (let at = ordinal; at !== null && at !== undefined && !found.has(at); at = parent[Data.index.get(at)]) found.add(at);
    const below = new Set([ordinal]);
    for (let i = 0; i < ordinals.length; i += 1) if (below.has(parent[i])) below.add(ordinals[i]); // parents come first
    for (const one of below) found.add(one);
    return found;
  },

  /** The master now and all that it comes from, the newest first. */
  line() {
    const climbs = Data.now.climbs, parent = Data.now.marks.parent, found = [];
    if (!climbs.length) return found;
    for (let at = climbs[climbs.length - 1].trial; at !== null && at !== undefined && !found.includes(at); at = parent[Data.index.get(at)]) found.push(at);
    return found;
  },

  opened: new Map(), // piece -> promise of its details

  /** What an opened row shows: from the page, or from the server of a live one. */
  async detail(ordinal) {
    if (Data.now.nonce) {
      const answer = await fetch(`/trial/${ordinal}`);
      if (!answer.ok) throw new Error(`the lab answered ${answer.status}`);
      return answer.json();
    }
    const piece = Math.floor(ordinal / Data.now.per_piece);
    if (!Data.opened.has(piece)) Data.opened.set(piece, Data.unpack(piece));
    return (await Data.opened.get(piece))[ordinal];
  },

  async unpack(piece) {
    const held = Dom.id(`details-${piece}`);
    if (!held) return {};
    const bytes = Uint8Array.from(atob(held.textContent), (sign) => sign.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).json();
  },
};
Data.settle();
