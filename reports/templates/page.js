"use strict";
for (const table of document.querySelectorAll("table[data-sort]")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const numeric = head.classList.contains("num");
      for (const body of table.tBodies) {
        const rows = [...body.rows].filter((row) => !row.classList.contains("block"));
        const key = (row) => row.cells[column].dataset.v ?? "";
        rows.sort((a, b) => {
          const x = key(a), y = key(b);
          if (x === "" || y === "") return (x === "") - (y === "");
          const way = numeric ? Number(x) - Number(y) : x.localeCompare(y, "en", { numeric: true });
          return up ? way : -way;
        });
        body.append(...rows);
      }
    });
  });
}
for (const box of document.querySelectorAll("[data-filter]")) {
  const input = box.querySelector("input"), count = box.querySelector("output");
  const table = document.getElementById(box.dataset.filter);
  box.hidden = false;
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0, all = 0;
    for (const row of table.querySelectorAll("tbody tr:not(.block)")) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      all += 1;
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = words.length ? `${shown} of ${all} rows` : "";
  });
}
