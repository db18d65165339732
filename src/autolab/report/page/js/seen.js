"use strict";
// Another filter changes the whole page, but only what is on the screen must follow at once. The rest follows when it
// comes into sight, or when there is time for it: a moment later, at the latest.

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
    Seen.later = setTimeout(() => { for (const part of Seen.parts) if (part.stale) Seen.bring(part); }, 400);
  },

  bring(part) {
    part.stale = false;
    part.update();
  },
};
