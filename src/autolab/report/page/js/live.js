"use strict";
// A page that is served while its campaign runs: what changes comes as server-sent events, and two things can be done.

const Live = {
  start() {
    if (!Data.now.nonce) return;
    // A browser keeps six connections to a server: a page that nobody sees holds none, or the seventh would never load.
    document.addEventListener("visibilitychange", () => (document.hidden ? Live.pause() : Live.listen()));
    Live.listen();
    Dom.id("pause").addEventListener("click", () => Live.ask(Dom.id("pause").dataset.does));
    Dom.id("stop").addEventListener("click", () => Live.stop());
    Live.buttons();
  },

  listen() {
    if (document.hidden || Live.events) return;
    const events = (Live.events = new EventSource(`/events?now=${Data.now.now}`));
    events.addEventListener("open", Live.follow);
    events.addEventListener("error", () => Live.say("connection lost, trying again", true));
    events.addEventListener("problem", (event) => Live.say(JSON.parse(event.data).text, true));
    events.addEventListener("change", (event) => Live.take(JSON.parse(event.data)));
  },

  pause() {
    Live.events?.close();
    Live.events = null;
  },

  take(change) {
    const at = [scrollX, scrollY], chosen = Live.chosen();
    Data.apply(change);
    Live.choose(chosen);
    Live.forget(change.marks.map((mark) => mark.ordinal));
    View.weigh();
    const { page } = View;
    View.changed("data");
    View.page = page;
    scrollTo(...at);
    Live.buttons();
    Live.follow();
  },

  /** Concerns and slots are chosen by their places, and these change: what they are is kept. */
  chosen: () => ({ concern: Data.now.concerns[View.concern], lanes: [...View.lane].map((lane) => Data.now.slots.lanes[lane]) }),

  choose({ concern, lanes }) {
    const alike = (one) => one.kind === concern.kind && (one.text === concern.text || one.trials.some((id) => concern.trials.includes(id)));
    const place = concern ? Data.now.concerns.findIndex(alike) : -1;
    View.concern = place < 0 ? null : place;
    View.lane = new Set(lanes.map((name) => Data.now.slots.lanes.indexOf(name)).filter((lane) => lane >= 0));
  },

  /** That the page follows; or why nothing moves, and its buttons do nothing. */
  follow() {
    const { alive, state, now } = Data.now;
    Live.say(alive ? `live, ${Format.clock(now)} UTC` : Live.why(state));
  },

  why: (state) => (["finished", "stopped"].includes(state) ? "the campaign has ended" : "nobody is at work on it: `autolab run` goes on"),

  /** Opened rows of trials that went on are asked for again. */
  forget(ordinals) {
    for (const ordinal of ordinals) Dom.id(`below-${ordinal}`)?.remove();
  },

  say(words, lost = false) {
    Dom.id("live").textContent = words;
    Dom.id("live").classList.toggle("lost", lost);
  },

  buttons() {
    const { state, alive } = Data.now, paused = state === "paused", pause = Dom.id("pause"), stop = Dom.id("stop");
    pause.dataset.does = paused ? "resume" : "pause";
    pause.textContent = paused ? "Resume" : "Pause";
    pause.disabled = stop.disabled = !alive;
    pause.title = stop.title = alive ? "" : Live.why(state);
  },

  /** The second press within five seconds stops. */
  stop() {
    const button = Dom.id("stop");
    if (button.textContent === "Stop") {
      button.textContent = "Really stop?";
      Live.armed = setTimeout(() => { button.textContent = "Stop"; }, 5000);
      return;
    }
    clearTimeout(Live.armed);
    button.textContent = "Stop";
    Live.ask("stop");
  },

  async ask(what) {
    try {
      const answer = await fetch(`/${what}`, { method: "POST", headers: { "X-Autolab-Nonce": Data.now.nonce } });
      const { text } = await answer.json();
      Live.say(text, !answer.ok);
    } catch (error) {
      Live.say(`not done: ${error.message}`, true);
    }
  },
};
