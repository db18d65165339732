"use strict";
// What an opened row shows of a trial.

const Row = {
  /** The content of an opened row; what is packed away follows as soon as it is unpacked. */
  make(ordinal) {
    const i = Data.index.get(ordinal), body = Dom.el("div", { class: "detail" });
    Dom.fill(body, [Dom.el("p", { class: "note whole", text: "unpacking …" })]);
    Data.detail(ordinal).then(
      (detail) => Dom.fill(body, detail ? Row.parts(i, detail) : [Dom.el("p", { class: "note whole", text: "Nothing more is known of this trial." })]),
      (error) => Dom.fill(body, [Dom.el("p", { class: "cut whole", text: `The details cannot be read: ${error.message}` })]),
    );
    return body;
  },

  parts(i, detail) {
    const m = Data.now.marks, cut = detail.cut || [], parent = Data.index.get(m.parent[i]);
    const links = [
      parent === undefined ? null : Dom.el("span", {}, ["from ", Row.link(m.id[parent]), " · "]),
      detail.children.length ? Dom.el("span", {}, ["tried on top of it: ", ...detail.children.slice(0, 30).flatMap((id) => [Row.link(id), " "]), detail.children.length > 30 ? `and ${detail.children.length - 30} more` : "", " · "]) : null,
      Dom.el("span", {}, [Dom.el("button", { type: "button", class: "link", text: "show its family", on: { click: () => View.set("family", m.ordinal[i]) } })]),
    ];
    return [
      Row.text("Hypothesis", m.hypothesis[i], "", "whole"),
      Row.text("Why it should work", detail.rationale, cut.includes("rationale") ? m.id[i] : ""),
      Row.text("Expected", detail.expected, cut.includes("expected") ? m.id[i] : ""),
      Row.text("What came of it", detail.note, cut.includes("note") ? m.id[i] : ""),
      detail.sources.length ? Dom.el("div", {}, [Dom.el("h3", { text: "Sources" }), Dom.el("ul", {}, detail.sources.map((source) => Dom.el("li", { class: "said" }, [Row.source(source)])))]) : null,
      Dom.el("div", { class: "whole" }, [Dom.el("h3", { text: "Lineage" }), Dom.el("div", {}, links)]),
      detail.patch ? Dom.el("div", { class: "whole" }, [Dom.el("h3", { text: "Patch, against its parent" }), Row.patch(detail.patch), cut.includes("patch") ? Row.cut("patch", `autolab diff ${m.id[i]}`) : null]) : null,
      detail.runs.length ? Dom.el("div", { class: "whole" }, [Dom.el("h3", { text: "Measurements" }), Row.runs(detail.runs)]) : null,
      Row.curves(detail.runs),
      ...detail.runs.filter((run) => run.log).map((run) => Dom.el("div", { class: detail.runs.length === 1 ? "whole" : "" }, [
        Dom.el("h3", { text: `End of the log: ${run.stage}, seed ${run.seed}` }),
        Dom.el("pre", { class: "log", tabindex: "0", role: "region", "aria-label": `Log of ${run.stage}, seed ${run.seed}`, text: Format.said(run.log) }),
      ])),
      cut.includes("log") ? Dom.el("div", { class: "whole" }, [Row.cut("logs", `autolab show ${m.id[i]}`)]) : null,
    ];
  },

  text(title, words, cut, kind = "") {
    if (!words) return null;
    return Dom.el("div", { class: kind }, [Dom.el("h3", { text: title }), Dom.el("p", { class: "said", text: Format.said(words) }), cut ? Row.cut("text", `autolab show ${cut}`) : null]);
  },

  cut: (what, command) => Dom.el("p", { class: "cut" }, [`The ${what} is cut here; `, Dom.el("code", { text: command }), " shows all."]),

  link: (id) => Dom.el("button", { type: "button", class: "link id", text: id, data: { openId: id } }),

  /** A source as an agent named it: a link only if it is an arXiv id or an https address, and nothing else. */
  source(source) {
    const words = source.trim(), arxiv = /^(?:arxiv:)?(\d{4}\.\d{4,5})(v\d+)?$/i.exec(words);
    let address = arxiv ? `https://arxiv.org/abs/${arxiv[1]}${arxiv[2] || ""}` : "";
    if (!address && /^https:\/\/[\x21-\x7e]+$/.test(words)) {
      try { const parsed = new URL(words); address = parsed.protocol === "https:" && !parsed.username ? parsed.href : ""; } catch { address = ""; }
    }
    return address ? Dom.el("a", { href: address, rel: "noreferrer noopener", target: "_blank", text: Format.said(words) }) : Format.said(source);
  },

  patch(text) {
    const code = Dom.el("code", { class: "language-diff-python diff-highlight", text: Format.said(text).trimEnd() });
    const held = Dom.el("pre", { class: "patch", tabindex: "0", role: "region", "aria-label": "Patch" }, [code]);
    try { Prism.highlightElement(code); } catch { code.textContent = Format.said(text); } // text it stays
    held.setAttribute("tabindex", "0");
    return held;
  },

  runs(runs) {
    const digits = Data.now.digits, exact = (value) => (value === null ? null : String(value));
    const number = (value, text) => Dom.el("td", { class: "n", text, data: { value: exact(value) } });
    const names = ["stage", "status", "score", "seed", "host", "time", "CPU", "memory", "evidence", "sandbox", "other metrics, cause"];
    return Dom.el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Measurements" }, [Dom.el("table", { data: { table: "runs" } }, [
      Dom.el("thead", {}, [Dom.el("tr", {}, names.map((name) => Dom.el("th", { scope: "col", text: name, class: ["score", "seed", "time", "CPU", "memory"].includes(name) ? "n" : "" })))]),
      Dom.el("tbody", {}, runs.map((run) => Dom.el("tr", {}, [
        Dom.el("td", { text: run.stage }), Dom.el("td", { text: Format.words(run.status) }), number(run.score, Format.number(run.score, digits)),
        number(run.seed, String(run.seed)), Dom.el("td", { class: "said", text: Format.said(run.host) }), number(run.seconds, Format.span(run.seconds)),
        number(run.cpu_seconds, Format.span(run.cpu_seconds)), number(run.memory_mb, `${run.memory_mb.toFixed(0)} MB`),
        Dom.el("td", { text: Format.words(run.evidence) }), Dom.el("td", { class: "said", text: Format.said(run.sandbox) }),
        Dom.el("td", { class: "said" }, [Format.said([...Object.entries(run.metrics).map(([name, value]) => `${name} ${typeof value === "number" ? Number(value.toPrecision(6)) : value}`), run.cause].filter(Boolean).join("; "))]),
      ]))),
    ])]);
  },

  /** Learning curves: what the recipe says of itself, which nothing is decided by. */
  curves(runs) {
    const drawn = runs.filter((run) => run.curve.length > 1);
    if (!drawn.length) return null;
    const held = Dom.el("div", { class: "curve" });
    requestAnimationFrame(() => {
      if (!held.clientWidth) return;
      const { soft } = Charts.inks_now(), { groups } = Data.now.palette, chart = echarts.init(held, null, { width: held.clientWidth, height: 220 });
      chart.setOption({
        animation: false, aria: { enabled: true, label: { description: `Learning curves of ${Format.plural(drawn.length, "run")}, as the recipe told them.` } },
        grid: { left: 56, right: 16, top: 12, bottom: 40 },
        xAxis: Charts.axis({ min: 0, max: 1, name: "progress of the training", nameGap: 24, splitLine: { show: false }, axisLabel: { color: soft, formatter: (value) => `${Math.round(100 * value)} %` } }),
        yAxis: Charts.axis({ scale: true }),
        series: drawn.map((run, k) => ({ type: "line", data: run.curve, showSymbol: run.curve.length < 30, symbolSize: 4, silent: true, lineStyle: { width: 1.6, color: groups[k % groups.length] }, itemStyle: { color: groups[k % groups.length] } })),
      });
      new ResizeObserver(() => held.clientWidth && chart.resize({ width: held.clientWidth, height: 220 })).observe(held);
    });
    return Dom.el("div", { class: "whole" }, [Dom.el("h3", { text: "Learning curve: the recipe's own claim, no evidence" }), held]);
  },
};
