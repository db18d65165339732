"use strict";
// The order in which the page comes to life: the staircase first, the rest when that has been drawn.

const Theme = {
  names: { "": "auto", light: "light", dark: "dark" },
  start() {
    let kept = "";
    try { kept = localStorage.getItem("autolab-colours") || ""; } catch { kept = ""; } // not everywhere on file://
    Theme.put(kept in Theme.names ? kept : "");
    Dom.id("theme").addEventListener("click", () => {
      const order = Object.keys(Theme.names), next = order[(order.indexOf(document.documentElement.dataset.theme || "") + 1) % order.length];
      try { localStorage.setItem("autolab-colours", next); } catch { /* it holds for this page only */ }
      Theme.put(next);
      Charts.redraw();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", Charts.redraw);
  },
  put(name) {
    if (name) document.documentElement.dataset.theme = name; else delete document.documentElement.dataset.theme;
    Dom.id("theme").textContent = `Colours: ${Theme.names[name]}`;
  },
};

/** Paper is light and has its own width. */
const Paper = {
  start() {
    addEventListener("beforeprint", () => Paper.turn(true));
    addEventListener("afterprint", () => Paper.turn(false));
  },
  turn(printing) {
    Charts.printing = printing;
    for (const panel of Charts.made) {
      const element = panel.chart.getDom();
      if (printing) panel.chart.resize({ width: 700, height: Math.min(element.clientHeight, 300) });
      else panel.chart.resize({ width: element.clientWidth, height: element.clientHeight });
    }
    Charts.redraw();
  },
};

document.documentElement.classList.add("scripted");
View.recall();
Theme.start();
Staircase.start();
performance.mark("staircase-drawn");
requestAnimationFrame(() => setTimeout(() => {
  for (const part of [Lineage, Slots, Ledger, Tables, Filters, Paper, Live]) part.start();
  document.documentElement.dataset.ready = "true";
}));
