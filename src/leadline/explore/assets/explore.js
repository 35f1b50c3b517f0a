// The page sends one request at a time. If a control changes during a request, the page sends the
// latest values when the answer is complete, so a drag leaves no queue of requests. Cards that are
// off-screen are requested when the controls have not changed for a moment.
(() => {
  const REST = 250; // milliseconds without a change before off-screen cards are requested
  const AGAIN = 1000; // milliseconds before a result that is not ready is requested again
  const CONFIG = { displaylogo: false, displayModeBar: false, responsive: true };
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  let room, controls = [], values = []; // name of the room, ids of its controls, and their values
  let waiting = null; // the request whose answer is awaited
  let isNewer = false; // true if a control has changed since the request
  let restTimer;
  const fresh = new Set(); // ids of the cards that show the current values
  const drawn = new Set(); // elements with a figure
  const extraValues = new Map(); // values that the last answer gave to the room's own components
  const unsent = new Map(); // values that the page has set and Dash does not know yet

  const at = id => document.getElementById(id);
  const set = (id, props) => window.dash_clientside.set_props(id, props);
  const cards = () => [...document.querySelectorAll(".card")];
  const isInSight = card => {
    const { top, bottom } = card.getBoundingClientRect();
    return bottom > 0 && top < window.innerHeight;
  };
  const isNarrow = card => card.clientWidth < 520; // pixels; two panels side by side need more

  // Request the soundings for the current values of the controls, and the figures of some cards.
  async function request(shown) {
    isNewer = false;
    const sent = waiting = { values: [...values], dark: dark.matches,
      shown: shown.map(card => card.id), narrow: shown.filter(isNarrow).map(card => card.id) };
    let last = {};
    try {
      const [, token] = location.pathname.split("/");
      const response = await fetch(`/${token}/answer/${room}`, {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(sent) });
      if (!response.ok) throw new Error(`the server answered with status ${response.status}`);
      for await (const part of parts(response.body)) {
        if (waiting !== sent) return; // the user has opened another room
        if ("card" in part) draw(part);
        else finish(last = part);
      }
    } catch (error) {
      if (waiting !== sent) return;
      show("trouble", `The explorer did not answer (${error.message}). Check that it is still running.`);
    }
    waiting = null;
    if (isNewer) return request(cards().filter(isInSight));
    sent.shown.forEach(id => fresh.add(id));
    restTimer = setTimeout(() => {
      for (const [id, value] of unsent) set(id, { value });
      const stale = cards().filter(card => last.again || !fresh.has(card.id));
      if (!waiting && stale.length) request(stale);
    }, last.again ? AGAIN : REST);
  }

  // Yield the lines of an answer as they arrive.
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
    if (figure === null) erase(plot);
    if (!figure) return;
    const [width, height] = size;
    Object.assign(plot.style, { minWidth: `${width}px`, height: `${height}px` });
    window.Plotly.react(plot, figure.data, figure.layout, drawn.has(plot) ? undefined : CONFIG);
    drawn.add(plot);
  }

  function erase(plot) {
    if (drawn.delete(plot)) window.Plotly.purge(plot);
  }

  function table([headings, ...body]) {
    const element = document.createElement("table");
    const fill = (row, texts, name) => texts.forEach(text => {
      const cell = row.appendChild(document.createElement(name));
      cell.textContent = text;
      if (name === "th") cell.scope = "col";
    });
    fill(element.createTHead().insertRow(), headings, "th");
    const rows = body.length ? element.createTBody() : null;
    for (const texts of body) fill(rows.insertRow(), texts, "td");
    return element;
  }

  // Update everything except the cards. The address changes last, so it always describes the page.
  function finish({ query, silent = {}, limits = {}, code, notes = "", trouble = "", extra = [] }) {
    if (code !== undefined) at(`${room}-code`).textContent = code;
    at(`${room}-notes`).textContent = notes;
    show("trouble", trouble);
    for (const [id, isSilent] of Object.entries(silent)) at(`${id}-row`).classList.toggle("silent", isSilent);
    for (const [id, high] of Object.entries(limits)) {
      if (Number(at(id).max) === high) continue;
      at(id).max = high;
      set(id, { max: high });
      showNumber(id, values[controls.indexOf(id)]);
    }
    for (const [id, name, value] of extra) {
      if (extraValues.get(id + name) !== value) set(id, { [name]: value });
      extraValues.set(id + name, value);
    }
    if (query !== undefined && query !== location.search) {
      history.replaceState(history.state, "", location.pathname + query);
    }
  }

  function show(part, text) {
    if (at(`${room}-${part}`).textContent !== text) set(`${room}-${part}`, { children: text });
  }

  // Show the number of a slider next to its label.
  function showNumber(id, value) {
    const output = at(`${id}-shown`);
    if (output) output.textContent = Math.min(Number(value), at(id).max);
  }

  // Store the new value of a control. Return false if the value has not changed.
  function change(id, value) {
    const i = controls.indexOf(id);
    if (i < 0 || values[i] === value) return false;
    values[i] = value;
    showNumber(id, value);
    clearTimeout(restTimer);
    fresh.clear();
    at(`${room}-refused`).hidden = true; // this message is about the address, which is now out of date
    return isNewer = true;
  }

  function redraw() {
    fresh.clear();
    isNewer = true;
    if (room && !waiting) request(cards().filter(isInSight));
  }

  function image(clicks, id, format) {
    if (clicks && drawn.has(at(id))) window.Plotly.downloadImage(at(id), { format, filename: id });
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    leadline: {
      // Dash calls this function when it has set controls, and when the controls of a room appear.
      changed(...newValues) {
        const { inputs_list, triggered } = window.dash_clientside.callback_context;
        if (triggered.length) {
          let isChanged = false;
          for (const { prop_id, value } of triggered) {
            const id = prop_id.slice(0, prop_id.lastIndexOf("."));
            const isKnown = unsent.has(id) && unsent.get(id) === value; // this page has set the value itself
            unsent.delete(id);
            if (!isKnown && change(id, value)) isChanged = true;
          }
          if (isChanged && !waiting) request(cards().filter(isInSight));
          return window.dash_clientside.no_update;
        }
        waiting = null;
        clearTimeout(restTimer);
        [...drawn].filter(plot => !plot.isConnected).forEach(erase);
        for (const collection of [fresh, extraValues, unsent]) collection.clear();
        controls = inputs_list.map(({ id }) => id);
        room = controls[0].split("-")[0];
        values = newValues;
        controls.forEach((id, i) => showNumber(id, newValues[i]));
        request(cards().filter(isInSight));
        return window.dash_clientside.no_update;
      },
      next: (clicks, value) => clicks ? (value ?? 0) + 1 : window.dash_clientside.no_update,
      // Plotly makes these files in the browser; nothing is sent.
      svg: (clicks, id) => image(clicks, id, "svg"),
      png: (clicks, id) => image(clicks, id, "png"),
    },
  });

  // The page handles sliders itself and informs Dash after the last move, because Dash needs as much
  // time for each move as a figure.
  for (const kind of ["input", "change"]) document.addEventListener(kind, event => {
    const { id, type, value } = event.target;
    if (type !== "range" || !controls.includes(id)) return;
    event.stopPropagation();
    unsent.set(id, Number(value));
    if (change(id, Number(value)) && !waiting) request(cards().filter(isInSight));
  }, true);

  // The page handles presets itself, too, so a later move of a slider cannot come before the preset.
  document.addEventListener("click", event => {
    const preset = event.target.closest(".presets button");
    if (!preset) return;
    const settings = Object.entries(JSON.parse(preset.dataset.values));
    const changes = settings.filter(([id, value]) => change(id, value));
    for (const [id, value] of settings) {
      unsent.set(id, value);
      if (at(id).type === "range") at(id).value = value; // Dash skips a slider whose last known value is equal
    }
    for (const [id, value] of settings) set(id, { value });
    if (changes.length && !waiting) request(cards().filter(isInSight));
  }, true);

  dark.addEventListener("change", redraw);
  window.matchMedia("(max-width: 52rem)").addEventListener("change", redraw);

  // A notebook shows a picture until the page in the frame sends this message.
  if (window.parent !== window) window.parent.postMessage("leadline-explorer", "*");
})();
