// Boxes that scroll sideways can be reached and scrolled with the keyboard.
function reachable() {
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code")) {
    box.tabIndex = 0;
  }
}
document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", reachable) : reachable();
