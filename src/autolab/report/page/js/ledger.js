"use strict";
// All trials as a table, a page of them at a time: sorted by any column, filtered with everything else.

const Ledger = {
  ROWS: 25,
  // name, title, kind, on narrow screens too; text columns sort as text
  COLUMNS: [
    ["ordinal", "trial", "id", true], ["outcome", "outcome", "outcome", true], ["score", "score", "score", true], ["low", "95 % interval", "interval", false],
    ["delta", "against master", "delta", true], ["hypothesis", "hypothesis", "hypothesis", true], ["surface", "surface", "words", false], ["role", "role", "words", false], ["agent", "agent", "words", false],
    ["parent", "from", "parent", false], ["measurements", "runs", "count", false], ["train_seconds", "training", "seconds", false], ["eval_seconds", "evaluation", "seconds", false],
    ["peak_memory_mb", "memory", "memory", false], ["tokens", "tokens", "count", false], ["dollars", "cost", "money", false], ["finished_at", "finished", "time", false],
  ],

  start() {
    Dom.fill(Dom.id("trials").tHead, [Dom.el("tr", {}, Ledger.COLUMNS.map(([name, title, kind, narrow]) =>
      Dom.el("th", { scope: "col", class: `${Ledger.right(kind) ? "n" : ""}${narrow ? " short" : ""}`, data: { column: name } }, [Dom.el("button", { type: "button", text: title, on: { click: () => Ledger.sortBy(name) } })])))]);
    for (const held of document.querySelectorAll("[data-pager]")) {
      Dom.fill(held, [
        Dom.el("span", { class: "where" }),
        Dom.el("button", { type: "button", class: "back", text: "Back", on: { click: () => Ledger.turn(-1) } }),
        Dom.el("button", { type: "button", class: "on", text: "On", on: { click: () => Ledger.turn(1) } }),
      ]);
    }
    Dom.id("trials").tBodies[0].addEventListener("click", (event) => {
      const row = event.target.closest("tr.row");
      if (row && !getSelection().toString()) Ledger.toggle(Number(row.dataset.ordinal));
    });
    Dom.id("trials").style.setProperty("--digits", Data.now.digits); // of scores, for the width of their columns
    Ledger.draw();
    Seen.add(Dom.id("ledger"), Ledger.draw);
    const room = Dom.id("trials").parentElement; // opened rows are as wide as what is seen of the table
    new ResizeObserver(() => room.style.setProperty("--room", `${room.clientWidth}px`)).observe(room);
    View.on((what) => {
      if (what === "data" || what === "sort") Ledger.order = null;
      if (["sort", "page", "open", "data"].includes(what)) Ledger.draw();
    });
  },

  right: (kind) => ["score", "interval", "delta", "count", "seconds", "memory", "money"].includes(kind),

  sortBy(name) {
    const [key, way] = View.sort;
    View.sort = [name, key === name && way === "up" ? "down" : key === name ? "up" : ["ordinal", "finished_at", "delta", "dollars", "tokens"].includes(name) ? "down" : "up"];
    View.page = 0;
    View.changed("sort");
  },

  /** Places of all trials in the order asked for; those without a value come last, whichever way. */
  sorted() {
    if (Ledger.order) return Ledger.order;
    const [asked, way] = View.sort, key = asked in Data.now.marks ? asked : "ordinal", values = Data.now.marks[key], sign = way === "down" ? -1 : 1;
    const none = (value) => value === null || value === "", ordinal = Data.now.marks.ordinal;
    Ledger.order = Array.from({ length: Data.count }, (_, i) => i).sort((a, b) => {
      if (none(values[a]) || none(values[b])) return none(values[a]) - none(values[b]) || ordinal[b] - ordinal[a];
      return values[a] < values[b] ? -sign : values[a] > values[b] ? sign : ordinal[b] - ordinal[a];
    });
    return Ledger.order;
  },

  shown: () => Ledger.sorted().filter((i) => View.mask[i]),

  turn(by) { View.page += by; View.changed("page"); },

  toggle(ordinal) {
    if (View.open.has(ordinal)) View.open.delete(ordinal); else View.open.add(ordinal);
    View.changed("open");
  },

  /** Open a trial's row and bring it into sight; a filter that hides it is cleared. */
  goTo(ordinal) {
    const i = Data.index.get(ordinal);
    if (i === undefined) return;
    if (!View.mask[i]) View.clear();
    View.open.add(ordinal);
    View.page = Math.floor(Ledger.shown().indexOf(i) / Ledger.ROWS);
    View.changed("page");
    const row = Dom.id("trials").querySelector(`tr[data-ordinal="${ordinal}"]`);
    row.scrollIntoView({ block: "start" });
    row.querySelector("button").focus({ preventScroll: true });
  },

  draw() {
    const shown = Ledger.shown(), pages = Math.max(1, Math.ceil(shown.length / Ledger.ROWS)), [key, way] = View.sort;
    View.page = Math.min(Math.max(0, View.page), pages - 1);
    const from = View.page * Ledger.ROWS, some = shown.slice(from, from + Ledger.ROWS), body = Dom.id("trials").tBodies[0];
    const kept = new Map([...body.querySelectorAll("tr.below")].map((row) => [Number(row.dataset.of), row]));
    const focused = document.activeElement && document.activeElement.closest("#trials tr.row") ? document.activeElement.closest("tr").dataset.ordinal : null;
    Dom.fill(body, some.length ? some.flatMap((i) => Ledger.rows(i, kept)) : [Dom.el("tr", {}, [Dom.el("td", { colspan: Ledger.COLUMNS.length, class: "note", text: Data.count ? "No trial passes the filter." : "There are no trials yet." })])]);
    if (focused !== null) body.querySelector(`tr[data-ordinal="${focused}"] button`)?.focus({ preventScroll: true });
    for (const head of Dom.id("trials").tHead.querySelectorAll("th")) {
      if (head.dataset.column === key) head.setAttribute("aria-sort", way === "up" ? "ascending" : "descending"); else head.removeAttribute("aria-sort");
    }
    for (const held of document.querySelectorAll("[data-pager]")) {
      held.querySelector(".where").textContent = shown.length ? `${Format.count(from + 1)} to ${Format.count(Math.min(from + Ledger.ROWS, shown.length))} of ${Format.count(shown.length)}` : "";
      held.querySelector(".back").disabled = View.page === 0;
      held.querySelector(".on").disabled = View.page >= pages - 1;
    }
  },

  /** The row of a trial, and what lies below it if it is open: the same element as before if there was one. */
  rows(i, kept) {
    const ordinal = Data.now.marks.ordinal[i], open = View.open.has(ordinal);
    const row = Dom.el("tr", { class: `row${open ? " open" : ""}`, data: { ordinal } }, Ledger.COLUMNS.map((column) => Ledger.cell(i, column, open)));
    if (!open) return [row];
    const below = kept.get(ordinal) || Dom.el("tr", { class: "below", id: `below-${ordinal}`, data: { of: ordinal } }, [Dom.el("td", { colspan: Ledger.COLUMNS.length, class: "opened" }, [Row.make(ordinal)])]);
    return [row, below];
  },

  cell(i, [name, , kind, narrow], open) {
    const m = Data.now.marks, value = m[name][i], digits = Data.now.digits, short = narrow ? " short" : "";
    const number = (text) => Dom.el("td", { class: `n ${kind}${short}`, text, data: { column: name, value: value === null ? null : String(value) } });
    if (kind === "id") {
      return Dom.el("td", { class: `short`, data: { column: name, value: m.id[i] } }, [Dom.el("button", { type: "button", class: "link id", text: m.id[i], "aria-expanded": String(open), "aria-controls": open ? `below-${m.ordinal[i]}` : null })]);
    }
    if (kind === "outcome") return Dom.el("td", { class: `outcome${short}`, data: { column: name, value } }, [Charts.mark(value), ` ${Format.words(value)}`]);
    if (kind === "interval") return Dom.el("td", { class: "n interval", data: { column: name, low: m.low[i] === null ? null : String(m.low[i]), high: m.high[i] === null ? null : String(m.high[i]) }, text: m.low[i] === null || m.high[i] === null ? "" : `${Format.number(m.low[i], digits)} – ${Format.number(m.high[i], digits)}` });
    if (kind === "parent") { const from = Data.index.get(value); return Dom.el("td", { class: "id", data: { column: name, value }, text: from === undefined ? "" : m.id[from] }); }
    if (kind === "score") return number(Format.number(value, digits));
    if (kind === "delta") return number(Format.signed(value, digits));
    if (kind === "seconds") return number(value ? Format.span(value) : "");
    if (kind === "memory") return number(value ? `${value.toFixed(0)} MB` : "");
    if (kind === "count") return number(value ? Format.count(value) : "");
    if (kind === "money") return number(value ? Format.money(value) : "");
    if (kind === "time") return number(value === null ? "" : Format.moment(value));
    return Dom.el("td", { class: `said ${kind}${short}`, data: { column: name }, title: kind === "words" && value.length > 24 ? Format.said(value).slice(0, 300) : null, text: Format.said(value).slice(0, 300) });
  },
};
