// One question at a time. What moved while an answer was on its way is asked, as it then stands, when that has come; so
// no drag leaves work waiting. What is out of sight follows when the hand has rested.
(() => {
  const REST = 250, AGAIN = 1000; // milliseconds
  const CONFIG = { displaylogo: false, displayModeBar: false, responsive: true };
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  let room, controls = [], values = [], waiting = null, isNewer = false, rest;
  let fresh = new Set(), drawn = new Set(), followed = new Map(), unsaid = new Map();

  const at = id => document.getElementById(id);
  const set = (id, props) => window.dash_clientside.set_props(id, props);
  const cards = () => [...document.querySelectorAll(".card")];
  const isInSight = card => {
    const { top, bottom } = card.getBoundingClientRect();
    return bottom > 0 && top < window.innerHeight;
  };
  const isNarrow = card => card.clientWidth < 520; // pixels: too few for two panels beside each other

  // Ask for the soundings of what the controls hold now, and for the figures of some cards.
  async function ask(shown) {
    isNewer = false;
    const asked = waiting = { values: [...values], dark: dark.matches,
      shown: shown.map(card => card.id), narrow: shown.filter(isNarrow).map(card => card.id) };
    let last = {};
    try {
      const [, token] = location.pathname.split("/");
      const response = await fetch(`/${token}/answer/${room}`, {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(asked) });
      if (!response.ok) throw new Error(`the server says ${response.status}`);
      for await (const part of parts(response.body)) {
        if (waiting !== asked) return; // another room was entered
        if ("card" in part) draw(part);
        else conclude(last = part);
      }
    } catch (error) {
      if (waiting !== asked) return;
      say("trouble", `No answer: ${error.message}. Is the explorer still running?`);
    }
    waiting = null;
    if (isNewer) return ask(cards().filter(isInSight));
    asked.shown.forEach(id => fresh.add(id));
    rest = setTimeout(() => {
      for (const [id, value] of unsaid) set(id, { value });
      const stale = cards().filter(card => last.again || !fresh.has(card.id));
      if (!waiting && stale.length) ask(stale);
    }, last.again ? AGAIN : REST);
  }

  // The lines of an answer, each as soon as it is there.
  async function* parts(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        const lines = (text + value).split("\n");
        text = lines.pop();
        for (const line of lines) yield JSON.parse(line);
      }
    } finally {
      reader.cancel();
    }
  }

  function draw({ card, words, rows, figure, size }) {
    const plot = at(`${card}-figure`);
    if (!plot) return;
    at(`${card}-words`).textContent = words;
    at(`${card}-rows`).replaceChildren(...(rows ? [table(rows)] : []));
    if (figure === null) forget(plot);
    if (!figure) return;
    const [width, height] = size;
    Object.assign(plot.style, { minWidth: `${width}px`, height: `${height}px` });
    window.Plotly.react(plot, figure.data, figure.layout, drawn.has(plot) ? undefined : CONFIG);
    drawn.add(plot);
  }

  function forget(plot) {
    if (drawn.delete(plot)) window.Plotly.purge(plot);
  }

  function table([heads, ...body]) {
    const made = document.createElement("table");
    const line = (under, texts, name) => texts.forEach((text, i) => {
      const cell = under.appendChild(document.createElement(name));
      cell.textContent = text;
      if (name === "th") cell.scope = "col";
    });
    line(made.createTHead().insertRow(), heads, "th");
    for (const texts of body) line((made.tBodies[0] ?? made.createTBody()).insertRow(), texts, "td");
    return made;
  }

  // Everything but the cards. The address comes last: it tells what is shown.
  function conclude({ query, silent = {}, ends = {}, code, notes = "", trouble = "", follows = [] }) {
    if (code !== undefined) at(`${room}-code`).textContent = code;
    at(`${room}-notes`).textContent = notes;
    say("trouble", trouble);
    for (const [id, isSilent] of Object.entries(silent)) at(`${id}-row`).classList.toggle("silent", isSilent);
    for (const [id, high] of Object.entries(ends)) {
      if (Number(at(id).max) === high) continue;
      at(id).max = high;
      set(id, { max: high });
      show(id, values[controls.indexOf(id)]);
    }
    for (const [id, name, value] of follows) {
      if (followed.get(id + name) !== value) set(id, { [name]: value });
      followed.set(id + name, value);
    }
    if (query !== undefined && query !== location.search) {
      history.replaceState(history.state, "", location.pathname + query);
    }
  }

  function say(part, text) {
    if (at(`${room}-${part}`).textContent !== text) set(`${room}-${part}`, { children: text });
  }

  function show(id, value) {
    const shown = at(`${id}-shown`);
    if (shown) shown.textContent = Math.min(Number(value), at(id).max);
  }

  // A control holds another value: then whatever was asked before is of no interest.
  function move(id, value) {
    const i = controls.indexOf(id);
    if (i < 0 || values[i] === value) return false;
    values[i] = value;
    show(id, value);
    clearTimeout(rest);
    fresh.clear();
    at(`${room}-refused`).hidden = true; // it spoke of the address
    return isNewer = true;
  }

  function again() {
    fresh.clear();
    isNewer = true;
    if (room && !waiting) ask(cards().filter(isInSight));
  }

  function image(presses, id, format) {
    if (presses && drawn.has(at(id))) window.Plotly.downloadImage(at(id), { format, filename: id });
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    leadline: {
      // Controls were set by Dash, or have come onto the page.
      moved(...now) {
        const { inputs_list, triggered } = window.dash_clientside.callback_context;
        if (triggered.length) {
          let isMoved = false;
          for (const { prop_id, value } of triggered) {
            const id = prop_id.slice(0, prop_id.lastIndexOf("."));
            const isEcho = unsaid.has(id) && unsaid.get(id) === value; // what the hand did, said to Dash when it rested
            unsaid.delete(id);
            if (!isEcho && move(id, value)) isMoved = true;
          }
          if (isMoved && !waiting) ask(cards().filter(isInSight));
          return window.dash_clientside.no_update;
        }
        waiting = null;
        clearTimeout(rest);
        [...drawn].filter(plot => !plot.isConnected).forEach(forget);
        for (const memory of [fresh, followed, unsaid]) memory.clear();
        controls = inputs_list.map(({ id }) => id);
        room = controls[0].split("-")[0];
        values = now;
        controls.forEach((id, i) => show(id, now[i]));
        ask(cards().filter(isInSight));
        return window.dash_clientside.no_update;
      },
      next: (presses, value) => presses ? (value ?? 0) + 1 : window.dash_clientside.no_update,
      // Plotly draws the file; nothing leaves the browser.
      svg: (presses, id) => image(presses, id, "svg"),
      png: (presses, id) => image(presses, id, "png"),
    },
  });

  // A slider is heard here, and Dash is told when the hand rests: its own way of hearing takes as long as a figure.
  for (const kind of ["input", "change"]) document.addEventListener(kind, event => {
    const { id, type, value } = event.target;
    if (type !== "range" || !controls.includes(id)) return;
    event.stopPropagation();
    unsaid.set(id, Number(value));
    if (move(id, Number(value)) && !waiting) ask(cards().filter(isInSight));
  }, true);

  // A preset is heard here too, so that what the hand does next comes after it.
  document.addEventListener("click", event => {
    const preset = event.target.closest(".presets button");
    if (!preset) return;
    const held = Object.entries(JSON.parse(preset.dataset.values));
    const moved = held.filter(([id, value]) => move(id, value));
    for (const [id, value] of held) {
      unsaid.set(id, value);
      if (at(id).type === "range") at(id).value = value; // Dash draws only what it takes for new
    }
    for (const [id, value] of held) set(id, { value });
    if (moved.length && !waiting) ask(cards().filter(isInSight));
  }, true);

  dark.addEventListener("change", again);
  window.matchMedia("(max-width: 52rem)").addEventListener("change", again);

  // A notebook shows a picture until the page in its frame says that it is there.
  if (window.parent !== window) window.parent.postMessage("leadline-explorer", "*");
})();
