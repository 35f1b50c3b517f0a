// One question at a time. What moved while an answer was on its way is asked, as it then stands, when that has come; so
// no drag leaves work waiting. What is out of sight follows when the hand has rested.
(() => {
  const REST = 250, AGAIN = 1000; // milliseconds
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  let room, controls = [], values, count = 0, waiting = null, isNewer = false, rest, fresh = new Set();

  const cards = () => [...document.querySelectorAll(".card")];
  const isInSight = card => {
    const { top, bottom } = card.getBoundingClientRect();
    return bottom > 0 && top < window.innerHeight;
  };

  const isNarrow = card => card.clientWidth < 520; // pixels: too few for two panels beside each other

  function question(shown) {
    isNewer = false;
    waiting = { count: ++count, values, dark: dark.matches,
      shown: shown.map(card => card.id), narrow: shown.filter(isNarrow).map(card => card.id) };
    return waiting;
  }

  function ask(shown) {
    window.dash_clientside.set_props(`${room}-asked`, { data: question(shown) });
  }

  function show(id, value) {
    const shown = document.getElementById(`${id}-shown`);
    if (shown) shown.textContent = Math.min(Number(value), document.getElementById(id).max);
  }

  function image(presses, id, format) {
    const plot = document.querySelector(`#${id} .js-plotly-plot`);
    if (presses && plot) window.Plotly.downloadImage(plot, { format, filename: id });
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    leadline: {
      // Controls moved, or have come onto the page: then whatever was asked before is of no interest.
      moved(...now) {
        const { inputs_list, triggered } = window.dash_clientside.callback_context;
        if (!triggered.length) waiting = null;
        clearTimeout(rest);
        fresh.clear();
        room = inputs_list[0].id.split("-")[0];
        document.getElementById(`${room}-refused`).hidden = triggered.length > 0; // it spoke of the address
        controls = inputs_list.map(({ id }) => id);
        controls.forEach((id, i) => show(id, now[i]));
        [values, isNewer] = [now, true];
        return waiting ? window.dash_clientside.no_update : question(cards().filter(isInSight));
      },
      // An answer has come: the address tells what is shown, and what has no say is faint.
      answered(answer) {
        if (answer?.count !== waiting?.count) return;
        if (!isNewer) waiting.shown.forEach(id => fresh.add(id));
        waiting = null;
        if (answer.query !== null && answer.query !== location.search) {
          history.replaceState(history.state, "", location.pathname + answer.query);
        }
        for (const [id, silent] of Object.entries(answer.silent)) {
          document.getElementById(`${id}-row`)?.classList.toggle("silent", silent);
        }
        for (const [id, high] of Object.entries(answer.ends)) {
          const slider = document.getElementById(id);
          if (!slider || Number(slider.max) === high) continue;
          slider.max = high;
          window.dash_clientside.set_props(id, { max: high });
          show(id, values[controls.indexOf(id)]);
        }
        for (const [id, [width, height]] of Object.entries(answer.sizes)) {
          const figure = document.getElementById(id);
          if (figure) Object.assign(figure.style, { minWidth: `${width}px`, height: `${height}px` });
        }
        if (isNewer) return ask(cards().filter(isInSight));
        rest = setTimeout(() => {
          const stale = cards().filter(card => answer.again || !fresh.has(card.id));
          if (!waiting && stale.length) ask(stale);
        }, answer.again ? AGAIN : REST);
      },
      // Plotly draws the file; nothing leaves the browser.
      svg: (presses, id) => image(presses, id, "svg"),
      png: (presses, id) => image(presses, id, "png"),
    },
  });

  function again() {
    fresh.clear();
    if (!room || waiting) isNewer = true;
    else ask(cards().filter(isInSight));
  }

  dark.addEventListener("change", again);
  window.matchMedia("(max-width: 52rem)").addEventListener("change", again);
})();
