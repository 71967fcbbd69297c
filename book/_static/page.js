// Font Awesome replaces every <i class="fa ..."> by a drawing, and with it the buttons that widgets
// still hold on to: Play would stop working, and every widget linked to it. The icons come from its
// style sheet alone.
window.FontAwesomeConfig = { autoReplaceSvg: false };

document.addEventListener("DOMContentLoaded", () => {
  // The search button shows "Search Ctrl+K" but calls itself "Search": who speaks to the page names
  // what they see. Without the label the button is called by its text.
  for (const button of document.querySelectorAll(".search-button__button[aria-label]")) {
    button.removeAttribute("aria-label");
  }
  // A list whose entries are no list items reads as empty to a screen reader.
  for (const entry of document.querySelectorAll(".citation-list > .citation")) {
    entry.setAttribute("role", "listitem");
  }
});

// An equation wider than the page scrolls sideways: let the keyboard reach it, then arrow keys do.
const reachEquations = () => {
  for (const equation of document.querySelectorAll('mjx-container[display="true"]')) {
    if (equation.scrollWidth > equation.clientWidth) {
      equation.setAttribute("tabindex", "0");
    } else {
      equation.removeAttribute("tabindex");
    }
  }
};
window.addEventListener("resize", reachEquations);
window.addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  reachEquations();
});
