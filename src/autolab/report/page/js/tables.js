"use strict";
// The tables that stand in the page as it was written: what a filter leaves of them, and, in a live page, what has
// become of them. Written anew they are the same, cell by cell, as page.html.j2 writes them.

const Tables = {
  FIRST: 8, // rows of a list that are seen without asking
  MORE: 20, // dead ends that each press adds
  ends: 8, // dead ends that are seen now

  start() {
    for (const button of document.querySelectorAll("[data-more]")) button.addEventListener("click", () => Tables.more(button));
    for (const row of [...Tables.body("dead_ends").rows].slice(Tables.ends)) row.remove(); // written anew when asked for
    for (const [id, update] of [["attention", Tables.attention], ["under-way", Tables.underWay], ["staircase", Tables.climbs], ["learned", Tables.learned]]) Seen.add(Dom.id(id), update);
    View.on((what) => {
      if (what === "data") { Tables.renew(); Tables.filter(); }
    });
    Tables.filter();
  },

  body: (name) => document.querySelector(`[data-table="${name}"]`).tBodies[0],
  number: (name, exact, text) => Dom.el("td", { class: "n", text, data: { label: name, value: exact === null ? null : String(exact) } }),
  said: (text, label = null) => Dom.el("td", { class: "said", text: Format.said(text), data: { label } }),
  outcome: (state) => Dom.el("td", { class: "outcome" }, [Charts.mark(state), ` ${Format.words(state)}`]),
  opener: (ordinal, id) => Dom.el("button", { type: "button", class: "link id", text: id, data: { open: ordinal } }),

  // what a filter leaves -------------------------------------------------------------------------------

  filter() {
    for (const update of [Tables.attention, Tables.underWay, Tables.climbs, Tables.learned]) update();
  },

  passes(ordinal) {
    const i = Data.index.get(ordinal);
    return !View.filtered() || (i !== undefined && View.mask[i] === 1);
  },

  attention() {
    for (const row of Tables.body("attention").rows) {
      const { trials } = Data.now.concerns[Number(row.dataset.place)], button = row.querySelector("button");
      row.classList.toggle("aside", View.filtered() && !trials.some((id) => View.mask[Data.byId.get(id)]));
      if (button) button.setAttribute("aria-pressed", String(View.concern === Number(row.dataset.place)));
    }
    Tables.fold("attention");
  },

  underWay() {
    for (const row of Tables.body("under_way").rows) row.hidden = !Tables.passes(Number(row.dataset.ordinal));
    Tables.fold("under_way");
  },

  climbs() {
    for (const row of Tables.body("climbs").rows) row.classList.toggle("aside", !Tables.passes(Number(row.dataset.ordinal)));
    Tables.fold("climbs");
  },

  /** Long lists begin with what is gravest; the rest is a press away, and on paper. */
  fold(name) {
    const button = document.querySelector(`[data-more="${name}"]`), rows = [...Tables.body(name).rows].filter((row) => !row.hidden);
    const folded = rows.length > Tables.FIRST + 1 && !button.dataset.all;
    rows.forEach((row, k) => row.classList.toggle("folded", folded && k >= Tables.FIRST));
    button.hidden = !folded;
    button.textContent = `Show ${rows.length - Tables.FIRST} more`;
  },

  more(button) {
    if (button.dataset.more === "dead_ends") { Tables.ends += Tables.MORE; Tables.deadEnds(); return; }
    button.dataset.all = "true";
    Tables.fold(button.dataset.more);
  },

  /** There are hundreds: only those that are seen are in the page. */
  deadEnds() {
    const passing = Data.now.learned.dead_ends.filter((end) => Tables.passes(Data.now.marks.ordinal[Data.byId.get(end.trial)]));
    const some = passing.slice(0, Charts.printing ? passing.length : Tables.ends), button = document.querySelector('[data-more="dead_ends"]');
    const drawn = some.map((end) => end.trial).join(), body = Tables.body("dead_ends");
    if (drawn !== [...body.rows].map((row) => row.dataset.id).join()) Dom.fill(body, some.map(Tables.deadEnd));
    button.hidden = some.length === passing.length;
    button.textContent = `Show ${Math.min(Tables.MORE, passing.length - some.length)} of ${passing.length - some.length} more`;
  },

  /** Groups of what is chosen, counted from the trials themselves; of all, as they were counted by the lab. */
  learned() {
    const said = Dom.id("learned-said"), all = !View.filtered();
    Tables.deadEnds();
    said.hidden = all;
    said.textContent = all ? "" : `Of the ${Format.plural(View.shown, "trial")} chosen:`;
    if (all && Tables.whole) return;
    Tables.whole = all;
    for (const [kind, rows] of [["surface", Data.now.learned.by_surface], ["role", Data.now.learned.by_role]]) {
      Dom.fill(Tables.body(kind), (all ? rows : Tables.count(kind)).map((row) => Tables.group(kind, row)));
    }
  },
  whole: true, // as it was written

  count(kind) {
    const m = Data.now.marks, groups = new Map(), gains = new Map();
    for (const climb of Data.now.climbs) if (!["baseline", "demotion"].includes(climb.kind) && climb.state !== "demoted") gains.set(climb.trial, climb.gain);
    for (let i = 0; i < Data.count; i += 1) {
      if (!View.mask[i] || m.ordinal[i] === 0 || !m.status[i]) continue;
      const name = m[kind][i] || "none", outcome = m.outcome[i];
      if (!groups.has(name)) groups.set(name, { name, trials: 0, valid: 0, promoted: 0, provisional: 0, no_difference: 0, worse: 0, demoted: 0, failed: 0, gain: 0, compute_hours: 0, dollars: 0 });
      const group = groups.get(name);
      group.trials += 1;
      group.valid += m.status[i] === "ok";
      group.promoted += gains.has(m.ordinal[i]);
      if (["provisional", "no_difference", "worse", "demoted"].includes(outcome)) group[outcome] += 1;
      group.failed += !["ok", "duplicate", "infra_error"].includes(m.status[i]);
      group.gain += gains.get(m.ordinal[i]) || 0;
      group.compute_hours += m.slot_seconds[i] / 3600;
      group.dollars += m.dollars[i];
    }
    return [...groups.values()].sort((a, b) => b.trials - a.trials || (a.name < b.name ? -1 : 1));
  },

  group(kind, row) {
    const { number } = Tables, per = (what) => (what ? row.gain / what : null);
    const shown = (what) => Format.rounded(what && row.gain ? row.gain / what : null);
    return Dom.el("tr", { data: { name: Format.said(row.name) } }, [
      Dom.el("th", { scope: "row" }, [Dom.el("button", { type: "button", class: "link said", text: Format.said(row.name), "aria-pressed": String(View[kind].has(row.name)), data: { filter: kind, key: row.name } })]),
      number("trials", row.trials, row.trials),
      number("valid", row.valid, row.valid + Format.share(row.valid, row.trials)),
      number("promoted", row.promoted, row.promoted + Format.share(row.promoted, row.trials)),
      ...["provisional", "no_difference", "worse", "demoted", "failed"].map((name) => number(Format.words(name), row[name], row[name])),
      number("gain", row.gain, row.promoted ? Format.signed(row.gain, Data.now.digits) : ""),
      number("compute", row.compute_hours, Format.rounded(row.compute_hours)),
      number("gain per hour", per(row.compute_hours), shown(row.compute_hours)),
      number("cost", row.dollars, Format.money(row.dollars)),
      number("gain per $", per(row.dollars), shown(row.dollars)),
    ]);
  },

  // what has changed -----------------------------------------------------------------------------------

  renew() {
    const { concerns, under_way: underWay, climbs, learned, digits, began } = Data.now, { number, opener } = Tables;
    const { said, outcome } = Tables;
    Tables.headline();
    Dom.id("all-well").hidden = concerns.length > 0;
    Tables.body("attention").parentElement.hidden = !concerns.length;
    Dom.fill(Tables.body("attention"), concerns.map((concern, place) => Dom.el("tr", { data: { kind: concern.kind, place } }, [
      Dom.el("td", { data: { label: "how grave" } }, [Dom.el("span", { class: `level ${concern.level}`, text: concern.level })]),
      said(concern.text, "what"),
      Dom.el("td", { data: { label: "trials", value: concern.trials.length } }, [concern.trials.length ? Dom.el("button", { type: "button", class: "link", text: `${concern.trials.length} trial${concern.trials.length === 1 ? "" : "s"}`, data: { filter: "concern", key: place } }) : null]),
      Dom.el("td", { class: concern.mend ? "" : "none", data: { label: "what to do" } }, [concern.mend ? Dom.el("code", { class: "said", text: Format.said(concern.mend) }) : null]),
    ])));
    Dom.id("under-way").hidden = !underWay.length;
    Dom.fill(Tables.body("under_way"), underWay.map((trial) => Dom.el("tr", { data: { ordinal: trial.ordinal } }, [
      Dom.el("td", { data: { label: "trial" } }, [opener(trial.ordinal, trial.id)]), Dom.el("td", { data: { label: "state" } }, [Charts.mark(trial.state), ` ${Format.words(trial.state)}`]),
      Dom.el("td", { class: trial.slot ? "" : "none", text: Format.said(trial.slot), data: { label: "slot" } }), number("for", trial.seconds, Format.span(trial.seconds)),
      Dom.el("td", { class: `said${trial.hypothesis ? "" : " none"}`, text: Format.said(trial.hypothesis).slice(0, 300), data: { label: "hypothesis" } }),
    ])));
    Dom.id("no-climbs").hidden = climbs.length > 0;
    Tables.body("climbs").parentElement.parentElement.hidden = !climbs.length;
    Dom.fill(Tables.body("climbs"), [...climbs].reverse().map((climb) => Dom.el("tr", { data: { ordinal: climb.trial, kind: climb.kind } }, [
      Dom.el("td", {}, [opener(climb.trial, climb.id)]), Dom.el("td", { text: climb.kind }), outcome(climb.state), number("score", climb.score, Format.number(climb.score, digits)),
      Dom.el("td", { class: "n", text: `${Format.number(climb.low, digits)} – ${Format.number(climb.high, digits)}`, data: { low: String(climb.low), high: String(climb.high) } }),
      number("gain", climb.gain, climb.kind === "baseline" ? "" : Format.signed(climb.gain, digits)), number("place", climb.place, climb.place),
      number("time", climb.at - began, Format.span(climb.at - began)), number("compute", climb.compute_hours, Format.rounded(climb.compute_hours)),
      number("cost", climb.spent_dollars, Format.money(climb.spent_dollars)), Dom.el("td", { class: "said why", text: Format.said(climb.reason) }),
    ])));
    Dom.id("no-dead-ends").hidden = learned.dead_ends.length > 0;
    Tables.body("dead_ends").parentElement.parentElement.hidden = !learned.dead_ends.length;
    Dom.fill(Tables.body("dead_ends"), []); // what stands there may say something else now
    Tables.whole = false;
  },

  deadEnd: (end) => Dom.el("tr", { data: { id: end.trial } }, [
    Tables.said(end.surface), Dom.el("td", {}, [Dom.el("button", { type: "button", class: "link id", text: end.trial, data: { openId: end.trial } })]),
    Dom.el("td", { class: "said why", text: Format.said(end.hypothesis).slice(0, 300) }), Tables.outcome(end.outcome),
    Dom.el("td", { class: "said", text: Format.said(end.evidence).slice(0, 300) }), Dom.el("td", { text: end.expires || "taken back by hand" }),
  ]),

  headline() {
    const { headline, digits, state, now } = Data.now;
    const written = {
      before: Format.number(headline.before, digits) || "–", score: Format.number(headline.score, digits) || "–", low: Format.number(headline.low, digits), high: Format.number(headline.high, digits),
      state: Format.words(headline.state) || "–", confidence: headline.confidence === null ? "" : String(Number((100 * headline.confidence).toPrecision(6))), promotions: headline.promotions, demotions: headline.demotions,
      trials: Format.count(headline.trials), under_way: headline.under_way, seconds: Format.span(headline.seconds), compute_hours: Format.rounded(headline.compute_hours),
      dollars: Format.money(headline.dollars), tokens: Format.count(headline.tokens),
    };
    Dom.id("sentence").textContent = Format.said(headline.sentence).replaceAll(" %", "\u00a0%");
    for (const place of document.querySelectorAll("[data-fact]")) {
      const name = place.dataset.fact;
      place.textContent = written[name];
      if (name !== "state" && headline[name] !== null) place.dataset.value = String(headline[name]);
    }
    Dom.id("state").dataset.state = state;
    Dom.id("state").textContent = Format.words(state);
    document.querySelector("#as-of time").textContent = Format.moment(now);
  },
};
