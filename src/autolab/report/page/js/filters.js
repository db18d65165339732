"use strict";
// The controls of the one filter: legends, the bar with what is chosen, the keys.

const Filters = {
  start() {
    Filters.legends();
    Filters.show();
    document.addEventListener("click", Filters.clicked);
    document.addEventListener("keydown", Filters.pressed);
    Dom.id("find").addEventListener("input", (event) => View.set("find", event.target.value.trim()));
    Dom.id("clear").addEventListener("click", View.clear);
    Dom.id("frame").addEventListener("click", () => { View.frame = View.frame === "all" ? "steps" : "all"; View.changed("frame"); });
    for (const side of ["from", "to"]) Dom.id(side).addEventListener("change", Filters.typed);
    addEventListener("hashchange", () => {
      if (View.written() === location.hash.slice(1)) return;
      View.recall();
      const page = View.page;
      for (const what of ["x", "sort"]) for (const listener of View.listeners) listener(what);
      View.changed("filter");
      View.page = page;
      View.changed("page");
    });
    View.on((what) => {
      if (what === "data" || what === "color") Filters.legends();
      Filters.show();
    });
  },

  legends() {
    const counts = new Map();
    for (const outcome of Data.now.marks.outcome) counts.set(outcome, (counts.get(outcome) || 0) + 1);
    const order = ["certified", "confirmed", "simplification", "provisional", "no_difference", "worse", "demoted", "baseline"];
    const place = (outcome) => (order.includes(outcome) ? order.indexOf(outcome) : 99);
    const outcomes = [...counts].sort((a, b) => place(a[0]) - place(b[0]) || b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
    Dom.fill(Dom.id("outcomes"), outcomes.map(([outcome, count]) => Filters.button("outcome", outcome, Format.words(outcome), count, Charts.mark(outcome))));
    const dot = Data.now.palette.paths.no_difference;
    Dom.fill(Dom.id("groups"), Charts.groups(View.color).slice(0, 40).map(({ name, count, color }) => Filters.button(View.color, name, Format.said(name).slice(0, 40), count, Dom.mark(dot, color))));
    Dom.fill(Dom.id("lanes"), Data.now.slots.lanes.slice(0, 64).map((name, lane) => Filters.button("lane", lane, Format.said(name), Data.ofLane[lane].size, null)).concat(
      Object.entries(Data.now.palette.spans).map(([kind, color]) => Dom.el("span", { class: "key" }, [Dom.mark(Data.now.palette.paths.simplification, color), ` ${kind} `]))));
  },

  button: (kind, key, name, count, mark) => Dom.el("button", { type: "button", data: { filter: kind, key }, "aria-pressed": "false" }, [mark, Dom.el("span", { class: "said", text: name }), Dom.el("span", { class: "n", text: Format.count(count) })]),

  /** What is chosen, everywhere where it can be chosen. */
  show() {
    for (const button of document.querySelectorAll(".legend [data-filter]")) {
      const { filter, key } = button.dataset;
      button.setAttribute("aria-pressed", String(View[filter].has(filter === "lane" ? Number(key) : key)));
    }
    for (const button of document.querySelectorAll("[data-x]")) button.setAttribute("aria-pressed", String(button.dataset.x === View.x));
    for (const button of document.querySelectorAll("[data-color]")) button.setAttribute("aria-pressed", String(button.dataset.color === View.color));
    Dom.id("frame").setAttribute("aria-pressed", String(View.frame === "all"));
    const [from, to] = View.range && View.range[0] === View.x ? View.range.slice(1).map((at) => Filters.short(at * Data.scale(View.x))) : ["", ""];
    for (const [side, value] of [["from", from], ["to", to]]) if (document.activeElement !== Dom.id(side)) Dom.id(side).value = value;
    Dom.id("range-unit").textContent = Data.unit(View.x);
    if (document.activeElement !== Dom.id("find")) Dom.id("find").value = View.find;
    const filtered = View.filtered();
    Dom.fill(Dom.id("count"), filtered ? [Dom.el("b", { text: Format.count(View.shown) }), ` of ${Format.plural(Data.count, "trial")}`] : [Format.plural(Data.count, "trial")]);
    Dom.fill(Dom.id("chips"), Filters.chips().map(([words, drop]) => Dom.el("button", { type: "button", text: `${words} ✕`, "aria-label": `Remove the filter ${words}`, on: { click: drop } })));
    Dom.id("clear").hidden = !filtered;
  },

  chips() {
    const sets = ["outcome", "surface", "role", "lane"].flatMap((kind) => [...View[kind]].map((key) =>
      [`${kind === "outcome" || kind === "lane" ? "" : `${kind} `}${kind === "lane" ? Format.said(Data.now.slots.lanes[key] ?? `slot ${key}`) : Format.words(Format.said(key)).slice(0, 60)}`, () => View.toggle(kind, key)]));
    const concern = View.concern === null ? null : Data.now.concerns[View.concern], family = Data.index.get(View.family);
    return [
      ...sets,
      ...(View.concern === null ? [] : [[`concern: ${concern ? Format.said(concern.text).slice(0, 50) : "gone"}`, () => View.set("concern", null)]]),
      ...(View.family === null ? [] : [[`family of ${family === undefined ? View.family : Data.now.marks.id[family]}`, () => View.set("family", null)]]),
      ...(View.range === null ? [] : [[`${Data.unit(View.range[0])} ${View.range.slice(1).map((at) => Filters.short(at * Data.scale(View.range[0]))).join(" to ").trim()}`, () => View.set("range", null)]]),
      ...(View.find ? [[`“${Format.said(View.find)}”`, () => { Dom.id("find").value = ""; View.set("find", ""); }]] : []),
    ];
  },

  short: (value) => (value < 1e8 ? Number(value.toPrecision(4)) : ""),

  typed() {
    const read = (side, otherwise) => { const value = parseFloat(Dom.id(side).value); return Number.isFinite(value) ? value / Data.scale(View.x) : otherwise; };
    const empty = !Dom.id("from").value && !Dom.id("to").value;
    View.set("range", empty ? null : [View.x, read("from", 0), read("to", 1e9)]);
  },

  clicked(event) {
    const button = event.target.closest("[data-filter], [data-open], [data-open-id], [data-x], [data-color]");
    if (!button || button.disabled) return;
    const { filter, key, open, openId, x, color } = button.dataset;
    if (filter === "concern") View.set("concern", View.concern === Number(key) ? null : Number(key));
    else if (filter) View.toggle(filter, filter === "lane" ? Number(key) : key);
    else if (open !== undefined) Ledger.goTo(Number(open));
    else if (openId !== undefined) Ledger.goTo(Data.now.marks.ordinal[Data.byId.get(openId)]);
    else if (x) { View.x = x; View.changed("x"); }
    else if (color) { View.color = color; View.changed("color"); }
  },

  pressed(event) {
    const typing = event.target.closest("input, textarea");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      Dom.id("find").focus();
      Dom.id("find").select();
    } else if (event.key === "Escape") {
      if (typing && typing.id === "find" && View.find) { typing.value = ""; View.set("find", ""); }
      else if (typing) typing.blur();
      else if (View.filtered()) View.clear();
    }
  },
};
