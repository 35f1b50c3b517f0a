// One question at a time. What moved while an answer was on its way is asked, as it then stands, when that has come.
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  let room, count = 0, waiting = 0, values, isNewer = false;

  function question() {
    isNewer = false;
    waiting = ++count;
    return { count, values, dark: dark.matches };
  }

  const ask = () => window.dash_clientside.set_props(`${room}-asked`, { data: question() });

  function image(presses, id, format) {
    const plot = document.querySelector(`#${id} .js-plotly-plot`);
    if (presses && plot) window.Plotly.downloadImage(plot, { format, filename: id });
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    leadline: {
      // Controls moved, or have come onto the page: then whatever was asked before is of no interest.
      moved(...now) {
        const { inputs_list, triggered } = window.dash_clientside.callback_context;
        if (!triggered.length) waiting = 0;
        room = inputs_list[0].id.split("-")[0];
        inputs_list.forEach(({ id }, i) => {
          const shown = document.getElementById(`${id}-shown`);
          if (shown) shown.textContent = Number(now[i]);
        });
        [values, isNewer] = [now, true];
        return waiting ? window.dash_clientside.no_update : question();
      },
      // An answer has come: the address tells what is shown, and what has no say is faint.
      answered(answer) {
        if (!answer || answer.count !== waiting) return;
        waiting = 0;
        if (answer.query !== null) history.replaceState(history.state, "", location.pathname + answer.query);
        for (const [id, silent] of Object.entries(answer.silent)) {
          document.getElementById(`${id}-row`)?.classList.toggle("silent", silent);
        }
        if (isNewer) ask();
      },
      // Plotly draws the file; nothing leaves the browser.
      svg: (presses, id) => image(presses, id, "svg"),
      png: (presses, id) => image(presses, id, "png"),
    },
  });
  dark.addEventListener("change", () => room && (waiting ? (isNewer = true) : ask()));
})();
