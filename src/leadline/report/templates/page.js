// Draws each figure when it comes into view, in the page's own colours, and again when those change.
const figures = [...document.querySelectorAll("[data-figure]")];
const printing = window.matchMedia("print");
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const still = { displaylogo: false, responsive: true, displayModeBar: "hover",
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };

async function library() {
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent.trim()), c => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

function ink(forPaper) {
  return forPaper ? "#000000" : getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
}

function draw(place) {
  if (place.dataset.drawn) return Promise.resolve();
  place.dataset.drawn = "yes";
  const { data, layout } = JSON.parse(document.getElementById(place.dataset.figure).textContent);
  layout.font = { ...layout.font, color: ink(printing.matches) };
  delete layout.width;
  if (place.clientWidth < 560) narrow(layout, place.clientWidth);
  return Plotly.newPlot(place, data, layout, still);
}

// On a phone: panels below one another, the legend below them, the title on as many lines as it needs.
function narrow(layout, width) {
  const axes = Object.keys(layout).filter(key => /^xaxis\d*$/.test(key)).map(key => key.slice(5)).sort();
  const panels = axes.filter(axis => layout["xaxis" + axis].domain).length;
  if (panels > 1) {
    layout.height *= 0.85 * panels;
    axes.forEach((axis, i) => {
      const top = 1 - i / panels, bottom = 1 - (i + 1) / panels + (i + 1 < panels ? 0.36 / panels : 0);
      layout["xaxis" + axis].domain = [0, 1];
      layout["yaxis" + axis].domain = [bottom, top];
      if (layout.annotations && layout.annotations[i]) Object.assign(layout.annotations[i], { x: 0, y: top });
    });
  }
  layout.legend = { ...layout.legend, orientation: "h", y: -0.25 / Math.max(1, panels), yanchor: "top", x: 0, xanchor: "left" };
  const lines = [""];
  for (const word of ((layout.title || {}).text || "").split(" ")) {
    if ((lines.at(-1) + word).length * 7 > width - 60) lines.push("");
    lines[lines.length - 1] += word + " ";
  }
  layout.title = { ...layout.title, text: lines.join("<br>"), font: { ...(layout.title || {}).font, size: 13 } };
  layout.margin = { ...layout.margin, t: (layout.margin || {}).t + 14 * (lines.length - 1) };
}

function recolour(forPaper) {
  for (const place of figures) if (place.dataset.drawn) Plotly.relayout(place, { "font.color": ink(forPaper) });
}

if (figures.length) library().then(() => {
  const seen = new IntersectionObserver(entries => {
    for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); }
  }, { rootMargin: "600px" });
  figures.forEach(place => seen.observe(place));
  dark.addEventListener("change", () => recolour(false));
  window.addEventListener("beforeprint", () => { figures.forEach(draw); recolour(true); });
  window.addEventListener("afterprint", () => recolour(false));
});
