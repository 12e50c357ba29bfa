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
for (const scroll of document.querySelectorAll(".frame > .scroll")) {
  const frame = scroll.parentElement, hint = frame.previousElementSibling;
  const look = () => {
    const room = scroll.scrollWidth - scroll.clientWidth;
    frame.classList.toggle("more", scroll.scrollLeft < room - 2);
    if (hint && hint.classList.contains("sideways")) {
      hint.classList.toggle("on", room > 2);
      hint.classList.toggle("off", room <= 2);
    }
  };
  scroll.addEventListener("scroll", look, { passive: true });
  new ResizeObserver(look).observe(scroll);
}
const menu = document.querySelector("nav.toc details");
if (menu) {
  const links = new Map([...menu.querySelectorAll("a")].map((link) => [link.hash.slice(1), link]));
  const sections = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
  const mark = () => {
    // The section that the reader is in is the last one whose heading has passed under the bar.
    const line = menu.querySelector("summary").offsetHeight + innerHeight / 5;
    const here = sections.filter((section) => section.getBoundingClientRect().top <= line).pop();
    for (const [id, link] of links) {
      if (here && here.id === id) link.setAttribute("aria-current", "location");
      else link.removeAttribute("aria-current");
    }
    const full = here && links.get(here.id).querySelector(".full");
    menu.querySelector(".here").textContent = full ? full.textContent : "";
  };
  addEventListener("scroll", mark, { passive: true });  // a browser says so once a frame
  mark();
  menu.addEventListener("click", (event) => { if (event.target.closest("a")) menu.open = false; });
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
}
