// The table of the search room: one input for each cell, and one text that names the edited cells.
window.dash_clientside = Object.assign({}, window.dash_clientside, {
  cells: {
    // Return the text that names the cells that differ from the course's table.
    write() {
      const { inputs_list } = window.dash_clientside.callback_context;
      return inputs_list
        .map(({ id, value }) => [id, String(value ?? "").trim().replaceAll("_", " ")])
        .filter(([id, text]) => text !== document.getElementById(id).closest("td").dataset.course)
        .map(([id, text]) => id.split("-").pop() + text)
        .join("_");
    },
    // Set the inputs to the numbers in the text.
    read(text) {
      const { states_list } = window.dash_clientside.callback_context;
      const edited = new Map((text || "").split("_").map((part) => [part.slice(0, 2), part.slice(2)]));
      for (const { id, value } of states_list) {
        const cell = document.getElementById(id);
        if (!cell) continue;
        const name = id.split("-").pop();
        const number = edited.has(name) ? edited.get(name) : cell.closest("td").dataset.course;
        if (number !== String(value ?? "").trim()) window.dash_clientside.set_props(id, { value: number });
      }
    },
    // Write the words into the headings, and into the labels for screen readers.
    name(first, second, end, at) {
      const table = document.getElementById(at);
      const words = [first, second, "<end>"];
      [first, second].forEach((word, i) => {
        for (const heading of table.querySelectorAll(`.word-${i}`)) heading.textContent = word;
      });
      for (const row of table.tBodies[0].rows) {
        const prefix = [...row.cells[0].childNodes].map((node) => node.textContent).join(" ");
        [...row.querySelectorAll("input")].forEach((cell, i) =>
          cell.setAttribute("aria-label", `log-probability of ${words[i]} after ${prefix}`));
      }
      return end === "none" ? "cells endless" : "cells";
    },
  },
});
