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
  if (place.clientWidth < 560) {
    layout.legend = { ...layout.legend, orientation: "h", y: -0.2, yanchor: "top", x: 0, xanchor: "left" };
    layout.title = { ...layout.title, font: { ...(layout.title || {}).font, size: 13 } };
  }
  return Plotly.newPlot(place, data, layout, still);
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
