// What the theme leaves unnamed gets a name, and boxes that scroll sideways can be reached with the keyboard.
function named() {
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
  document.querySelectorAll(".md-code__nav").forEach((nav, place) => {
    if (!nav.ariaLabel) nav.ariaLabel = `Copy code ${place + 1}`;
  });
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code")) {
    if (box.tabIndex !== 0) box.tabIndex = 0;
  }
}
function begin() {
  named();
  new MutationObserver(named).observe(document.body, { childList: true, subtree: true });
}
document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", begin) : begin();
