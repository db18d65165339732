"use strict";
// The staircase is drawn as soon as its data is here, before the browser has read the rest of the page. What an address
// chooses needs all of the data: then the staircase waits for it.

const First = {
  draw() {
    View.recall();
    Staircase.start();
    performance.mark("staircase-drawn");
  },
};

document.documentElement.classList.add("scripted");
Theme.start();
if (location.hash.length < 2) First.draw();
