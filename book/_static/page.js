document.addEventListener("DOMContentLoaded", () => {
  // The search button shows "Search Ctrl+K" but calls itself "Search"; a folded cell shows "Show code
  // cell source" but calls itself "Toggle hidden content". Who speaks to the page names what they
  // see. Without the label both are called by their text.
  const mislabelled = ".search-button__button[aria-label], details.hide > summary[aria-label]";
  for (const button of document.querySelectorAll(mislabelled)) {
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
