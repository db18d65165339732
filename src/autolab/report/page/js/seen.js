"use strict";
// Another filter changes the whole page, but only what is on the screen must follow at once. The rest follows when it
// comes into sight, or when there is time for it: a moment later, one part after the other, so that no press waits.

const Seen = {
  parts: [],

  /** `update` brings what `element` shows up to date with the filter. */
  add(element, update) {
    const part = { update, seen: true, stale: false };
    Seen.parts.push(part);
    new IntersectionObserver(([entry]) => {
      part.seen = entry.isIntersecting;
      if (part.seen && part.stale) Seen.bring(part);
    }).observe(element);
  },

  renew() {
    for (const part of Seen.parts) if (part.seen) Seen.bring(part); else part.stale = true;
    clearTimeout(Seen.later);
    Seen.later = setTimeout(Seen.next, 400);
  },

  next() {
    const part = Seen.parts.find((one) => one.stale);
    if (!part) return;
    Seen.bring(part);
    Seen.later = setTimeout(Seen.next, 20);
  },

  bring(part) {
    part.stale = false;
    part.update();
  },
};
