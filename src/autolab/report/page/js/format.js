"use strict";
// How numbers and other people's texts are written; report/page/shown.py writes them the same way.

const Format = {
  whole: new Intl.NumberFormat("en-US"),
  cents: new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 }),
  // Signs that are not seen but change what is: control characters, and those that turn the direction of writing.
  hidden: /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g,

  said(text) {
    return String(text).replace(Format.hidden, (sign) => {
      const code = sign.charCodeAt(0);
      return code < 0x20 ? String.fromCharCode(0x2400 + code) : `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
    });
  },

  number: (value, digits) => (typeof value === "number" ? value.toFixed(digits) : value === null ? "" : String(value)),
  signed: (value, digits) => (value === null ? "" : (value < 0 || Object.is(value, -0) ? "" : "+") + value.toFixed(digits)),

  rounded(value) {
    if (value === null) return "";
    if (value === 0) return "0";
    return value.toFixed(Math.min(9, Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))))));
  },

  money(value) {
    if (Math.abs(value) > 0 && Math.abs(value) < 0.01) return `$${value.toFixed(4)}`;
    return `$${Format.cents.format(value)}`;
  },

  count: (value) => Format.whole.format(value),
  share: (part, whole) => (whole ? ` · ${Math.floor((100 * part) / whole + 0.5)} %` : ""),

  span(seconds) {
    if (seconds < 100) return `${seconds.toFixed(1)} s`;
    return seconds < 6000 ? `${(seconds / 60).toFixed(0)} min` : `${(seconds / 3600).toFixed(1)} h`;
  },

  moment: (at) => new Date(at * 1000).toISOString().slice(0, 16).replace("T", " "),
  clock: (at) => new Date(at * 1000).toISOString().slice(11, 19),
  words: (name) => name.replaceAll("_", " "),
  plural: (count, what) => `${Format.count(count)} ${what}${count === 1 ? "" : "s"}`,
};
