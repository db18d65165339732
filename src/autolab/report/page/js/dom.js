"use strict";
// Elements are made here and nowhere else: whatever is written into them is text, never markup.

const Dom = {
  /** A new element. `given`: attributes; `class`, `text`, `data` (data-…) and `on` (listeners) as one would expect. */
  el(name, given = {}, children = []) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(given)) {
      if (value === null || value === undefined || value === false) continue;
      if (key === "class") made.className = value;
      else if (key === "text") made.textContent = value;
      else if (key === "data") for (const [k, v] of Object.entries(value)) { if (v !== null) made.dataset[k] = v; }
      else if (key === "on") for (const [k, v] of Object.entries(value)) made.addEventListener(k, v);
      else made.setAttribute(key, value === true ? "" : value);
    }
    for (const child of children) if (child !== null) made.append(child);
    return made;
  },

  /** The mark of an outcome, as in the charts. */
  mark(path, color) {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg"), shape = document.createElementNS(space, "path");
    svg.setAttribute("class", "mark");
    svg.setAttribute("viewBox", "-1.3 -1.3 2.6 2.6");
    svg.setAttribute("aria-hidden", "true");
    shape.setAttribute("d", path);
    shape.setAttribute("fill", color);
    svg.append(shape);
    return svg;
  },

  id: (name) => document.getElementById(name),

  /** Put other children into an element; nothing happens to the rest of the page. */
  fill(element, children) { element.replaceChildren(...children.filter((child) => child !== null)); },
};
