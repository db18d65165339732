"use strict";
// Light or dark: as the system, or as somebody chose here.

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
