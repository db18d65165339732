"use strict";
// The order in which the page comes to life: the staircase is there already, the rest follows when it has been seen.

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
    Tables.deadEnds();
  },
};

/** One part after the other, so that nobody who presses something waits for all of them. */
const begin = (parts) => setTimeout(() => {
  if (parts.length) { parts[0].start(); begin(parts.slice(1)); } else document.documentElement.dataset.ready = "true";
});

Data.complete();
if (!View.known) First.draw();
requestAnimationFrame(() => begin([Ledger, Tables, Filters, Lineage, Slots, Paper, Live]));
