"use strict";
// What is chosen: one filter for all panels, and how each panel shows it. The address keeps it, so that a link shows
// the same again. Whoever draws something registers with `View.on`, and is called whenever the choice changes.

const View = {
  outcome: new Set(), surface: new Set(), role: new Set(), lane: new Set(), // empty: all
  concern: null, // a concern's place in the list
  family: null, // ordinal
  range: null, // [x kind, from, to]
  find: "",
  x: "trials", color: "surface", frame: "steps", sort: ["ordinal", "down"], page: 0, open: new Set(),
  mask: new Uint8Array(0), shown: 0,
  known: false, // whether the address has been read
  listeners: [],

  on(listener) { View.listeners.push(listener); },

  /** `what`: "filter" if other trials are shown, else the name of what changed. Other trials are chosen at once, and
   * shown in the next frame: keys that come faster than frames are shown once. */
  changed(what) {
    if (what === "filter") {
      View.page = 0;
      View.weigh();
      View.asked ||= requestAnimationFrame(View.shownAnew);
    } else View.tell(what);
    clearTimeout(View.later);
    View.later = setTimeout(View.remember, 150);
  },

  shownAnew() {
    View.asked = 0;
    View.tell("filter");
    Seen.renew();
  },

  tell(what) { for (const listener of View.listeners) listener(what); },

  filtered() {
    return View.outcome.size + View.surface.size + View.role.size + View.lane.size > 0 || View.concern !== null
      || View.family !== null || View.range !== null || View.find !== "";
  },

  toggle(kind, key) {
    if (View[kind].has(key)) View[kind].delete(key); else View[kind].add(key);
    View.changed("filter");
  },

  set(kind, value) { View[kind] = value; View.changed("filter"); },

  clear() {
    for (const kind of ["outcome", "surface", "role", "lane"]) View[kind].clear();
    View.concern = View.family = View.range = null;
    View.find = "";
    View.changed("filter");
  },

  /** Which trials pass the filter. */
  weigh() {
    const { outcome, surface, role, ordinal, id } = Data.now.marks, count = Data.count, mask = new Uint8Array(count).fill(1);
    const keep = (passes) => { for (let i = 0; i < count; i += 1) if (mask[i] && !passes(i)) mask[i] = 0; };
    if (View.outcome.size) keep((i) => View.outcome.has(outcome[i]));
    if (View.surface.size) keep((i) => View.surface.has(surface[i] || "none"));
    if (View.role.size) keep((i) => View.role.has(role[i] || "none"));
    if (View.lane.size) keep((i) => [...View.lane].some((lane) => Data.ofLane[lane] && Data.ofLane[lane].has(ordinal[i])));
    if (View.concern !== null) {
      const concern = Data.now.concerns[View.concern], ids = new Set(concern ? concern.trials : []);
      keep((i) => ids.has(id[i]));
    }
    if (View.family !== null) { const family = Data.family(View.family); keep((i) => family.has(ordinal[i])); }
    if (View.range !== null) {
      const [kind, from, to] = View.range;
      keep((i) => { const x = Data.x(kind, i); return x !== null && x >= from && x <= to; });
    }
    const words = View.find.toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length) keep((i) => words.every((word) => Data.text(i).includes(word)));
    View.mask = mask;
    View.shown = mask.reduce((sum, one) => sum + one, 0);
  },

  /** The address of this view, and back. Names are those of agents, and may hold anything: each is escaped. */
  written() {
    const said = new URLSearchParams();
    for (const kind of ["outcome", "surface", "role", "lane"]) for (const key of View[kind]) said.append(kind, key);
    if (View.concern !== null) said.set("concern", View.concern);
    if (View.family !== null) said.set("family", View.family);
    if (View.range !== null) said.set("range", View.range.join("~"));
    if (View.find) said.set("find", View.find);
    if (View.x !== "trials") said.set("x", View.x);
    if (View.color !== "surface") said.set("color", View.color);
    if (View.frame !== "steps") said.set("frame", View.frame);
    if (View.sort.join() !== "ordinal,down") said.set("sort", View.sort.join("~"));
    if (View.page) said.set("page", View.page + 1);
    if (View.open.size) said.set("open", [...View.open].join("~"));
    return said.toString();
  },

  remember() {
    const said = View.written();
    if (said === location.hash.slice(1)) return;
    try { history.replaceState(null, "", said ? `#${said}` : location.pathname + location.search); } catch { location.hash = said; }
  },

  recall() {
    const said = new URLSearchParams(location.hash.slice(1)), whole = (text) => (/^\d+$/.test(text || "") ? Number(text) : null);
    const one = (name, allowed, otherwise) => (allowed.includes(said.get(name)) ? said.get(name) : otherwise);
    for (const kind of ["outcome", "surface", "role"]) View[kind] = new Set(said.getAll(kind));
    View.lane = new Set(said.getAll("lane").map(whole).filter((lane) => lane !== null));
    View.concern = whole(said.get("concern"));
    View.family = whole(said.get("family"));
    const [kind, from, to] = (said.get("range") || "").split("~");
    const range = [Number(from), Number(to)];
    View.range = ["trials", "time", "compute", "cost"].includes(kind) && range.every(Number.isFinite) ? [kind, ...range] : null;
    View.find = said.get("find") || "";
    View.x = one("x", ["trials", "time", "compute", "cost"], "trials");
    View.color = one("color", ["surface", "role"], "surface");
    View.frame = one("frame", ["steps", "all"], "steps");
    const [key, way] = (said.get("sort") || "ordinal~down").split("~");
    View.sort = [key, way === "up" ? "up" : "down"];
    View.open = new Set((said.get("open") || "").split("~").map(whole).filter((ordinal) => ordinal !== null));
    View.known = true;
    View.weigh();
    View.page = Math.max(0, (whole(said.get("page")) || 1) - 1);
  },
};
